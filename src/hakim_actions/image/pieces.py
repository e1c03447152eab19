"""Compressed pieces, kept by what they were made from, so that none is ever compressed twice."""

import contextlib
import fcntl
import hashlib
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hakim_actions.image.entries import EntryStore
from hakim_actions.system import files

#: What an entry starts with: the seconds that compressing took.
_SECONDS: Final = struct.Struct(">d")
#: Part of every name, so that an entry of another form is never taken for one of this.
_FORM: Final = "2"
#: Seconds between two looks for a free encoder; one is busy for some seconds.
_PATIENCE: Final = 0.05


@dataclass(frozen=True)
class Piece:
    """An ``.xz`` stream, and the processor seconds that compressing it took."""

    data: bytes
    seconds: float = 0.0


class PieceStore:
    """Compressed pieces in a folder, by the hash of the raw bytes and of the encoder's settings.

    Many builds may use it at the same time; see :class:`EntryStore`.
    """

    def __init__(self, folder: Path) -> None:
        """Use *folder*, which is made when the first piece is kept."""
        self._entries = EntryStore(folder, kind="piece")

    @property
    def folder(self) -> Path:
        """Return where the pieces are."""
        return self._entries.folder

    @property
    def warnings(self) -> list[str]:
        """Return what went wrong, for people; a build goes on without the store."""
        return self._entries.warnings

    def path(self, raw_sha256: str, settings: str) -> Path:
        """Return where the piece of these raw bytes, made with *settings*, is kept."""
        return self._entries.path(_key(raw_sha256, settings))

    def get(self, raw_sha256: str, settings: str) -> Piece | None:
        """Return the compressed piece, or None when it is not there or not what was put there."""
        entry = self._entries.get(_key(raw_sha256, settings))
        if entry is None:
            return None
        (seconds,) = _SECONDS.unpack_from(entry)
        return Piece(bytes(entry[_SECONDS.size :]), seconds)

    def put(self, raw_sha256: str, settings: str, piece: Piece) -> None:
        """Keep *piece*; after the first failure (disk full, read-only) nothing more is kept."""
        key = _key(raw_sha256, settings)
        self._entries.put(key, _SECONDS.pack(piece.seconds), piece.data)

    @contextlib.contextmanager
    def alone(self, raw_sha256: str, settings: str) -> Iterator[None]:
        """Wait until no other build is making this piece, then hold it for the block.

        Variants that are built side by side share most of their pieces and come to them at the
        same time. The kernel frees the lock of a build that is killed; who missed a lock that was
        removed does work twice, and nothing worse.
        """
        path = self.path(raw_sha256, settings)
        lock = path.with_name(f".{path.stem}.lock")
        with files.alone(lock):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # a folder that cannot be written has none
                    lock.unlink()

    @contextlib.contextmanager
    def encoding(self, stopped: threading.Event) -> Iterator[None]:
        """Hold one of as many encoders as there are processors, for all builds with this store.

        More of them at once only take the processors' caches from each other: four on two
        processors need a seventh more processor time than two. Waits until one is free or
        *stopped* is set. The kernel frees the encoder of a build that is killed.
        """
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that cannot be written limits nobody
                self.folder.mkdir(parents=True, exist_ok=True)
                encoders = [
                    stack.enter_context((self.folder / f".encoder-{number}.lock").open("w"))
                    for number in range(len(os.sched_getaffinity(0)))
                ]
                while not any(map(_is_ours, encoders)) and not stopped.wait(_PATIENCE):
                    pass
            yield


def _is_ours(lock: IO[str]) -> bool:
    """Lock *lock* if nobody else has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _key(raw_sha256: str, settings: str) -> str:
    return hashlib.sha256(f"{_FORM}\0{settings}\0{raw_sha256}".encode()).hexdigest()
