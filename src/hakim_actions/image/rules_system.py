"""Rules about the system in the image: that it boots, and that it is what its name says."""

import shlex
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from hakim_actions.debian import ARCHITECTURES
from hakim_actions.image.rootfs import Rootfs
from hakim_actions.image.rules import Finding, Image, rule, some
from hakim_actions.image.tarreader import Kind

#: Where Debian's systemd is, with and without a merged /usr.
_SYSTEMD: Final = ("usr/lib/systemd/systemd", "lib/systemd/systemd")

#: The start of a 64-bit little-endian ELF file, and where e_machine stands in it.
_ELF: Final = b"\x7fELF\x02\x01"
_E_MACHINE: Final = slice(18, 20)

_GENERATOR: Final = "etc/systemd/system-generators/lxc"


@rule(
    "init-is-systemd",
    "/sbin/init leads to systemd inside the archive",
    why="The container is started by running /sbin/init; without it there is no boot.",
)
def _init(image: Image) -> Iterator[Finding]:
    found = image.rootfs.resolve("sbin/init")
    if found is None:
        yield Finding("/sbin/init is missing or a dead link", f"a link to /{_SYSTEMD[0]}")
        return
    member = image.rootfs.members[found]
    if found not in _SYSTEMD:
        yield Finding(f"/sbin/init leads to /{found}", f"/{_SYSTEMD[0]}")
    elif member.kind is not Kind.FILE or not member.mode & 0o111 or member.empty:
        yield Finding(f"/{found} is a {member.kind.value} with mode {member.mode:04o}", "a program")


@rule(
    "init-is-for-the-architecture",
    "init is a program for the architecture in the name",
    why="A container of another architecture dies with 'exec format error'.",
)
def _machine(image: Image) -> Iterator[Finding]:
    head = image.rootfs.content("sbin/init")
    if head is None:
        return  # told by init-is-systemd
    if not head.startswith(_ELF) or len(head) < _E_MACHINE.stop:
        yield Finding("init is not a 64-bit ELF program", f"one for {image.arch.name}")
        return
    (machine,) = struct.unpack("<H", head[_E_MACHINE])
    if machine != image.arch.elf_machine:
        names = {arch.elf_machine: arch.name for arch in ARCHITECTURES.values()}
        yield Finding(
            f"init is for {names.get(machine, f'ELF machine {machine}')}", image.arch.name
        )


@rule(
    "os-release-matches",
    "os-release names Debian and the release in the name",
    why="Proxmox chooses by it how to set up the container, and Coder's users by the name.",
)
def _os_release(image: Image) -> Iterator[Finding]:
    wanted = {
        "ID": "debian",
        "VERSION_ID": image.release.number,
        "VERSION_CODENAME": image.release.codename,
    }
    yield from _settings(image.rootfs, "etc/os-release", wanted)


@rule(
    "hakim-release-matches",
    "/etc/hakim-release names the variant and release in the name",
    why="An image under the name of another one gives people tools they did not choose.",
)
def _hakim_release(image: Image) -> Iterator[Finding]:
    wanted = {"VARIANT": image.name.variant, "RELEASE": image.name.release}
    yield from _settings(image.rootfs, "etc/hakim-release", wanted)


def _settings(rootfs: Rootfs, path: str, wanted: Mapping[str, str]) -> Iterator[Finding]:
    text = rootfs.text(path)
    if text is None:
        yield Finding(f"/{path} is missing", "the file")
        return
    settings = assignments(text)
    for key, value in wanted.items():
        found = settings.get(key)
        if found != value:
            shown = f"{key}={found}" if found is not None else f"no {key}"
            yield Finding(f"{shown} in /{path}", f"{key}={value}")


