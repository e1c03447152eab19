"""Asks the Debian mirror what it has, before a build spends minutes to find out that it is dead."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from hakim_actions.artifact import Archive
from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.system.http import Http, HttpError

#: debootstrap itself says what its default mirror is.
_DEBOOTSTRAP: Final = Path("/usr/sbin/debootstrap")
_ATTEMPTS: Final = 3
#: Names the mirror of the security archive where it does not stand beside the main one.
SECURITY_MIRROR: Final = "HAKIM_SECURITY_MIRROR"
#: The mirrors that the image names, when it is built from a snapshot instead of from them.
NAMED_MIRROR: Final = "HAKIM_NAMED_MIRROR"
NAMED_SECURITY_MIRROR: Final = "HAKIM_NAMED_SECURITY_MIRROR"
#: Snapshots are taken some times a day; this looks through a day and a half.
_HOURS_UNTIL_KEPT: Final = range(0, 37, 3)


def default_mirror(debootstrap: Path = _DEBOOTSTRAP) -> str:
    """Return the mirror that *debootstrap* takes when it is given none."""
    match = re.search(r'^DEF_MIRROR="(http[^"]+)"', debootstrap.read_text("utf-8"), re.MULTILINE)
    if match is None:
        msg = f"{debootstrap} does not say what its default mirror is."
        raise ConfigurationError(msg, hint="Name a mirror with --mirror.")
    return match[1]


def read_archive(
    mirror: str, release: str, *, proxy: str, env: Mapping[str, str], http: Http | None = None
) -> Archive:
    """Read the InRelease files of *release*, its updates and its security archive.

    An empty *mirror* is debootstrap's default. Raises BuildError with the URL and the reason when
    the mirror does not answer after a few attempts.
    """
    base = (mirror or default_mirror()).rstrip("/")
    security = env.get(SECURITY_MIRROR, f"{base}-security").rstrip("/")
    with http or _http(proxy) as client:
        return _read(client, base, security, release)


def snapshot_of(archive: Archive, url: str, release: str, *, http: Http | None = None) -> Archive:
    """Return where *url*, laid out like https://snapshot.debian.org, keeps *archive* as it was.

    It answers any time with the last state before it, and a state is kept some hours after it was
    signed. Raises BuildError when *url* does not answer, or has no state with the same digests.
    """
    base, failure = f"{url.rstrip('/')}/archive", ""
    with http or _http("") as client:
        for hours in _HOURS_UNTIL_KEPT:
            moment = datetime.fromtimestamp(archive.date + hours * 3600, UTC)
            stamp = moment.strftime("%Y%m%dT%H%M%SZ")
            mirror, security = f"{base}/debian/{stamp}", f"{base}/debian-security/{stamp}"
            try:
                found = _read(client, mirror, security, release)
            except BuildError as error:
                failure = failure or error.message
                continue
            if found.digests == archive.digests:
                return found
    day = datetime.fromtimestamp(archive.date, UTC).strftime("%Y-%m-%d %H:%M")
    msg = f"{url} does not have the archive as it was on {day} UTC. {failure}".rstrip()
    raise BuildError(msg, hint="Expected an archive of snapshots like https://snapshot.debian.org")


def _http(proxy: str) -> Http:
    return Http(attempts=_ATTEMPTS, timeout=15, proxy=proxy)


def _read(client: Http, mirror: str, security: str, release: str) -> Archive:
    urls = {
        release: f"{mirror}/dists/{release}/InRelease",
        f"{release}-updates": f"{mirror}/dists/{release}-updates/InRelease",
        f"{release}-security": f"{security}/dists/{release}-security/InRelease",
    }
    found = {suite: _in_release(client, url) for suite, url in urls.items()}
    return Archive(
        mirror=mirror,
        security=security,
        date=max(_date(body) for body in found.values()),
        digests={suite: hashlib.sha256(body).hexdigest() for suite, body in found.items()},
    )


def _in_release(client: Http, url: str) -> bytes:
    try:
        return client.get(url).body
    except HttpError as error:
        msg = f"The Debian mirror cannot be used: {error.message}"
        raise BuildError(
            msg, hint="Check the network, or name another mirror with --mirror."
        ) from None


def _date(in_release: bytes) -> int:
    """Return the Date field (https://wiki.debian.org/DebianRepository/Format), 0 without one."""
    match = re.search(rb"^Date: (.+)$", in_release, re.MULTILINE)
    try:
        return int(parsedate_to_datetime(match[1].decode()).timestamp()) if match else 0
    except (ValueError, OverflowError):
        return 0
