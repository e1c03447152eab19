"""The maps of sparse files in a tar: which bytes of the file are stored, the others are zero.

GNU tar has written four forms of it; the last three are PAX records or lines before the data
(https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

_HOLE_LIMIT: Final = 1 << 20


class Extent(NamedTuple):
    """Bytes of a sparse file: from *start* in the file, *size* bytes at *offset* in the tar."""

    start: int
    offset: int
    size: int


def extents(numbers: Sequence[int], *, offset: int, size: int) -> tuple[Extent, ...]:
    """Return the extents that start, size, start, size … name; their data begins at *offset*.

    Raises ValueError unless they follow each other within a file of *size* bytes.
    """
    found = []
    position = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if start < position or length < 0 or start + length > size:
            msg = "a sparse file has a map that does not fit it"
            raise ValueError(msg)
        if length:
            found.append(Extent(start, offset, length))
        offset += length
        position = start + length
    return tuple(found)


def gnu_map(block: bytes, next_block: Callable[[], bytes]) -> tuple[int, list[int]]:
    """Read the map of GNU's own format: the size of the file, then its numbers."""
    numbers = list(_entries(block[386:482]))
    more = block[482]
    while more:
        following = next_block()
        numbers += _entries(following[:504])
        more = following[504]
    return _octal(block[483:495]), numbers


def _entries(data: bytes) -> Iterator[int]:
    for at in range(0, len(data), 24):
        if data[at + 12 : at + 24].strip(b" \0"):
            yield _octal(data[at : at + 12])
            yield _octal(data[at + 12 : at + 24])


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def record_map(value: bytes) -> list[int]:
    """Read the map of a PAX record (versions 0.0 and 0.1)."""
    return [int(part) for part in value.split(b",") if part]


def data_map(next_block: Callable[[], bytes]) -> list[int]:
    """Read the map in the lines before the data (version 1.0), the first being their count."""
    text = next_block()
    while b"\n" not in text:
        text += next_block()
    count = int(text.partition(b"\n")[0])
    if not 0 <= count <= _HOLE_LIMIT:
        msg = f"a sparse file has a map of {count} entries"
        raise ValueError(msg)
    while text.count(b"\n") < 2 * count + 1:
        text += next_block()
    return [int(line) for line in text.split(b"\n")[1 : 2 * count + 1]]
