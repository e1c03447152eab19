"""Opens files that somebody else put into a folder, without being led astray."""

import contextlib
import os
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from hakim_actions.errors import VerificationError


class UnusableFileError(VerificationError):
    """A path is not a regular file inside its folder."""


@contextlib.contextmanager
def open_inside(path: Path) -> Iterator[tuple[FileIO, int]]:
    """Open the regular file *path* unbuffered and hand out the stream and its size in bytes.

    A symbolic link is followed only within the folder of *path*. Raises UnusableFileError, and
    OSError as open does.
    """
    if path.is_symlink() and not _stays(path):
        msg = f"a symbolic link to {os.fspath(path.readlink())!r}, which is not in this folder"
        raise UnusableFileError(msg)
    # O_NONBLOCK: opening a named pipe must not wait for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        msg = "not a regular file"
        raise UnusableFileError(msg)
    with FileIO(handle) as stream:
        yield stream, status.st_size


def _stays(path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(path.parent.resolve())
    except (OSError, RuntimeError):
        return False
