"""Looks for everything that a build needs before anything is touched, and names all that is not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hakim_actions.debian import RELEASES
from hakim_actions.errors import ConfigurationError
from hakim_actions.image import distrobuilder
from hakim_actions.system import files, process

#: Programs of a build, and the Debian package of each.
BUILD_PROGRAMS: Final = {
    "debootstrap": "debootstrap",
    "rsync": "rsync",
    "gpg": "gpg",
    "tar": "tar",
    "xz": "xz-utils",
}
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
INSTALL_DISTROBUILDER: Final = "scripts/install-distrobuilder.sh"
_GB: Final = 10**9
#: Free disk a build needs, in bytes: root file system, its tar and the packed pieces together.
DISK_NEEDED: Final = {"base": 5 * _GB}
DISK_NEEDED_ELSE: Final = 8 * _GB


def check_build(
    *, variants: Sequence[str], release: str, work_dir: Path, env: Mapping[str, str]
) -> None:
    """Raise ConfigurationError that lists everything a build of *variants* would miss.

    *work_dir* is where root file systems will be made; its disk is the one that must have room.
    """
    problems = [
        *missing_programs(BUILD_PROGRAMS, env=env),
        *_distrobuilder_problems(env),
        *_keyring_problems(release, env),
        *_disk_problems(variants, work_dir),
    ]
    if problems:
        msg = "This machine is not ready to build images."
        raise ConfigurationError(
            msg, hint="'make build' installs what it needs.", problems=problems
        )


def missing_programs(programs: Mapping[str, str], *, env: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each of *programs* (name to Debian package) that is not there."""
    for program, package in programs.items():
        try:
            process.find(program, env=env)
        except process.ProcessError:
            yield f"{program} is missing: apt-get install {package}"


def _distrobuilder_problems(env: Mapping[str, str]) -> Iterator[str]:
    found = distrobuilder.version(env=env)
    if found is None:
        yield f"distrobuilder is missing: {INSTALL_DISTROBUILDER}"
    elif _numbers(found) < _numbers(distrobuilder.OLDEST):
        yield (
            f"distrobuilder {found} is too old, {distrobuilder.OLDEST} or newer is needed: "
            f"{INSTALL_DISTROBUILDER} --force"
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _keyring_problems(release: str, env: Mapping[str, str]) -> Iterator[str]:
    """Debian signs a release with its own key and that of the one before; either will do."""
    package = "apt-get install --only-upgrade debian-archive-keyring"
    if not KEYRING.is_file():
        yield f"{KEYRING} is missing: apt-get install debian-archive-keyring"
        return
    argv = ("gpg", "--no-default-keyring", "--keyring", KEYRING, "--with-colons", "--list-keys")
    try:
        listing = process.run(argv, env=process.child_environment(env)).stdout
    except process.ProcessError:
        return  # a missing gpg is named among the programs
    number = int(RELEASES[release].number)
    if not any(f"({n}/" in listing for n in (number, number - 1)):
        yield f"{KEYRING} knows no key of {release}: {package}"


def _disk_problems(variants: Sequence[str], work_dir: Path) -> Iterator[str]:
    needed = max(DISK_NEEDED.get(variant, DISK_NEEDED_ELSE) for variant in variants)
    free = files.free_bytes(work_dir)
    if free < needed:
        yield (
            f"{work_dir} has {free / _GB:.1f} GB free, {needed / _GB:.0f} GB are needed: "
            "free some, or name another folder with --work-dir"
        )
