"""The names of releases: which are allowed, which come after which, which are not final."""

import re
from typing import Final

from hakim_actions.errors import ConfigurationError

# Semantic Versioning 2.0.0 behind a 'v', without build metadata: '+' does not survive in the names
# of files and OCI tags. https://semver.org/#backusnaur-form-grammar-for-valid-semver-versions
_NUMBER: Final = r"0|[1-9][0-9]*"
_PART: Final = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_TAG: Final = re.compile(
    rf"v(?P<core>(?:{_NUMBER})\.(?:{_NUMBER})\.(?:{_NUMBER}))(?:-(?P<pre>{_PART}(?:\.{_PART})*))?"
)
_LOOSE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")

Key = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def release_tag(tag: str) -> str:
    """Return *tag* when it can name a release for others: ``v1.2.3`` or ``v1.2.3-rc.1``."""
    if _TAG.fullmatch(tag) is None:
        msg = f"'{tag}' cannot be the tag of a release."
        raise ConfigurationError(
            msg, hint="Use v<major>.<minor>.<patch>, such as v1.2.0 or v1.2.0-rc.1 (--tag)."
        )
    return tag


def folder_name(version: str) -> str:
    """Return *version* when it is safe as a folder, a file name and an OCI tag."""
    if _LOOSE.fullmatch(version) is None or version == "latest":
        msg = f"'{version}' cannot name a release."
        raise ConfigurationError(
            msg, hint="Use letters, digits, '.' and '-', at most 64, such as v1.2.0 (--tag)."
        )
    return version


def is_prerelease(version: str) -> bool:
    """Tell whether *version* is not for everybody: ``-rc.1``, or no release tag at all."""
    match = _TAG.fullmatch(version)
    return match is None or match["pre"] is not None


def sort_key(tag: str) -> Key | None:
    """Return the precedence of *tag* by semantic versioning; None when it is no release tag."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    core = tuple(int(number) for number in match["core"].split("."))
    pre = tuple(_identifier(part) for part in (match["pre"] or "").split(".") if part)
    # A final release follows its candidates; numbers come before words, and count as numbers.
    return core, not pre, pre


def before(tag: str, tags: list[str]) -> str | None:
    """Return the newest of *tags* that precedes *tag*; candidates only before another candidate."""
    limit = sort_key(tag)
    if limit is None:
        return None
    known = [(key, name) for name in tags if (key := sort_key(name)) is not None and key < limit]
    if not is_prerelease(tag):
        known = [(key, name) for key, name in known if not is_prerelease(name)]
    return max(known)[1] if known else None


def _identifier(part: str) -> tuple[bool, int, str]:
    return (False, int(part), "") if part.isdigit() else (True, 0, part)
