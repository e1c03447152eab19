"""Rules about what must not be in an image: secrets, identities and traces of its builder."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hakim_actions.image.rules import Finding, Image, rule, some
from hakim_actions.image.tarreader import Kind

_HOST_KEY: Final = re.compile(r"etc/ssh/ssh_host_.*key.*")

#: A shell or PAM variable such as https_proxy, and apt's Acquire::http::Proxy.
_PROXY_VARIABLE: Final = re.compile(
    r"^[^#\n]*\b(?:https?|ftp|all)_proxy\s*=", re.IGNORECASE | re.MULTILINE
)
_APT_PROXY: Final = re.compile(
    r"^(?![ \t]*(?:#|//)).*\bproxy(?:-auto-detect)?\b", re.IGNORECASE | re.MULTILINE
)

_AUTHORIZED_KEYS: Final = re.compile(r"(?:root|home/[^/]+)/\.ssh/authorized_keys2?")


@rule(
    "no-ssh-host-keys",
    "No SSH host keys",
    why="Every container would have the same keys, and everybody who has the image has them.",
)
def _host_keys(image: Image) -> Iterator[Finding]:
    if names := [path for path in image.rootfs.below("etc/ssh") if _HOST_KEY.fullmatch(path)]:
        yield Finding(some(names), "none; they are made at the first boot")


@rule(
    "no-authorized-keys",
    "No authorized SSH keys",
    why="Whoever holds the other half could enter every container made from the image.",
)
def _authorized_keys(image: Image) -> Iterator[Finding]:
    names = [path for path in image.rootfs.members if _AUTHORIZED_KEYS.fullmatch(path)]
    if names := _with_content(image, names):
        yield Finding(some(names), "none; Proxmox or Coder bring them")


@rule(
    "machine-id-empty",
    "/etc/machine-id is an empty file",
    why="Containers with one id get one DHCP address. Missing or 'uninitialized' means first boot "
    "to systemd, which then turns services on and off by preset (man machine-id).",
)
def _machine_id(image: Image) -> Iterator[Finding]:
    member = image.rootfs.members.get("etc/machine-id")
    if member is None:
        yield Finding("/etc/machine-id is missing", "an empty file")
    elif member.kind is not Kind.FILE:
        yield Finding(f"/etc/machine-id is a {member.kind.value}", "an empty file")
    elif not member.empty:
        text = image.rootfs.text("etc/machine-id") or ""
        yield Finding(f"'{text.strip()[:40]}' in /etc/machine-id", "an empty file")


@rule(
    "no-dbus-machine-id",
    "/var/lib/dbus/machine-id has no id of its own",
    why="D-Bus would give every container the same id, whatever /etc/machine-id says.",
)
def _dbus_machine_id(image: Image) -> Iterator[Finding]:
    path = "var/lib/dbus/machine-id"
    member = image.rootfs.members.get(path)
    if member is not None and member.kind is not Kind.SYMLINK:
        yield Finding(f"/{path} is a {member.kind.value}", "no file, or a link to /etc/machine-id")


@rule(
    "no-name-servers",
    "/etc/resolv.conf says nothing",
    why="The builder's name servers are not reachable where the container runs.",
)
def _resolv_conf(image: Image) -> Iterator[Finding]:
    text = image.rootfs.text("etc/resolv.conf") or ""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] not in "#;"]
    if lines:
        yield Finding(f"'{lines[0][:80]}' in /etc/resolv.conf", "no file, or an empty one")


@rule(
    "no-proxy",
    "No proxy settings",
    why="The builder's proxy is not reachable where the container runs, and may show its password.",
)
def _proxy(image: Image) -> Iterator[Finding]:
    rootfs = image.rootfs
    shell = ["etc/environment", "etc/profile", *rootfs.below("etc/profile.d")]
    apt = ["etc/apt/apt.conf", *rootfs.below("etc/apt/apt.conf.d")]
    names = [path for path in shell if _PROXY_VARIABLE.search(rootfs.text(path) or "")]
    names += [path for path in apt if _APT_PROXY.search(rootfs.text(path) or "")]
    if names:
        # Not the setting itself: it can hold a password, and this line goes into logs.
        yield Finding(f"a proxy in {some(names)}", "none")


@rule(
    "no-apt-lists",
    "No package lists of apt",
    why="They are outdated on arrival and make up a good part of the download.",
)
def _apt_lists(image: Image) -> Iterator[Finding]:
    yield from _only_empty(image, "var/lib/apt/lists")


@rule(
    "no-apt-cache",
    "No packages or indexes in apt's cache",
    why="They double the size of what was installed from them.",
)
def _apt_cache(image: Image) -> Iterator[Finding]:
    yield from _only_empty(image, "var/cache/apt")


@rule(
    "no-logs",
    "No logs with content",
    why="They tell of the machine that built the image, and no two builds would be the same.",
)
def _logs(image: Image) -> Iterator[Finding]:
    yield from _only_empty(image, "var/log")


def _only_empty(image: Image, folder: str) -> Iterator[Finding]:
    if names := _with_content(image, image.rootfs.below(folder)):
        yield Finding(some(names), f"no files with content in /{folder}")


def _with_content(image: Image, paths: Iterable[str]) -> list[str]:
    members = image.rootfs.members
    kinds = {Kind.HARD_LINK, Kind.FILE}
    return [p for p in paths if members[p].kind in kinds and not _is_empty(image, p)]


def _is_empty(image: Image, path: str) -> bool:
    member = image.rootfs.find(path)
    return member is None or member.empty
