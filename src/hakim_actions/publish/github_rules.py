"""What GitHub allows in a release, and how a draft is known as ours."""

import re
from collections.abc import Sequence
from typing import Final, NoReturn

from hakim_actions.errors import ConfigurationError, PublishError
from hakim_actions.publish import versions
from hakim_actions.publish.base import Publication
from hakim_actions.publish.github_api import RemoteRelease
from hakim_actions.publish.github_errors import RefusedError

#: https://docs.github.com/repositories/releasing-projects-on-github/about-releases#storage-and-bandwidth-quotas
MAX_ASSET: Final = (2 << 30) - 1
MAX_ASSETS: Final = 1000
#: Characters that GitHub keeps in the name of an asset; it renames all others.
_KEPT_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
#: Invisible on the page; says that a draft is ours, and for which files it was made.
_MARKER: Final = re.compile(r"<!-- hakim-actions: sha256sums\.txt ([0-9a-f]{64}) -->")


def check_limits(publication: Publication) -> None:
    """Refuse, before anything is sent, what GitHub would not take: names, sizes, count."""
    versions.release_tag(publication.version)
    problems = [
        f"{asset.name} has {asset.size} bytes, a file may have at most {MAX_ASSET}"
        for asset in publication.assets
        if asset.size > MAX_ASSET
    ]
    problems += [f"{asset.name} is empty" for asset in publication.assets if not asset.size]
    problems += [
        f"{asset.name!r} would be renamed by GitHub"
        for asset in publication.assets
        if _KEPT_NAME.fullmatch(asset.name) is None
    ]
    if len(publication.assets) > MAX_ASSETS:
        problems.append(f"{len(publication.assets)} files, a release may have {MAX_ASSETS}")
    if problems:
        msg = f"GitHub cannot take {publication.version}. Nothing was sent."
        raise ConfigurationError(
            msg, problems=problems, hint="Publish fewer variants, or use --target directory."
        )


def is_latest(tag: str, releases: Sequence[RemoteRelease]) -> bool:
    """Tell whether *tag* is the newest full release, so that a fix of an old line is not."""
    if versions.is_prerelease(tag):
        return False
    mine = versions.sort_key(tag)
    full = [it.tag for it in releases if not it.draft and not it.prerelease]
    keys = [key for name in full if (key := versions.sort_key(name)) is not None]
    return mine is not None and all(key <= mine for key in keys)


def marker(publication: Publication) -> str:
    """Return what the body of a draft carries to be recognised by the next run."""
    return f"<!-- hakim-actions: sha256sums.txt {publication.digest} -->"


def marked_digest(body: str) -> str:
    """Return the sha256 of the checksum file that a draft was made for; empty: it is not ours."""
    match = _MARKER.search(body)
    return match[1] if match else ""


def explain_refusal(error: RefusedError, tag: str, *, left: str) -> NoReturn:
    """Say what GitHub's refusal of a tag means."""
    if "immutable" in error.message:
        hint = f"The tag {tag} was used by an immutable release and is burned: use a new version."
    elif "rule" in error.message.lower() or "restricted" in error.message.lower():
        hint = f"A rule of the repository protects the tag {tag}: let this token create it."
    else:
        hint = "Change what GitHub names, and run the same command again."
    msg = f"{error.message} {left}"
    raise PublishError(msg, hint=hint) from None
