"""The order of members in a packed tar, and where it is cut into pieces.

Both follow from a member's own path and its package, so that a package that comes, goes or changes
leaves the bytes of all other pieces as they were (docs/adr/0003-incremental-xz.md):

1. all directories, parents first;
2. each package of some megabytes, then the small ones in buckets by a hash of their name, those
   that all images have apart from those that a variant adds;
3. what no package brought, which differs in each image;
4. hard links, whose targets are all before them.
"""

import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hakim_actions.errors import BuildError
from hakim_actions.image import tar

#: Raw bytes of a piece at most; a longer file is cut at multiples of it.
PIECE_SIZE: Final = 24 << 20
#: A package with more raw bytes than this has pieces of its own.
OWN_PIECE: Final = 4 << 20
BUCKETS: Final = 8
#: Files that no package brought belong together by this many leading parts of their path.
_UNOWNED_DEPTH: Final = 5
#: What groups of such files start with; no package's name does.
_UNOWNED: Final = b"./"
_INFO: Final = b"var/lib/dpkg/info/"
_PYCACHE: Final = b"/__pycache__/"


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes *start* to *stop* of a member's data; the header goes before byte 0."""

    member: tar.Member
    start: int
    stop: int


Piece = list[Part]


def settle(members: Iterable[tar.Member]) -> list[tar.Member]:
    """Return *members* without devices, each file under the first of its names.

    Which of its names a tar gives to a file and which become hard links depends on the order it
    was written in; here the first by bytes is the file. A device cannot be made in an
    unprivileged container, and ``pct create`` leaves ``./dev`` out, so none is kept. Raises
    BuildError for a path that is there twice and for a hard link to nothing.
    """
    by_path: dict[bytes, tar.Member] = {}
    for member in members:
        if by_path.setdefault(member.path, member) is not member:
            msg = f"The path {_shown(member.path)} is in the tar twice."
            raise BuildError(msg, hint="Extraction would keep the first or the last; remove one.")
    names: dict[int, list[tar.Member]] = defaultdict(list)
    targets = {}
    for member in by_path.values():
        if member.kind == tar.HARD_LINK:
            target = _target(member, by_path)
            targets[id(target)] = target
            names[id(target)].append(member)
    for key, target in targets.items():
        _name_first(target, names[key])
    dropped = {id(m) for key, t in targets.items() if t.kind in tar.DEVICES for m in names[key]}
    return [m for m in by_path.values() if m.kind not in tar.DEVICES and id(m) not in dropped]


def _target(link: tar.Member, by_path: Mapping[bytes, tar.Member]) -> tar.Member:
    member, seen = link, {link.path}
    while member.kind == tar.HARD_LINK:
        target = by_path.get(member.link)
        if target is None or target.path in seen or target.kind == tar.FOLDER:
            msg = f"The hard link {_shown(link.path)} leads to no file ({_shown(member.link)})."
            raise BuildError(msg, hint="The tar was not made whole; build the image again.")
        member = target
        seen.add(member.path)
    return member


def _name_first(target: tar.Member, links: Sequence[tar.Member]) -> None:
    first = min(links, key=lambda member: member.path)
    if first.path < target.path:
        target.path, first.path = first.path, target.path
    for link in links:
        link.link = target.path
        link.mode, link.uid, link.gid = target.mode, target.uid, target.gid
        link.mtime, link.records = target.mtime, ()


def _shown(path: bytes) -> str:
    return "./" + path.decode(errors="backslashreplace")


def pieces(
    members: Iterable[tar.Member], owners: Mapping[bytes, str], *, common: Collection[str] = ()
) -> Iterator[Piece]:
    """Yield the pieces of a tar of *members*, which settle() returned, in the order to write.

    *common* are the packages (names without architecture) that the other images have, too: those
    that only this one has leave their pieces alone.
    """
    folders: list[tar.Member] = []
    links: list[tar.Member] = []
    groups: dict[bytes, list[tar.Member]] = defaultdict(list)
    for member in members:
        if member.kind == tar.FOLDER:
            folders.append(member)
        elif member.kind == tar.HARD_LINK:
            links.append(member)
        else:
            groups[_group(member.path, owners)].append(member)
    for group in [folders, *_buckets(groups, common), links]:
        yield from _cut(sorted(group, key=_place))


def _place(member: tar.Member) -> bytes:
    return member.path


def _group(path: bytes, owners: Mapping[bytes, str]) -> bytes:
    """Return what *path* changes together with: its package, or its folder."""
    owner = owners.get(path)
    if owner is None and path.startswith(_INFO):
        owner = path[len(_INFO) :].rpartition(b".")[0].decode(errors="replace")
    elif owner is None and _PYCACHE in path:
        folder, _, name = path.rpartition(_PYCACHE)
        owner = owners.get(folder + b"/" + name.partition(b".")[0] + b".py")
    if owner is not None:
        return owner.encode()
    return _UNOWNED + b"/".join(path.split(b"/")[:-1][:_UNOWNED_DEPTH])


def _buckets(
    groups: Mapping[bytes, list[tar.Member]], common: Collection[str]
) -> Iterator[list[tar.Member]]:
    small: dict[tuple[int, int], list[tar.Member]] = defaultdict(list)
    for name in sorted(groups):
        group = groups[name]
        if sum(member.size for member in group) > OWN_PIECE:
            yield group
        else:
            small[_bucket(name, common)] += group
    for _, group in sorted(small.items()):
        yield group


def _bucket(name: bytes, common: Collection[str]) -> tuple[int, int]:
    if name.startswith(_UNOWNED):
        return (2, 0)
    is_common = name.decode(errors="replace").partition(":")[0] in common
    return (0 if is_common else 1, zlib.crc32(name) % BUCKETS)


def _cut(group: Iterable[tar.Member]) -> Iterator[Piece]:
    """Cut at members; a file longer than a piece is cut at multiples of a piece's size."""
    piece: Piece = []
    size = 0
    for member in group:
        if size and size + member.size > PIECE_SIZE:
            yield piece
            piece, size = [], 0
        start = 0
        while member.size - start > PIECE_SIZE:
            yield [Part(member, start, start + PIECE_SIZE)]
            start += PIECE_SIZE
        piece.append(Part(member, start, member.size))
        size += tar.BLOCK + member.size - start
    if piece:
        yield piece
