"""Reads the tar format byte for byte.

Python's tarfile decodes names and keeps a heavy object a member; packing needs exact bytes and
little memory for images of any size. Read are V7, ustar, PAX and GNU with their sparse files
(https://www.gnu.org/software/tar/manual/html_node/Standard.html).
"""

import contextlib
import math
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from hakim_actions.errors import BuildError
from hakim_actions.image import sparse

BLOCK: Final = 512

FILE: Final = b"0"
HARD_LINK: Final = b"1"
SYMLINK: Final = b"2"
CHARACTER_DEVICE: Final = b"3"
BLOCK_DEVICE: Final = b"4"
FOLDER: Final = b"5"
FIFO: Final = b"6"
DEVICES: Final = frozenset({CHARACTER_DEVICE, BLOCK_DEVICE})

_PLAIN: Final = (FILE, HARD_LINK, SYMLINK, CHARACTER_DEVICE, BLOCK_DEVICE, FOLDER, FIFO)
_KINDS: Final = {b"\0": FILE, b"7": FILE, b"S": FILE} | {kind: kind for kind in _PLAIN}
_EXTENSIONS: Final = frozenset({b"x", b"g", b"L", b"K"})
_EXTENSION_LIMIT: Final = 1 << 20
_SIZE_LIMIT: Final = 1 << 50
_READ_AHEAD: Final = 4 * BLOCK
USTAR: Final = b"ustar\x0000"

#: Labels of the machine that built the image mean nothing on the one that runs it.
_FOREIGN: Final = frozenset({b"SCHILY.xattr.security.selinux"})

_Pax = dict[bytes, bytes]

#: Returns the bytes of the tar at (offset, length); fewer only where the tar ends.
ReadAt = Callable[[int, int], bytes]


@dataclass(slots=True)
class Member:
    """A member; *path* and *link* are bytes as stored, *path* without the leading ``./``.

    The root directory has the empty path. *size* is that of the whole file in bytes, *offset*
    where its data starts in the tar; a sparse file has *extents* instead. *records* are the PAX
    records of extended attributes and ACLs, sorted. *mtime* is in whole seconds.
    """

    path: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    offset: int = 0
    link: bytes = b""
    records: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[sparse.Extent, ...] | None = None


@contextlib.contextmanager
def opened(source: Path) -> Iterator[ReadAt]:
    """Open the tar *source* for the block; its reader may be called from several threads."""
    try:
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        msg = f"Cannot read {source}: {error.strerror}."
        raise BuildError(msg, hint="Expected the rootfs.tar that distrobuilder writes.") from None

    def read_at(offset: int, length: int) -> bytes:
        return os.pread(handle, length, offset)

    try:
        yield read_at
    finally:
        os.close(handle)


def reading_ahead(read_at: ReadAt) -> ReadAt:
    """Return a reader for one pass over headers, which come in threes: one call brings all."""
    start, ahead = 0, b""

    def read(offset: int, length: int) -> bytes:
        nonlocal start, ahead
        if not start <= offset <= offset + length <= start + len(ahead):
            start, ahead = offset, read_at(offset, max(length, _READ_AHEAD))
        return ahead[offset - start : offset - start + length]

    return read


def stream_reader(stream: IO[bytes]) -> ReadAt:
    """Return a reader of a *stream* that only goes forward, such as a decompressor."""
    position = 0

    def read_at(offset: int, length: int) -> bytes:
        nonlocal position
        while position < offset:
            skipped = len(stream.read(min(offset - position, 1 << 20)))
            if not skipped:
                return b""
            position += skipped
        data = stream.read(length)
        position += len(data)
        return data

    return read_at


def scan(read_at: ReadAt, *, source: str) -> Iterator[Member]:
    """Yield the members of a tar in its order; *source* names it in errors.

    With a forward-only reader the data of a member can be read until the next one is asked for.
    Raises BuildError for what is not a whole tar and for a path that leaves the root.
    """
    return _Scanner(read_at, source).members()


class _Header(NamedTuple):
    """The fields of a header block as they stand in it."""

    name: bytes
    mode: bytes
    uid: bytes
    gid: bytes
    size: bytes
    mtime: bytes
    checksum: bytes
    kind: bytes
    link: bytes
    magic: bytes
    prefix: bytes
    block: bytes


_FIELDS: Final = struct.Struct("100s8s8s8s12s12s8s1s100s8s80x155s12x")


