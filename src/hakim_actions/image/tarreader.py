"""A lean reader of tar headers: nothing is kept, so an archive of any length needs no memory.

``tarfile`` keeps an object of about a kilobyte for every member it has seen, and packing's reader
mends names and stops at the end mark. What proves an archive must see it as it is, and must not
share a mistake with what wrote it. Formats: ustar and pax
(https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html) and GNU
(https://www.gnu.org/software/tar/manual/html_node/Standard.html).
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple, Protocol

from hakim_actions.image.xzreader import ArchiveError
from hakim_actions.image.xzstreams import MAGIC as XZ_MAGIC

BLOCK: Final = 512

#: The longest extended header (long names, xattrs) that is read; real ones have some hundred bytes.
_MAX_EXTENSION: Final = 1 << 20

#: What is read of a pax header; the rest, such as xattrs, is passed over.
_PAX_KEYS: Final = frozenset({b"path", b"linkpath", b"size", b"uid", b"gid", b"GNU.sparse.name"})

_ZERO: Final = bytes(BLOCK)


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    DIRECTORY = "directory"
    FIFO = "named pipe"


_KINDS: Final = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARD_LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class Header(NamedTuple):
    """A member as its headers describe it: names as written, *size* in bytes in the archive."""

    name: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    target: str


class Stream(Protocol):
    """What a tar is read from."""

    def read(self, count: int) -> bytes:
        """Return *count* bytes, fewer only at the end."""
        ...

    def skip(self, count: int) -> int:
        """Pass over *count* bytes and return how many there were."""
        ...


class TarReader:
    """Iterates over the members of *stream*; the content of the current one is in ``content``."""

    def __init__(self, stream: Stream) -> None:
        """Read nothing yet."""
        self._stream = stream
        self._unread = 0
        self._global: dict[str, str] = {}

    def content(self, limit: int) -> bytes:
        """Return the first *limit* bytes of the member that was handed out last."""
        data = self._stream.read(min(limit, self._unread))
        self._unread -= len(data)
        return data

    def __iter__(self) -> Iterator[Header]:
        """Hand out every member, then prove that nothing follows; raise ArchiveError."""
        extended: dict[str, str] = {}
        while (block := self._next_block()) is not None:
            flag = block[156:157]
            if flag in b"xgLK":
                self._read_extension(flag, block, extended)
                continue
            header = _header(
                block, flag, {**self._global, **extended} if extended else self._global
            )
            extended = {}
            if flag == b"S":
                self._skip_sparse_map(block)
            padding = -header.size % BLOCK
            self._unread = header.size
            yield header
            self._skip(self._unread + padding)

    def _next_block(self) -> bytes | None:
        """Return the next header block, or None behind the last member."""
        block = self._stream.read(BLOCK)
        if len(block) < BLOCK:
            msg = "the tar ends without its end mark, so its last part is missing"
            raise ArchiveError(msg)
        if block == _ZERO:
            self._expect_the_end()
            return None
        _check_sum(block)
        return block

    def _expect_the_end(self) -> None:
        """The end mark is two zero blocks; zeros may follow to fill a record, and nothing else."""
        if self._stream.read(BLOCK) != _ZERO:
            msg = "the tar has a half end mark (one block of zeros)"
            raise ArchiveError(msg)
        while piece := self._stream.read(64 * BLOCK):
            if piece.count(0) != len(piece):
                msg = "data follows the end mark of the tar, which tar would ignore"
                raise ArchiveError(msg)

    def _read_extension(self, flag: bytes, block: bytes, extended: dict[str, str]) -> None:
        size = _number(block[124:136])
        if size > _MAX_EXTENSION:
            msg = f"an extended header has {size} bytes, more than {_MAX_EXTENSION}"
            raise ArchiveError(msg)
        data = self._stream.read(size)
        self._skip(-size % BLOCK + size - len(data))
        if flag == b"L":
            extended["path"] = _text(data)
        elif flag == b"K":
            extended["linkpath"] = _text(data)
        elif flag == b"x":
            extended.update(_pax_records(data))
        else:
            self._global.update(_pax_records(data))

    def _skip_sparse_map(self, block: bytes) -> None:
        """Pass over the blocks in which GNU tar goes on with the map of a sparse file."""
        more = block[482]
        while more:
            block = self._stream.read(BLOCK)
            if len(block) < BLOCK:
                msg = "the tar ends in the map of a sparse file"
                raise ArchiveError(msg)
            more = block[504]

    def _skip(self, count: int) -> None:
        if self._stream.skip(count) != count:
            msg = "the tar ends in the middle of a member"
            raise ArchiveError(msg)


def _header(block: bytes, flag: bytes, extended: dict[str, str]) -> Header:
    kind = _KINDS.get(flag)
    if kind is None:
        msg = f"a member of the unknown type {flag!r}"
        raise ArchiveError(msg)
    name = extended.get("GNU.sparse.name") or extended.get("path") or _name(block)
    if flag == b"\0" and name.endswith("/"):
        kind = Kind.DIRECTORY
    return Header(
        name=name,
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        uid=_pax_number(extended, "uid", block[108:116]),
        gid=_pax_number(extended, "gid", block[116:124]),
        # Only files have content; some writers repeat the size of its target in a hard link.
        size=_pax_number(extended, "size", block[124:136]) if kind is Kind.FILE else 0,
        target=extended.get("linkpath") or _text(block[157:257]),
    )


def _name(block: bytes) -> str:
    name = _text(block[:100])
    # Only ustar has a prefix; GNU's format keeps times there.
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _check_sum(block: bytes) -> None:
    written = block[148:156]
    # The sum of all bytes of the header with these eight taken as spaces, in octal digits.
    if written.strip(b" \0").lstrip(b"0") == b"%o" % (sum(block) - sum(written) + 8 * ord(" ")):
        return
    if block.startswith(XZ_MAGIC):
        msg = "it was compressed twice: inside the xz is another xz"
    else:
        msg = "the content is no tar, or a damaged one: the sum of a header is wrong"
    raise ArchiveError(msg)


def _number(field: bytes) -> int:
    """Read octal digits, or the base-256 form that GNU tar uses for what is too big for them."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            msg = "a number in a header is negative or far too big"
            raise ArchiveError(msg)
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits.isdigit() else _no_number(digits)
    except ValueError:
        return _no_number(digits)


def _no_number(digits: bytes) -> int:
    if digits:
        msg = f"a header has {digits!r} where a number belongs"
        raise ArchiveError(msg)
    return 0


def _pax_number(extended: dict[str, str], key: str, field: bytes) -> int:
    value = extended.get(key)
    if value is None:
        return _number(field)
    if not (value.isascii() and value.isdigit()):
        msg = f"an extended header has {value!r} as {key}"
        raise ArchiveError(msg)
    return int(value)


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    r"""Read ``<length> <key>=<value>\n`` records, where the length counts the whole record."""
    while data:
        length, _, _ = data.partition(b" ")
        size = int(length) if length.isdigit() and len(length) < 8 else 0
        record, data = data[len(length) + 1 : size], data[size:]
        key, equals, value = record.partition(b"=")
        if not (equals and value.endswith(b"\n")):
            msg = "an extended header is damaged"
            raise ArchiveError(msg)
        if key in _PAX_KEYS:
            yield key.decode(), value[:-1].decode("utf-8", "surrogateescape")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")
