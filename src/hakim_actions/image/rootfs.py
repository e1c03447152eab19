"""What an archive of a root file system holds, taken down in one pass without unpacking it."""

import posixpath
from dataclasses import dataclass, field
from typing import Final

from hakim_actions.image.tarreader import Header, Kind, Stream, TarReader
from hakim_actions.image.xzreader import ArchiveError

#: No image comes near; it keeps a hostile archive of empty members from filling the memory.
MAX_MEMBERS: Final = 2_000_000

#: The longest text that is read whole. dpkg's status file of a large image has some 5 MB.
MAX_TEXT: Final = 32 << 20

#: The most that names, link targets and texts may have together (bytes); real ones have some 10 MB.
MAX_KEPT: Final = 256 << 20

#: Enough of a program for the header that says what machine it is for.
_HEAD: Final = 512

#: Files that the rules read, and folders whose files they read.
_TEXTS: Final = frozenset(
    {
        "etc/apt/apt.conf",
        "etc/default/locale",
        "etc/environment",
        "etc/group",
        "etc/hakim-release",
        "etc/locale.conf",
        "etc/machine-id",
        "etc/network/interfaces",
        "etc/os-release",
        "etc/passwd",
        "etc/profile",
        "etc/resolv.conf",
        "etc/shadow",
        "etc/sudoers",
        "usr/lib/locale/locale-archive",
        "usr/lib/os-release",
        "var/lib/dpkg/status",
    }
)
_TEXT_FOLDERS: Final = (
    "etc/apt/apt.conf.d/",
    "etc/network/interfaces.d/",
    "etc/profile.d/",
    "etc/sudoers.d/",
)

#: How many symbolic links the kernel follows before it gives up with ELOOP.
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Member:
    """What the rules need to know of a member; equal ones share one object."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    empty: bool
    target: str


@dataclass
class Rootfs:
    """The members of an archive by path: ``etc/passwd``, and ``""`` for the root itself."""

    members: dict[str, Member] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    #: Names as written in the archive that do not start with ``./``.
    without_prefix: list[str] = field(default_factory=list)
    #: Names that are absolute or have a ``..`` in them.
    leaving: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    #: Hard links whose target does not stand before them.
    broken_links: list[str] = field(default_factory=list)
    #: Bytes of the tar.
    raw_size: int = 0

    def resolve(self, path: str) -> str | None:
        """Return where *path* leads, following links inside the archive; None for nowhere."""
        done: list[str] = []
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done[:-1]
            elif part not in {"", "."}:
                done.append(part)
                member = self.members.get("/".join(done))
                if member is not None and member.kind is Kind.SYMLINK:
                    links += 1
                    if links > _MAX_LINKS:
                        return None
                    done = [] if member.target.startswith("/") else done[:-1]
                    todo.extend(member.target.split("/")[::-1])
        found = "/".join(done)
        member = self.members.get(found)
        if member is not None and member.kind is Kind.HARD_LINK:
            found = _normal(member.target)
        return found if found in self.members else None

    def find(self, path: str) -> Member | None:
        """Return the member that *path* leads to."""
        found = self.resolve(path)
        return None if found is None else self.members[found]

    def content(self, path: str) -> bytes | None:
        """Return what was kept of the file that *path* leads to; None if there is no such file."""
        found = self.resolve(path)
        return None if found is None else self.contents.get(found)

    def text(self, path: str) -> str | None:
        """Return the text of the file that *path* leads to, or None."""
        data = self.content(path)
        return None if data is None else data.decode("utf-8", "replace")

    def below(self, folder: str) -> list[str]:
        """Return the paths of all members below *folder*, sorted."""
        return sorted(path for path in self.members if path.startswith(f"{folder}/"))


def read_rootfs(stream: Stream) -> Rootfs:
    """Read the tar in *stream* to its very end; raise ArchiveError when it is not sound."""
    rootfs = Rootfs()
    shared: dict[Member, Member] = {}
    kept = 0
    reader = TarReader(stream)
    for header in reader:
        _note_name(rootfs, header)
        path = _normal(header.name)
        member = _member(header)
        if path in rootfs.members:
            rootfs.duplicates.append(header.name)
        elif header.kind is Kind.HARD_LINK and _normal(header.target) not in rootfs.members:
            rootfs.broken_links.append(header.name)
        rootfs.members[path] = shared.setdefault(member, member)
        if header.kind is Kind.FILE and (limit := _wanted(path)):
            rootfs.contents[path] = reader.content(limit)
            kept += len(rootfs.contents[path])
        kept += len(header.name) + len(header.target)
        if len(rootfs.members) > MAX_MEMBERS or kept > MAX_KEPT:
            msg = f"it has more than {MAX_MEMBERS} members, or too much in names and settings"
            raise ArchiveError(msg)
    return rootfs


def _note_name(rootfs: Rootfs, header: Header) -> None:
    name = header.name
    if not name.startswith("./") and name != ".":
        rootfs.without_prefix.append(name)
    if name.startswith("/") or (".." in name and ".." in name.split("/")):
        rootfs.leaving.append(name)


def _member(header: Header) -> Member:
    return Member(
        kind=header.kind,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        empty=header.size == 0,
        target=header.target,
    )


def _normal(name: str) -> str:
    """Return *name* without ``./`` in front and ``/`` behind."""
    if name.startswith("./") and "//" not in name and "/." not in name:
        return name[2:].rstrip("/")
    return posixpath.normpath("/" + name).lstrip("/")


def _wanted(path: str) -> int:
    """Return how many bytes of the file *path* the rules want to see."""
    if path in _TEXTS or path.startswith(_TEXT_FOLDERS):
        return MAX_TEXT
    if "/" not in path or path.endswith(("/systemd", "/init")):
        return _HEAD
    return 0
