"""Sends a file in large pieces, and stops in the middle when its time is up."""

import os
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from hakim_actions.publish.patience import TransientError

#: HTTP libraries ask for 16 KiB at a time; larger pieces cost a fraction of the system calls.
PIECE: Final = 1 << 20


class TimedReader:
    """A file-like body for HTTP libraries: streamed, rewindable, with a deadline in seconds."""

    def __init__(
        self, stream: BinaryIO, *, size: int, seconds: float, check: Callable[[], None]
    ) -> None:
        """Send *size* bytes of *stream*; *check* runs before every piece and may raise."""
        self._stream = stream
        self._size = size
        self._check = check
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def __len__(self) -> int:
        """Return all bytes, whatever was read so far."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces that are left."""
        return iter(self.read, b"")

    def read(self, size: int = -1) -> bytes:
        """Return the next piece: at least *size* bytes where there are as many, so a large one."""
        self._check()
        if time.monotonic() > self._end:
            msg = f"not sent within {self._seconds:.0f} s"
            raise TransientError(msg)
        return self._stream.read(max(size, PIECE))

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, for a body that is sent once more."""
        return self._stream.seek(offset, whence)
