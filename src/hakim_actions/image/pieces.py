"""Compressed pieces, kept by what they were made from, so that none is ever compressed twice."""

import contextlib
import fcntl
import hashlib
import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hakim_actions.system import files

_DIGEST_SIZE: Final = hashlib.sha256().digest_size
#: After the digest: the seconds that compressing took.
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
    """A folder of compressed pieces, which many builds may read and fill at the same time.

    An entry is a file named by the hash of the raw bytes and of the encoder's settings. It starts
    with a hash of its own name and content, so a damaged one is found when it is read. Entries
    are written beside and renamed; a kill leaves at most a dot file. A folder that cannot be
    written or read costs time and nothing else: see *warnings*.
    """

    def __init__(self, folder: Path) -> None:
        """Use *folder*, which is made when the first piece is kept."""
        self.folder = folder
        #: What went wrong, for people; a build goes on without the store.
        self.warnings: list[str] = []
        self._writable = True

    def path(self, raw_sha256: str, settings: str) -> Path:
        """Return where the piece of these raw bytes, made with *settings*, is kept."""
        key = hashlib.sha256(f"{_FORM}\0{settings}\0{raw_sha256}".encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.piece"

    def get(self, raw_sha256: str, settings: str) -> Piece | None:
        """Return the compressed piece, or None when it is not there or not what was put there."""
        path = self.path(raw_sha256, settings)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"Piece {path} cannot be read: {error.strerror}.")
            return None
        digest, entry = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        if len(entry) < _SECONDS.size or digest != _digest(path, entry):
            self._warn(f"Piece {path} was damaged; it is compressed again.")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # who cleans up removes what was not used for longest
        (seconds,) = _SECONDS.unpack_from(entry)
        return Piece(entry[_SECONDS.size :], seconds)

    def put(self, raw_sha256: str, settings: str, piece: Piece) -> None:
        """Keep *piece*; after the first failure (disk full, read-only) nothing more is kept."""
        if not self._writable:
            return
        path = self.path(raw_sha256, settings)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            entry = _SECONDS.pack(piece.seconds) + piece.data
            _write(path, _digest(path, entry) + entry)
        except OSError as error:
            self._writable = False
            self._warn(f"Pieces are not kept in {self.folder}: {error.strerror}.")

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

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def _is_ours(lock: IO[str]) -> bool:
    """Lock *lock* if nobody else has."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _digest(path: Path, entry: bytes) -> bytes:
    digest = hashlib.sha256(path.name.encode())
    digest.update(entry)
    return digest.digest()


def _write(path: Path, content: bytes) -> None:
    """Write *path* in one step; not synced, since damage is found when it is read."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
