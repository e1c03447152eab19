"""Folders for one build and for one run, which nothing survives: no end, no kill, no full disk."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
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


@contextlib.contextmanager
def run_folder(parent: Path) -> Iterator[Path]:
    """Make a folder in *parent* for what the builds of this run share; nothing of it is left.

    First goes what runs left that were killed: nobody holds a lock on it.
    """
    with contextlib.ExitStack() as held:
        with _locked(parent):  # so that no new folder is taken for one that was left
            for left in parent.glob("run-*"):
                goes_on_or_is_gone = (BlockingIOError, FileNotFoundError)
                with contextlib.suppress(*goes_on_or_is_gone), _locked(left, wait=False):
                    remove(left)
            # By chance: processes of two containers that share *parent* may have one number.
            own = parent / f"run-{secrets.token_hex(8)}"
            own.mkdir()
            held.enter_context(_locked(own))
        try:
            yield own
        finally:
            remove(own)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock *folder* for the block, or raise BlockingIOError; a kill ends the lock, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove *path* and all below it.

    Processes that were just killed may still be letting go of files below it: try for 5 seconds.
    """
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)
