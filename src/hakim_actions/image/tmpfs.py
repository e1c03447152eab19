"""Root file systems in memory, on machines that have enough.

A root file system is many thousand files that are gone after minutes, and most of the time that
making them takes is the disk's (docs/adr/0011-what-speed-was-tried.md). Each is mounted only for
the programs that use it, so it ends with them, however they end.
"""

import os
import re
from collections.abc import Sequence
from typing import Final

from hakim_actions.system import memory
from hakim_actions.system.process import StrPath

#: Bytes for a root file system while it is made: the largest of ours takes 4 GB then.
LEAST: Final = 6_000_000_000
#: From here on a tmpfs keeps extended attributes of users, as a disk does;
#: https://www.man7.org/linux/man-pages/man5/tmpfs.5.html
_OLDEST_KERNEL: Final = (6, 6)
#: The options, where to mount, and the program to run there.
_MOUNT_AND_RUN: Final = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'


def room(images: int, *, beside: int) -> int:
    """Return how many bytes each of *images* that are made at once may take for its files.

    *beside* is what each needs for its programs. 0 means that the disk has to be used.
    """
    share = memory.available() // images - beside
    return share if share >= LEAST and _kernel() >= _OLDEST_KERNEL else 0


def options(size: int, *, owner: int = 0) -> str:
    """Return the options of a mount for *size* bytes, whose root belongs to *owner*."""
    return f"size={size},mode=0755,uid={owner},gid={owner}"


def inside(argv: Sequence[StrPath], *, folder: StrPath, size: int) -> list[StrPath]:
    """Return the command that runs *argv* (as root) with *size* bytes of memory as *folder*.

    Nobody else sees what is in there.
    """
    mount = ("sh", "-c", _MOUNT_AND_RUN, options(size), folder)
    return ["unshare", "--mount", "--", *mount, *argv]


def _kernel() -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
