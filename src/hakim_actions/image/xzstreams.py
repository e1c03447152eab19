"""Unpacks the streams of an ``.xz`` file side by side: the next one while the one at hand is read.

Packing makes an archive of many streams. Where they begin is learned from the end of the file, as
each stream says there how long it is. That is a hint and nothing more: the decoder decides what a
stream is, and where a hint was wrong, ``xzreader`` goes on from exactly the state it left.
File format: https://tukaani.org/xz/format.html

Who reads several archives that share streams may keep what those unpack to: a stream of the same
sha256 unpacks to the same bytes.
"""

import hashlib
import io
import lzma
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Final, TypeAlias

from hakim_actions.image.entries import EntryStore

#: Compressed bytes read at once, and the most that is unpacked from them at once.
PIECE: Final = 1 << 18

#: What a decoder may take. ``xz -9`` needs 65 MiB; a hostile file could ask for 4 GiB.
MEMORY_LIMIT: Final = 80 << 20

MAGIC: Final = b"\xfd7zXZ\x00"

#: Streams that are unpacked beside the one at hand. Each more would take some 50 MiB of memory.
_AHEAD: Final = 1

#: Pieces of one stream that may wait to be read: 24 MiB, as packing makes the largest.
_WAITING: Final = 96

#: The longest stream that is read in one go (compressed bytes).
_LONGEST: Final = 32 << 20

#: What a longer stream unpacks to is not kept (bytes); packing makes none that is.
_LONGEST_KEPT: Final = 32 << 20

#: So many streams and no more are looked for.
_MOST: Final = 1 << 16

_HEADER_SIZE: Final = 12
_FOOTER_SIZE: Final = 12
#: The index of a stream of one block: a zero, the number of records, two numbers, padding, a CRC32.
_INDEX_SIZE: Final = 28

Observer: TypeAlias = Callable[[bytes], object]


class Unpacking:
    """A stream that a thread unpacks; ``next`` hands out what it has, in order."""

    def __init__(self, packed: bytes, kept: EntryStore | None = None) -> None:
        """Begin to unpack *packed*, unless *kept* knows what it unpacks to."""
        self._packed = io.BytesIO(packed)
        self._kept = kept
        self._found = False
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
        self._error: Exception | None = None
        self._pieces: deque[bytes | None] = deque()
        self._ready = threading.Semaphore(0)
        self._room = threading.Semaphore(_WAITING)
        self._stopped = False
        # A daemon: whoever leaves a file half read must not be kept from ending.
        threading.Thread(target=self._run, daemon=True).start()

    def next(self) -> bytes | None:
        """Wait for the next unpacked piece, None behind the last; raise what unpacking raised."""
        self._ready.acquire()
        piece = self._pieces.popleft()
        self._room.release()
        if piece is None and self._error is not None:
            raise self._error
        return piece

    def rest(self) -> tuple[lzma.LZMADecompressor | None, bytes]:
        """Return, behind the last piece, the decoder if it needs more, and bytes not used."""
        if self._found:
            return None, b""
        if self._decoder.eof:
            return None, self._decoder.unused_data + self._packed.read()
        return self._decoder, b""

    def stop(self) -> bytes:
        """Stop unpacking and return all packed bytes."""
        self._stopped = True
        self._room.release()
        return self._packed.getvalue()

    def _run(self) -> None:
        try:
            for piece in self._unpack():
                self._room.acquire()
                if self._stopped:
                    break
                self._pieces.append(piece)
                self._ready.release()
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader must not wait on
            self._error = error
        self._pieces.append(None)
        self._ready.release()

    def _unpack(self) -> Iterator[bytes]:
        if self._kept is None:
            yield from self._decode()
            return
        key = hashlib.sha256(self._packed.getbuffer()).hexdigest()
        found = self._kept.get(key)
        if found is not None:
            self._found = True
            yield from (bytes(found[at : at + PIECE]) for at in range(0, len(found), PIECE))
            return
        pieces: list[bytes] = []
        size = 0
        for piece in self._decode():
            size += len(piece)
            pieces.append(piece)
            if size > _LONGEST_KEPT:
                pieces.clear()
            yield piece
        if size <= _LONGEST_KEPT and self._is_whole():
            self._kept.put(key, *pieces)

    def _is_whole(self) -> bool:
        """Tell whether what was given is one stream from its first to its last byte."""
        read = self._packed.tell() - len(self._decoder.unused_data)
        return self._decoder.eof and read == len(self._packed.getbuffer())

    def _decode(self) -> Iterator[bytes]:
        while not self._decoder.eof:
            packed = self._packed.read(PIECE) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not packed:
                return
            yield self._decoder.decompress(packed, max_length=PIECE)