def assignments(text: str) -> dict[str, str]:
    """Read ``KEY=value`` lines as a shell would, without expanding anything."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not key.startswith("#"):
            try:
                found[key] = "".join(shlex.split(value, comments=True))
            except ValueError:
                found[key] = value
    return found


@rule(
    "packages-match",
    "dpkg's database is of the release and architecture in the name",
    why="apt would mix packages of two releases or architectures at the first upgrade.",
)
def _packages(image: Image) -> Iterator[Finding]:
    for name in ("base-files", "dpkg"):
        known = [package for package in image.packages.values() if package.name == name]
        native = [package for package in known if package.arch == image.arch.name]
        if not native:
            shown = f"{name} for {known[0].arch}" if known else f"no package {name}"
            yield Finding(shown, f"{name} for {image.arch.name}")
        elif name == "base-files" and native[0].version.split(".")[0] != image.release.number:
            yield Finding(
                f"base-files {native[0].version}",
                f"{image.release.number}.… as in {image.release.codename}",
            )


@rule(
    "packages-configured",
    "Every package is installed and set up",
    why="apt refuses to install anything more until a half-installed package is mended.",
)
def _configured(image: Image) -> Iterator[Finding]:
    names = [
        f"{name} ({p.status})" for name, p in image.packages.items() if p.status != "installed"
    ]
    if names:
        yield Finding(some(names), "the status 'install ok installed'")


@rule(
    "ifupdown-installed",
    "ifupdown is installed",
    why="Proxmox writes /etc/network/interfaces; without ifupdown a container has no network.",
)
def _ifupdown(image: Image) -> Iterator[Finding]:
    if "ifupdown" not in image.packages:
        yield Finding("no package ifupdown", "ifupdown installed")
    elif image.rootfs.find("sbin/ifup") is None:
        yield Finding("no /sbin/ifup", "the program of ifupdown")


@rule(
    "ssh-server-installed",
    "openssh-server is installed",
    why="Terraform reaches a new workspace over SSH and by no other way.",
)
def _ssh_server(image: Image) -> Iterator[Finding]:
    if "openssh-server" not in image.packages:
        yield Finding("no package openssh-server", "openssh-server installed")


@rule(
    "eth0-by-dhcp",
    "/etc/network/interfaces brings eth0 up by DHCP",
    why="With ostype 'unmanaged' Proxmox writes no network settings; the image must bring them.",
)
def _eth0(image: Image) -> Iterator[Finding]:
    text = image.rootfs.text("etc/network/interfaces")
    if text is None:
        yield Finding("/etc/network/interfaces is missing", "the file")
        return
    if "/etc/network/interfaces.d" in text:
        parts = image.rootfs.below("etc/network/interfaces.d")
        text = "\n".join([text, *(image.rootfs.text(part) or "" for part in parts)])
    lines = [line.split() for line in text.splitlines()]
    if ["iface", "eth0", "inet", "dhcp"] not in [words[:4] for words in lines]:
        yield Finding("no line 'iface eth0 inet dhcp'", "that line")
    starts = {"auto", "allow-auto", "allow-hotplug"}
    if not any(words[0] in starts and "eth0" in words[1:] for words in lines if words):
        yield Finding("nothing that starts eth0", "a line 'auto eth0'")


@rule(
    "lxc-generator",
    "The systemd generator for LXC is there and can be run",
    why="Without it systemd's services fail in an unprivileged container with nesting off.",
)
def _generator(image: Image) -> Iterator[Finding]:
    member = image.rootfs.find(_GENERATOR)
    if member is None:
        yield Finding(f"/{_GENERATOR} is missing", "distrobuilder's generator")
    elif member.kind is not Kind.FILE or member.empty or not member.mode & 0o111:
        shown = f"a {member.kind.value} with mode {member.mode:04o}"
        yield Finding(f"/{_GENERATOR} is {shown}", "a program")


@rule(
    "locale-en-us",
    "The language is en_US.UTF-8, and it is installed",
    why="Without it programs warn about the locale and break on everything but ASCII.",
)
def _locale(image: Image) -> Iterator[Finding]:
    lang = assignments(image.rootfs.text("etc/default/locale") or "").get("LANG")
    if lang != "en_US.UTF-8":
        shown = "no LANG" if lang is None else f"LANG={lang}"
        yield Finding(f"{shown} in /etc/default/locale", "LANG=en_US.UTF-8")
    archive = image.rootfs.content("usr/lib/locale/locale-archive") or b""
    if b"en_US.utf8" not in archive and image.rootfs.find("usr/lib/locale/en_US.utf8") is None:
        yield Finding("no en_US.utf8 in /usr/lib/locale", "the locale, made by locale-gen")
