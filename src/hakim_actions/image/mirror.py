"""Asks the Debian mirror what it has, before a build spends minutes to find out that it is dead."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.system.http import Http, HttpError

#: debootstrap itself says what its default mirror is.
_DEBOOTSTRAP: Final = Path("/usr/sbin/debootstrap")
_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A mirror at a moment: the sha256 of each suite's signed InRelease file.

    As long as the digests stay, every package of the archive is the same.
    """

    mirror: str
    digests: Mapping[str, str]


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
    security = env.get("HAKIM_SECURITY_MIRROR", f"{base}-security").rstrip("/")
    urls = {
        release: f"{base}/dists/{release}/InRelease",
        f"{release}-updates": f"{base}/dists/{release}-updates/InRelease",
        f"{release}-security": f"{security}/dists/{release}-security/InRelease",
    }
    with http or Http(attempts=_ATTEMPTS, timeout=15, proxy=proxy) as client:
        digests = {suite: _digest(client, url) for suite, url in urls.items()}
    return Archive(mirror=base, digests=digests)


def _digest(client: Http, url: str) -> str:
    try:
        return hashlib.sha256(client.get(url).body).hexdigest()
    except HttpError as error:
        msg = f"The Debian mirror cannot be used: {error.message}"
        raise BuildError(
            msg, hint="Check the network, or name another mirror with --mirror."
        ) from None
