"""Reads an ``.xz`` file strictly and in one pass, however many streams it is made of."""

import lzma
from collections.abc import Sequence
from typing import IO, Final, Self

from hakim_actions.errors import VerificationError
from hakim_actions.image.entries import EntryStore
from hakim_actions.image.xzstreams import (
    MAGIC,
    MEMORY_LIMIT,
    PIECE,
    Observer,
    StreamsAhead,
    Unpacking,
)

#: The most that is unpacked (bytes), so that a small hostile file cannot keep a machine busy.
UNPACKED_LIMIT: Final = 16 << 30


class ArchiveError(VerificationError):
    """An archive is cut off, damaged, or not an archive at all."""


class XzReader:
    """Hands out the unpacked bytes of *source*, and every packed byte to *observe*.

    Each of *observe_unpacked* gets every unpacked byte, also those that are skipped. *source* is
    read once, from its start. Threads unpack the stream at hand and the next one; leaving the
    reader as a context manager ends them. *kept* has what streams unpack to, by their sha256, and
    gets what it does not have.

    Accepts what ``xz -d`` accepts: several streams one after another, with zero padding in
    multiples of four bytes between them, and nothing else. (Python's ``lzma.open`` ignores what
    follows the first stream if it is not another one.) File format: https://tukaani.org/xz/format.html
    """

    def __init__(
        self,
        source: IO[bytes],
        *,
        observe: Observer,
        observe_unpacked: Sequence[Observer] = (),
        kept: EntryStore | None = None,
    ) -> None:
        """Read nothing yet."""
        self._streams = StreamsAhead(source, observe, kept)
        self._observe_unpacked = observe_unpacked
        self._unpacking: Unpacking | None = None
        self._decoder: lzma.LZMADecompressor | None = None
        self._packed = b""
        self._piece = b""
        self._position = 0
        self._started = False
        #: Unpacked bytes handed out or skipped so far.
        self.offset = 0

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Unpack nothing more."""
        self._stop()

    def read(self, count: int) -> bytes:
        """Return *count* bytes, fewer only at the end of the file; raise ArchiveError."""
        end = self._position + count
        if end <= len(self._piece):
            data = self._piece[self._position : end]
            self._position = end
            self.offset += count
            return data
        parts = []
        while count > 0 and self._ensure():
            part = self._piece[self._position : self._position + count]
            self._advance(len(part))
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, count: int) -> int:
        """Pass over *count* bytes and return how many there were."""
        left = count
        while left > 0 and self._ensure():
            step = min(left, len(self._piece) - self._position)
            self._advance(step)
            left -= step
        return count - left

    def drain(self) -> None:
        """Show what is left of the file to *observe* without unpacking it."""
        self._stop()
        while self._streams.read():
            pass

    def _stop(self) -> None:
        self._streams.stop()
        if self._unpacking is not None:
            self._unpacking.stop()

    def _advance(self, step: int) -> None:
        self._position += step
        self.offset += step
        if self.offset > UNPACKED_LIMIT:
            msg = f"it unpacks to more than {UNPACKED_LIMIT} bytes"
            raise ArchiveError(msg)

    def _ensure(self) -> bool:
        """Have at least one unpacked byte ready, or return False at the end of the file."""
        while self._position == len(self._piece):
            if not self._next_stream():
                return False
            self._piece = self._unpack()
            self._position = 0
        return True

    def _unpack(self) -> bytes:
        try:
            piece = self._unpack_piece() if self._unpacking is None else self._await_piece()
        except (lzma.LZMAError, EOFError) as error:
            msg = f"the compressed data is damaged ({error})"
            raise ArchiveError(msg) from None
        for observe in self._observe_unpacked:
            observe(piece)
        return piece

    def _await_piece(self) -> bytes:
        """Return what another thread unpacked; behind its end take over from it."""
        assert self._unpacking is not None  # noqa: S101 - _unpack looked; narrows the type
        piece = self._unpacking.next()
        if piece is not None:
            return piece
        self._decoder, self._packed = self._unpacking.rest()
        self._unpacking = None
        return b""

    def _unpack_piece(self) -> bytes:
        assert self._decoder is not None  # noqa: S101 - _next_stream made it; narrows the type
        if self._decoder.needs_input and not self._packed and not self._fill():
            msg = "the file ends in the middle of the compressed data"
            raise ArchiveError(msg)
        packed, self._packed = self._packed, b""
        piece = self._decoder.decompress(packed, max_length=PIECE)
        if self._decoder.eof:
            self._packed = self._decoder.unused_data
            self._decoder = None
        return piece

    def _next_stream(self) -> bool:
        """Have what unpacks the stream at hand, or return False at the end of the file."""
        if self._decoder is not None or self._unpacking is not None:
            return True
        first, self._started = not self._started, True
        if not self._packed:
            self._unpacking = self._streams.next_stream()
            if self._unpacking is not None:
                return True
        padding = 0
        while True:
            rest = self._packed.lstrip(b"\0")
            padding += len(self._packed) - len(rest)
            self._packed = rest
            if rest or not self._fill():
                break
        while 0 < len(self._packed) < len(MAGIC) and self._fill():
            pass
        if self._packed:
            self._check_start(first=first, padding=padding)
            self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_LIMIT)
            return True
        if first or padding % 4:
            msg = "the file is empty" if not padding else "the file ends in stray zero bytes"
            raise ArchiveError(msg)
        return False

    def _check_start(self, *, first: bool, padding: int) -> None:
        if self._packed.startswith(MAGIC) and padding % 4 == 0 and not (first and padding):
            return
        start = self._packed[:6].hex(" ")
        where = "starts with" if first else "has, after a complete xz stream, the bytes"
        msg = f"the file {where} {start}, which is not xz"
        raise ArchiveError(msg)

    def _fill(self) -> bool:
        """Append a piece of the file to what is waiting; return False at the end."""
        data = self._streams.read()
        self._packed += data
        return bool(data)
