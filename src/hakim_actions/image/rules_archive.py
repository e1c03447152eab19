"""Rules about the archive itself: what it is, its members' names, owners and modes, its size."""

from collections.abc import Iterator
from typing import Final

from hakim_actions.image.rootfs import Rootfs
from hakim_actions.image.rules import Finding, Image, define, rule, some
from hakim_actions.image.tarreader import BLOCK, Kind
from hakim_actions.image.xzstreams import MAGIC as XZ_MAGIC

#: Bytes of the .tar.xz. debootstrap's smallest system has more than the lower bound; a release of
#: GitHub takes files below 2 GiB
#: (https://docs.github.com/en/repositories/releasing-projects-on-github/about-releases).
MIN_COMPRESSED: Final = 20 << 20
MAX_COMPRESSED: Final = (2 << 30) - 1

#: Bytes of the tar. Proxmox gives a container a disk of 8 GiB unless told otherwise.
MIN_RAW: Final = 100 << 20
MAX_RAW: Final = 7 << 30

#: User and group ids an unprivileged container has: 0 to 65535, mapped to 100000 and up.
ID_LIMIT: Final = 65536

READABLE: Final = define(
    "archive-readable",
    "The file is one complete xz with one complete tar in it",
    why="A cut-off or damaged template fails in the middle of `pct create`, or worse, does not.",
)
METADATA: Final = define(
    "not-the-metadata",
    "It is not LXC's metadata archive (meta.tar.xz)",
    why="Published as the root file system its checksum is right and no container can be made.",
)
NESTED: Final = define(
    "not-nested",
    "It is the root file system itself, not a tar in a tar",
    why="Proxmox unpacks once; the container then fails with 'Failed to exec /sbin/init'.",
)

#: What distrobuilder puts in meta.tar.xz for LXC, and for Incus.
_METADATA: Final = frozenset({"create-message", "excludes-user", "metadata.yaml"})

#: Where a tar says that it is one.
_TAR_MAGIC: Final = slice(257, 262)


def what_else(rootfs: Rootfs) -> tuple[str, Finding] | None:
    """Return the rule and the finding when the archive is something else than a root file system.

    Then no other rule can say anything useful.
    """
    top = {path: rootfs.contents.get(path, b"") for path in rootfs.members if "/" not in path}
    if "etc" in top or "usr" in top:
        return None
    if metadata := sorted(_METADATA & top.keys()):
        return METADATA.id, Finding(f"members {some(metadata)}", "a root file system with ./usr")
    inner = sorted(path for path, head in top.items() if path and _is_archive(path, head))
    if inner:
        return NESTED.id, Finding(f"the archive {some(inner)} in it", "members such as ./usr/bin")
    names = sorted(top.keys() - {""})
    found = f"only {some(names)}" if names else "no members"
    return READABLE.id, Finding(found, "a root file system with ./etc and ./usr")


def _is_archive(path: str, head: bytes) -> bool:
    named = path.endswith((".tar", ".tar.xz", ".tar.gz", ".tar.zst", ".squashfs"))
    return (
        named or head.startswith(XZ_MAGIC) or (len(head) == BLOCK and head[_TAR_MAGIC] == b"ustar")
    )


@rule(
    "members-start-with-dot",
    "Every member starts with ./",
    why="Proxmox leaves out './dev/*' by that very pattern; device files under another name fail.",
)
def _prefix(image: Image) -> Iterator[Finding]:
    if names := image.rootfs.without_prefix:
        yield Finding(some(names), "names such as ./etc/passwd")


@rule(
    "members-stay-inside",
    "No member is absolute, contains .., or lies behind a symbolic link",
    why="Unpacking could write outside the container, into the file system of the host.",
)
def _inside(image: Image) -> Iterator[Finding]:
    if names := image.rootfs.leaving:
        yield Finding(some(names), "names below ./ without '..'")
    members = image.rootfs.members
    parents = {path.rpartition("/")[0] for path in members}
    links = {path for path in parents if path in members and members[path].kind is Kind.SYMLINK}
    behind = sorted(path for path in members if path.rpartition("/")[0] in links)
    if behind:
        yield Finding(f"{some(behind)} behind a symbolic link", "directories above every member")


@rule(
    "members-unique",
    "No member stands twice",
    why="Proxmox keeps the first (--skip-old-files), other tools the last: two different images.",
)
def _unique(image: Image) -> Iterator[Finding]:
    if names := image.rootfs.duplicates:
        yield Finding(f"{some(names)} more than once", "every name once")


@rule(
    "hard-links-after-targets",
    "A hard link comes after the file it links to",
    why="tar can only link to what it has unpacked already.",
)
def _hard_links(image: Image) -> Iterator[Finding]:
    if names := image.rootfs.broken_links:
        yield Finding(f"{some(names)} without its target before it", "the target first")


@rule(
    "no-device-nodes",
    "No device files",
    why="An unprivileged container may not create them; LXC provides those that are needed.",
)
def _devices(image: Image) -> Iterator[Finding]:
    kinds = {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}
    if names := [path for path, member in image.rootfs.members.items() if member.kind in kinds]:
        yield Finding(some(names), "none")


@rule(
    "ids-below-65536",
    "User and group ids below 65536",
    why="An unprivileged container maps only ids 0 to 65535; unpacking any other one fails.",
)
def _ids(image: Image) -> Iterator[Finding]:
    names = [
        f"{path} ({member.uid}:{member.gid})"
        for path, member in image.rootfs.members.items()
        if member.uid >= ID_LIMIT or member.gid >= ID_LIMIT
    ]
    if names:
        yield Finding(some(names), f"ids from 0 to {ID_LIMIT - 1}")


@rule(
    "not-world-writable",
    "Nothing is writable for everybody but directories with the sticky bit",
    why="Any process in the container could change what others, and root, run or read.",
)
def _world_writable(image: Image) -> Iterator[Finding]:
    names = [
        f"{path or '.'} ({member.mode:04o})"
        for path, member in image.rootfs.members.items()
        if member.mode & 0o002
        and member.kind in {Kind.FILE, Kind.DIRECTORY, Kind.FIFO}
        and not (member.kind is Kind.DIRECTORY and member.mode & 0o1000)
    ]
    if names:
        yield Finding(some(names), "modes without o+w, or 1777 for a shared directory")


@rule(
    "size-compressed",
    f"The archive has {MIN_COMPRESSED >> 20} MiB to 2 GiB",
    why="Less cannot hold Debian with systemd; more cannot be an asset of a GitHub release.",
)
def _compressed(image: Image) -> Iterator[Finding]:
    yield from _within(image.compressed, MIN_COMPRESSED, MAX_COMPRESSED)


@rule(
    "size-raw",
    f"Unpacked it has {MIN_RAW >> 20} MiB to {MAX_RAW >> 30} GiB",
    why="Less cannot hold Debian with systemd; more does not fit a default disk of 8 GiB.",
)
def _raw(image: Image) -> Iterator[Finding]:
    yield from _within(image.rootfs.raw_size, MIN_RAW, MAX_RAW)


def _within(size: int, least: int, most: int) -> Iterator[Finding]:
    if not least <= size <= most:
        yield Finding(f"{size} bytes", f"{least} to {most} bytes")


def unreadable(message: str) -> Finding:
    """Return the finding for an archive that could not be read to its end."""
    return Finding(message, "a complete .tar.xz as build writes it")
