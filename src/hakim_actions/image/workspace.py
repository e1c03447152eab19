"""Folders for one build and for one run, which nothing survives: no end, no kill, no full disk."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from hakim_actions.errors import BuildError
from hakim_actions.system import files


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


@contextlib.contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """Give a path in *parent* for what the builds of this run share, and remove what is there.

    Nothing is made there yet. First goes what runs left that were killed: they hold no lock.
    """
    for left in parent.glob("run-*"):
        with contextlib.suppress(files.LockedError), _locked(left):
            remove(left)
    own = parent / f"run-{os.getpid()}"
    with _locked(own):
        try:
            yield own
        finally:
            remove(own)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = folder.with_name(f".{folder.name}.lock")
    with files.locked(lock, purpose=f"A run in {folder}"):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove *path* and all below it.

    Processes that were just killed may still be letting go of files below it: try for 5 seconds.
    """
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)
