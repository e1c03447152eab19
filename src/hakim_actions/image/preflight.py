"""Looks for everything that a build needs before anything is touched, and names all that is not."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hakim_actions.debian import RELEASES, architecture_named
from hakim_actions.errors import ConfigurationError
from hakim_actions.image import distrobuilder
from hakim_actions.image.boot import BINFMT, boot_programs, refuse_foreign
from hakim_actions.system import files, process
from hakim_actions.system.finding import Finding

#: Programs of a build, and the Debian package of each.
BUILD_PROGRAMS: Final = {
    "debootstrap": "debootstrap",
    "rsync": "rsync",
    "gpg": "gpg",
    "tar": "tar",
    "xz": "xz-utils",
    "zstd": "zstd",
}
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
INSTALL_DISTROBUILDER: Final = "scripts/install-distrobuilder.sh"
_GB: Final = 10**9
#: Free disk a build needs, in bytes: root file system, its tar and the packed pieces together.
DISK_NEEDED: Final = {"base": 5 * _GB}
DISK_NEEDED_ELSE: Final = 8 * _GB


def check_build(
    *, variants: Sequence[str], release: str, arch: str, work_dir: Path, env: Mapping[str, str]
) -> None:
    """Raise ConfigurationError that lists everything a build of *variants* would miss.

    *work_dir* is where root file systems will be made; its disk is the one that must have room.
    """
    found = findings(variants=variants, release=release, arch=arch, work_dir=work_dir, env=env)
    problems = [f"{f.detail}: {' '.join(f.fix)}" for f in found if f.ok is False]
    if problems:
        msg = "This machine is not ready to build images."
        raise ConfigurationError(
            msg, hint="'make build' installs what it needs.", problems=problems
        )


def findings(
    *, variants: Sequence[str], release: str, arch: str, work_dir: Path, env: Mapping[str, str]
) -> Iterator[Finding]:
    """Look at everything that building and booting images of *variants* needs."""
    for program, package in {**BUILD_PROGRAMS, **boot_programs()}.items():
        found = process.is_installed(program, env=env)
        yield Finding(
            check=program,
            ok=found,
            detail=f"{program} is {'there' if found else 'missing'}",
            fix=() if found else (f"apt-get install {package}",),
        )
    yield _distrobuilder(env)
    yield from _keyring(release, env)
    yield _architecture(arch)
    yield _disk(variants, work_dir)


def _distrobuilder(env: Mapping[str, str]) -> Finding:
    found = distrobuilder.version(env=env)
    if found is None:
        detail, fix = "distrobuilder is missing", (INSTALL_DISTROBUILDER,)
    elif _numbers(found) < _numbers(distrobuilder.OLDEST):
        detail = f"distrobuilder {found} is too old, {distrobuilder.OLDEST} or newer is needed"
        fix = (f"{INSTALL_DISTROBUILDER} --force",)
    else:
        return Finding(check="distrobuilder", ok=True, detail=found)
    return Finding(check="distrobuilder", ok=False, detail=detail, fix=fix)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _keyring(release: str, env: Mapping[str, str]) -> Iterator[Finding]:
    """Debian signs a release with its own key and that of the one before; either will do."""
    package = "debian-archive-keyring"
    if not KEYRING.is_file():
        fix = (f"apt-get install {package}",)
        yield Finding(check="keyring", ok=False, detail=f"{KEYRING} is missing", fix=fix)
        return
    argv = ("gpg", "--no-default-keyring", "--keyring", KEYRING, "--with-colons", "--list-keys")
    try:
        listing = process.run(argv, env=process.child_environment(env)).stdout
    except process.ProcessError:
        return  # a missing gpg is named among the programs
    number = int(RELEASES[release].number)
    if any(f"({n}/" in listing for n in (number, number - 1)):
        yield Finding(check="keyring", ok=True, detail=f"knows {release}")
    else:
        detail = f"{KEYRING} knows no key of {release}"
        fix = (f"apt-get install --only-upgrade {package}",)
        yield Finding(check="keyring", ok=False, detail=detail, fix=fix)


def _architecture(arch: str) -> Finding:
    """Building runs the programs of the image as much as booting does."""
    try:
        refuse_foreign(architecture_named(arch), machine=os.uname().machine, binfmt=BINFMT)
    except ConfigurationError as error:
        detail, fix = error.message.rstrip("."), (error.hint,)
        return Finding(check="architecture", ok=False, detail=detail, fix=fix)
    return Finding(check="architecture", ok=True, detail=f"runs {arch}")


def _disk(variants: Sequence[str], work_dir: Path) -> Finding:
    needed = max(DISK_NEEDED.get(variant, DISK_NEEDED_ELSE) for variant in variants)
    free = files.free_bytes(work_dir)
    detail = f"{work_dir} has {free / _GB:.1f} GB free, {needed / _GB:.0f} GB are needed"
    fix = () if free >= needed else ("free some, or name another folder with --work-dir",)
    return Finding(check="disk", ok=free >= needed, detail=detail, fix=fix)
