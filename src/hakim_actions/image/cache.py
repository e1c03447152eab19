"""The cache folder: what is in it, and how it stays within its size.

::

    <cache-dir>/layers/   tars of base images (layers.py)
                pieces/   compressed pieces of archives (pieces.py)
                tools/    downloads, by hash (tools.py)
                work/     root file systems of builds under way; empty otherwise

Everything in it can be removed at any time: builds write beside and rename, and check the hash of
what they read.
"""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Of root, because builds run as root and use what they find here.
DEFAULT_FOLDER: Final = Path("/var/cache/hakim-actions")
DEFAULT_MAX_BYTES: Final = 20 * 10**9
PARTS: Final = ("layers", "pieces", "tools")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the cache: number of files, and their size on disk in bytes."""

    name: str
    files: int
    size: int


def status(folder: Path) -> list[Part]:
    """Return what each part of the cache in *folder* holds."""
    found = []
    for name in PARTS:
        sizes = [size for _, _, size in _entries(folder / name)]
        found.append(Part(name=name, files=len(sizes), size=sum(sizes)))
    return found


def prune(folder: Path, *, max_bytes: int) -> int:
    """Remove what was not used for longest until at most *max_bytes* are left; return the bytes.

    Entries that a build is just using are safe: it has them open, or makes them again.
    """
    entries = sorted(entry for name in PARTS for entry in _entries(folder / name))
    total = sum(size for _, _, size in entries)
    freed = 0
    for _, path, size in entries:
        if total - freed <= max_bytes:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    return freed


def clear(folder: Path) -> int:
    """Remove all parts of the cache; return the bytes that were freed."""
    freed = sum(part.size for part in status(folder))
    for name in PARTS:
        shutil.rmtree(folder / name, ignore_errors=True)
    return freed


def _entries(folder: Path) -> Sequence[tuple[float, Path, int]]:
    """Return time of last use, path and size of every file, locks and half-written ones apart."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.name.startswith("."):
                state = path.stat()
                found.append((state.st_mtime, path, state.st_blocks * 512))
    return found