class _Scanner:
    """One pass over the headers; extension members are kept for the member they precede."""

    def __init__(self, read_at: ReadAt, source: str) -> None:
        self._read_at = read_at
        self._source = source
        self._position = 0
        self._defaults: _Pax = {}

    def members(self) -> Iterator[Member]:
        extended: _Pax = {}
        while (header := self._header()) is not None:
            try:
                if header.kind in _EXTENSIONS:
                    self._extend(header, extended)
                    continue
                member = self._member(header, self._defaults | extended)
            except (ValueError, KeyError, OverflowError) as error:
                raise self._damaged(str(error)) from None
            yield member
            extended = {}

    def _damaged(self, what: str) -> BuildError:
        return BuildError(
            f"{self._source} cannot be packed: {what}, before byte {self._position}.",
            hint="Expected the whole, uncompressed rootfs.tar that distrobuilder writes.",
        )

    def _read(self, length: int) -> bytes:
        data = self._read_at(self._position, length)
        if len(data) < length:
            what = "it ends in the middle"
            raise self._damaged(what)
        self._position += length
        return data

    def _header(self) -> _Header | None:
        """Return the next header, or None at the end-of-archive marker."""
        block = self._read(BLOCK)
        if block.count(0) == BLOCK:
            return None
        header = _Header._make((*_FIELDS.unpack(block), block))
        # The checksum is the sum of all bytes with its own eight taken as spaces.
        expected = sum(block) - sum(header.checksum) + 8 * 32
        digits = header.checksum.strip(b" \0")
        if not digits.isdigit() or int(digits, 8) != expected:
            what = "a header has a wrong checksum"
            raise self._damaged(what)
        return header

    def _extend(self, header: _Header, extended: _Pax) -> None:
        size = number(header.size)
        if not 0 <= size <= _EXTENSION_LIMIT:
            msg = f"an extension header has {size} bytes"
            raise ValueError(msg)
        data = self._read(padded(size))[:size]
        if header.kind == b"L":
            extended[b"path"] = data.rstrip(b"\0")
        elif header.kind == b"K":
            extended[b"linkpath"] = data.rstrip(b"\0")
        elif header.kind == b"g":
            self._defaults.update(_records(data))
        else:
            extended.update(_records(data))

    def _member(self, header: _Header, pax: _Pax) -> Member:
        kind = _KINDS[header.kind]
        path = pax.get(b"GNU.sparse.name") or pax.get(b"path") or _name(header)
        if kind == FILE and path.endswith(b"/"):
            kind = FOLDER  # V7 had no type for directories
        link = pax.get(b"linkpath") or _text(header.link)
        member = Member(
            path=inside(path),
            kind=kind,
            mode=number(header.mode) & 0o7777,
            uid=_id(pax.get(b"uid"), header.uid),
            gid=_id(pax.get(b"gid"), header.gid),
            mtime=math.floor(float(pax.get(b"mtime") or number(header.mtime))),
            link=inside(link) if kind == HARD_LINK else link if kind == SYMLINK else b"",
            records=_kept(pax) if pax else (),
        )
        if not member.path and kind != FOLDER:
            msg = "a member has no name"
            raise ValueError(msg)
        if kind == FILE:
            self._place(member, header, pax)
        return member

    def _place(self, member: Member, header: _Header, pax: _Pax) -> None:
        """Say where the data of a file is, and go to its end."""
        stored = int(pax.get(b"size") or number(header.size))
        if not 0 <= stored < _SIZE_LIMIT:
            msg = f"{member.path!r} has the size {stored}"
            raise ValueError(msg)
        member.size = stored
        end = self._position + padded(stored)
        if header.kind == b"S":
            member.size, pairs = sparse.gnu_map(header.block, lambda: self._read(BLOCK))
            end = self._position + padded(stored)
        elif pax.get(b"GNU.sparse.major") == b"1":
            member.size = int(pax[b"GNU.sparse.realsize"])
            pairs = sparse.data_map(lambda: self._read(BLOCK))
        elif b"GNU.sparse.map" in pax:
            member.size = int(pax[b"GNU.sparse.size"])
            pairs = sparse.record_map(pax[b"GNU.sparse.map"])
        else:
            pairs = None
        member.offset = self._position
        if pairs is not None:
            member.extents = sparse.extents(pairs, offset=self._position, size=member.size)
        self._position = end


def content(member: Member, read_at: ReadAt, *, start: int, length: int) -> bytes:
    """Return *length* bytes of a file from *start* on, with zeros where it is sparse."""
    if member.extents is None:
        return read_at(member.offset + start, length)
    data = bytearray(length)
    for extent in member.extents:
        begin = max(start, extent.start)
        end = min(start + length, extent.start + extent.size)
        if begin < end:
            stored = read_at(extent.offset + begin - extent.start, end - begin)
            data[begin - start : end - start] = stored
    return bytes(data)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    r"""Yield the ``<length> <keyword>=<value>\n`` records of a PAX header."""
    start = 0
    numbers: list[bytes] = []
    while start < len(data):
        digits = data[start : start + 20].partition(b" ")[0]
        end = start + int(digits)
        keyword, equals, value = data[start + len(digits) + 1 : end].partition(b"=")
        if not equals or end > len(data) or not value.endswith(b"\n"):
            msg = "a PAX header is damaged"
            raise ValueError(msg)
        start, value = end, value[:-1]
        if keyword in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            numbers.append(value)  # the oldest form repeats them, one pair an extent
            keyword, value = b"GNU.sparse.map", b",".join(numbers)
        yield keyword, value


def _kept(pax: _Pax) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        sorted(
            (keyword, value)
            for keyword, value in pax.items()
            if keyword.startswith((b"SCHILY.xattr.", b"SCHILY.acl.")) and keyword not in _FOREIGN
        )
    )


def _id(record: bytes | None, field: bytes) -> int:
    value = int(record or number(field))
    if not 0 <= value < 1 << 32:
        msg = f"{value} is no user or group"
        raise ValueError(msg)
    return value


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: _Header) -> bytes:
    # GNU's own format keeps times where POSIX has the prefix.
    prefix = _text(header.prefix) if header.magic == USTAR else b""
    return prefix + b"/" + _text(header.name) if prefix else _text(header.name)


def inside(path: bytes) -> bytes:
    """Return *path* without needless dots and slashes; ValueError when it leaves the root."""
    parts = [part for part in path.split(b"/") if part not in {b"", b"."}]
    if path.startswith(b"/") or b".." in parts or b"\0" in path:
        msg = f"the path {path!r} leaves the root or is none"
        raise ValueError(msg)
    return b"/".join(parts)


def number(field: bytes) -> int:
    """Read a number in octal digits, or in GNU's binary form for what does not fit."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    return int(field.strip(b" \0") or b"0", 8)


def padded(size: int) -> int:
    """Return *size* rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK
