"""Files that are whole or not there: write beside, check, rename; hashes; locks; free space."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hakim_actions.errors import ConfigurationError, HakimError


def sha256_file(path: Path) -> str:
    """Return the sha256 of *path* as 64 hex digits, reading it once with little memory."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(target: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a file beside *target* that takes its name only when the block ends well.

    The data is on disk before the rename, so a power cut leaves the old file or the new one.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """Write *text* to *target*, whole or not at all."""
    with replacing(target) as stream:
        stream.write(text.encode())


def writable_folder(path: Path, *, option: str) -> Path:
    """Make *path* and prove that files can be made in it; *option* is what the user typed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        msg = f"{option}: cannot write to {path}: {error.strerror}."
        raise ConfigurationError(
            msg, hint="Choose another folder, or give this user the right."
        ) from None
    return path


def free_bytes(path: Path) -> int:
    """Return how many bytes this user may still write below *path* or its nearest parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


class LockedError(HakimError):
    """Somebody else holds a lock."""


@contextlib.contextmanager
def locked(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold the lock file *path* for the block, or raise LockedError naming the holder at once.

    The kernel frees the lock when its process ends, however it ends, so none is ever stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read(200).strip() or "another process"
            msg = f"{purpose} is already running: {holder} holds {path}."
            raise LockedError(msg, hint="Wait for it to end, or stop it.") from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()}\n")
        stream.flush()
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until nobody else holds the lock file *path*, then hold it for the block.

    For work that is worth doing once: where the lock cannot be made, as in a folder that can only
    be read, everybody goes on at once. The kernel frees the lock of a process that is killed.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(path.open("w"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
