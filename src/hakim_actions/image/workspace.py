"""A folder for one build, which nothing survives: not its end, not a kill, not a full disk."""

import contextlib
import errno
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


def remove(path: Path) -> None:
    """Remove *path* and all below it.

    Processes that were just killed may still be letting go of files below it: try for 5 seconds.
    """
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)
