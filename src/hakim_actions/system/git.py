"""Which commit the project is at: the name and the time that go into an image."""

import re
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import ConfigurationError
from hakim_actions.system import process

UNKNOWN_COMMIT: Final = "unknown"
#: What may stand in a file name, in /etc/hakim-release and in a Proxmox volume id.
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Revision:
    """A state of the project: its *commit*, a *version* for people, and *epoch* in seconds."""

    commit: str
    version: str
    epoch: int


def revision(root: Path, *, env: Mapping[str, str], version: str = "") -> Revision:
    """Return the revision of the work tree at *root*.

    *version* is what the user asked for; without it, the tag that a workflow runs for, or
    ``git describe``. SOURCE_DATE_EPOCH wins over the time of the commit
    (https://reproducible-builds.org/docs/source-date-epoch/). A tree without git is
    "unknown", with the time of its definition.
    """
    commit = _git(root, env, "rev-parse", "HEAD") or UNKNOWN_COMMIT
    if commit != UNKNOWN_COMMIT and _git(root, env, "status", "--porcelain", "distrobuilder"):
        commit += "-dirty"
    return Revision(
        commit=commit,
        version=_version(root, env, version),
        epoch=_epoch(root, env),
    )


def _version(root: Path, env: Mapping[str, str], wanted: str) -> str:
    tag = env.get("GITHUB_REF_NAME", "") if env.get("GITHUB_REF_TYPE") == "tag" else ""
    found = wanted or tag or _git(root, env, "describe", "--tags", "--always", "--dirty")
    found = found or "development"
    if not _VERSION.fullmatch(found):
        msg = f"Version '{found}' cannot be used."
        raise ConfigurationError(msg, hint="Up to 64 letters, digits, '.' and '-', e.g. v1.2.0.")
    return found


def _epoch(root: Path, env: Mapping[str, str]) -> int:
    given = env.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        msg = f"SOURCE_DATE_EPOCH is '{given}'."
        raise ConfigurationError(msg, hint="Expected seconds since 1970, as 'date +%s' prints.")
    committed = given or _git(root, env, "log", "-1", "--format=%ct")
    return int(committed) if committed else int(root.stat().st_mtime)


def _git(root: Path, env: Mapping[str, str], *arguments: str) -> str:
    """Return what git prints, or nothing where there is no git or no work tree.

    Builds run as root in a folder of the user's, which git refuses unless told that it is safe.
    """
    try:
        done = process.run(_command(root, *arguments), env=process.child_environment(env))
        return done.stdout.strip()
    except process.ProcessError:
        return ""


def folder_at(root: Path, ref: str, folder: str, *, env: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files below *folder* (with a final slash) in commit *ref*, by path in it."""
    ref = _resolved(root, ref, env)
    if not _git(root, env, "ls-tree", ref, "--", folder):
        return {}
    with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
        _needed(root, env, "archive", f"--output={archive.name}", ref, "--", folder)
        with tarfile.open(archive.name) as tar:
            members = [(member, tar.extractfile(member)) for member in tar if member.isreg()]
            return {member.name.removeprefix(folder): f.read() for member, f in members if f}


def changed_paths(root: Path, ref: str, *, env: Mapping[str, str]) -> list[str]:
    """Return every path that differs between *ref* and the work tree, new files included."""
    ref = _resolved(root, ref, env)
    tracked = _needed(root, env, "diff", "--name-only", "--no-renames", "-z", ref, "--")
    new = _needed(root, env, "ls-files", "--others", "--exclude-standard", "-z")
    return [path for path in (*tracked.split("\0"), *new.split("\0")) if path]


def _command(root: Path, *arguments: str) -> list[process.StrPath]:
    return ["git", "-c", f"safe.directory={root}", "-C", root, *arguments]


def _resolved(root: Path, ref: str, env: Mapping[str, str]) -> str:
    """Return the commit that *ref* names; a ref that looks like an option names none."""
    found = _git(
        root, env, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
    )
    if found:
        return found
    if _git(root, env, "rev-parse", "--is-shallow-repository") == "true":
        hint = "The clone is shallow: fetch the history (actions/checkout: fetch-depth: 0)."
    else:
        hint = "Name a commit, branch or tag that this clone has, for example origin/main."
    msg = f"'{ref}' is not a commit of this clone."
    raise ConfigurationError(msg, hint=hint)


def _needed(root: Path, env: Mapping[str, str], *arguments: str) -> str:
    return process.run(_command(root, *arguments), env=process.child_environment(env)).stdout
