"""What Debian itself fixes: releases with their numbers, architectures with their ELF machines."""

from dataclasses import dataclass
from typing import Final

from hakim_actions.errors import ConfigurationError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Release:
    """A Debian release: *codename* as in the archive, *number* as in VERSION_ID of os-release."""

    codename: str
    number: str
    #: When it came out, in seconds since 1970. No file in an image is younger: times that a build
    #: leaves depend on when it ran, and Debian's own files are told apart by their versions.
    released: int
    #: Proxmox's unmanaged mode injects no credentials, so these images bring root's first password.
    bootstrap_password: bool


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture by Debian's *name*, with e_machine of its ELF files and the kernel's name."""

    name: str
    elf_machine: int
    kernel_name: str


RELEASES: Final = {
    release.codename: release
    for release in (
        Release(
            codename="trixie",
            number="13",
            released=1_754_697_600,  # 2025-08-09, https://www.debian.org/News/2025/20250809
            bootstrap_password=True,
        ),
        Release(
            codename="bookworm",
            number="12",
            released=1_686_355_200,  # 2023-06-10, https://www.debian.org/News/2023/20230610
            bootstrap_password=False,
        ),
    )
}
ARCHITECTURES: Final = {
    architecture.name: architecture
    for architecture in (
        Architecture(name="amd64", elf_machine=62, kernel_name="x86_64"),
        Architecture(name="arm64", elf_machine=183, kernel_name="aarch64"),
    )
}
DEFAULT_RELEASE: Final = "trixie"
DEFAULT_ARCH: Final = "amd64"


def release_named(name: str) -> Release:
    """Return the release called *name*, or raise ConfigurationError with the nearest known one."""
    try:
        return RELEASES[name]
    except KeyError:
        msg = f"Unknown release '{name}'."
        raise ConfigurationError(msg, hint=did_you_mean(name, RELEASES)) from None


def architecture_named(name: str) -> Architecture:
    """Return the architecture called *name*, or raise ConfigurationError with the nearest one."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        msg = f"Unknown architecture '{name}'."
        raise ConfigurationError(msg, hint=did_you_mean(name, ARCHITECTURES)) from None