class StreamsAhead:
    """Reads *source* from start to end, and shows every byte to *observe* once, in order."""

    def __init__(
        self, source: IO[bytes], observe: Observer, kept: EntryStore | None = None
    ) -> None:
        """Find out where streams begin; read nothing yet.

        *kept* has what streams unpack to, by their sha256, and gets what it does not have.
        """
        self._source = source
        self._observe = observe
        self._kept = kept
        self._sizes = deque(_sizes(source))
        self._ahead: deque[Unpacking] = deque()

    def next_stream(self) -> Unpacking | None:
        """Return the stream that begins where reading stands; None if that is not known."""
        while self._sizes and len(self._ahead) <= _AHEAD:
            packed = self._take(self._sizes.popleft())
            self._ahead.append(Unpacking(packed, self._kept))
        return self._ahead.popleft() if self._ahead else None

    def read(self) -> bytes:
        """Return packed bytes to be unpacked by the caller; none at the end of the file.

        Where a stream begins is not known from here on.
        """
        packed = b"".join(unpacking.stop() for unpacking in self._ahead)
        self._sizes.clear()
        self._ahead.clear()
        return packed or self._take(PIECE)

    def stop(self) -> None:
        """Unpack no more; ``read`` goes on with what was not read yet."""
        self._sizes.clear()
        for unpacking in self._ahead:
            unpacking.stop()
        self._ahead.clear()

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._observe(data)
        return data


def _sizes(source: IO[bytes]) -> list[int]:
    """Return the sizes (bytes) of the streams at the start of *source*, none if that is not clear.

    Goes back from the end, from each stream to the one before it. What comes behind a long stream
    is left out.
    """
    end = source.seek(0, os.SEEK_END)
    sizes: list[int] = []
    for _ in range(_MOST):
        if end == 0:
            break
        size = _size_of_last(source, end)
        if not size:
            sizes.clear()
            break
        end -= size
        sizes.append(size)
        if size > _LONGEST:
            sizes.clear()
    source.seek(0)
    return sizes[::-1] if end == 0 and len(sizes) > 1 else []


def _size_of_last(source: IO[bytes], end: int) -> int:
    """Return the size (bytes) of the stream of one block that ends at *end*; 0 if there is none."""
    length = min(end, _INDEX_SIZE + _FOOTER_SIZE)
    source.seek(end - length)
    tail = source.read(length)
    footer = tail[-_FOOTER_SIZE:]
    if len(footer) < _FOOTER_SIZE or not footer.endswith(b"YZ"):
        return 0
    index_size = (int.from_bytes(footer[4:8], "little") + 1) * 4
    index = tail[:-_FOOTER_SIZE][-index_size:]
    if len(index) < index_size or not index.startswith(b"\x00\x01"):
        return 0
    block = _number(index[2:])
    size = _HEADER_SIZE + block + -block % 4 + index_size + _FOOTER_SIZE
    if not block or size > end:
        return 0
    source.seek(end - size)
    return size if source.read(len(MAGIC)) == MAGIC else 0


def _number(data: bytes) -> int:
    """Return the number that *data* begins with, of seven bits a byte, the lowest first."""
    number = 0
    for place, byte in enumerate(data[:9]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return number
