"""Folders for one build and for one run, which nothing survives: no end, no kill, no full disk."""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hakim_actions.errors import BuildError


@contextlib.contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """Make *path* and remove it with all that is in it; first remove what a killed run left.

    The caller holds a lock that keeps others off *path*. Raises BuildError when the disk gets
    full in the block.
    """
    remove(path)
    path.mkdir(parents=True)
    try:
        yield path
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        msg = f"The disk is full: {error.filename or path}."
        raise BuildError(msg, hint="Free some, or name another folder with --work-dir.") from None
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove *path* and all below it.

    Processes that were just killed may still be letting go of files below it: try for 5 seconds.
    """
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)


@contextlib.contextmanager
def run_folder(
    parent: Path, *, prefix: str = "run-", discard: Callable[[Path], object] = remove
) -> Iterator[Path]:
    """Make a folder *prefix*… for this run, for its user only; *discard* it afterwards.

    First those of dead runs are discarded. A run holds a lock on its folder, which the kernel
    frees when the run dies.
    """
    for old in parent.glob(f"{prefix}*"):
        _discard_stale(old, discard)
    folder, lock = _locked_folder(parent, prefix)
    try:
        yield folder
    finally:
        discard(folder)
        os.close(lock)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            lock = _lock(folder)
            # Another run may have taken it for stale in between: then it is gone, make another.
            if folder.exists():
                return folder, lock
            os.close(lock)


def _lock(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _discard_stale(folder: Path, discard: Callable[[Path], object]) -> None:
    # In a folder where everyone may write, only what is ours is ours to remove.
    with contextlib.suppress(OSError):
        if folder.lstat().st_uid != os.geteuid():
            return
        lock = _lock(folder)
        discard(folder)
        os.close(lock)
