"""The cache folder: what is in it, and how it stays within its size.

::

    <cache-dir>/layers/   tars of base images, each with two small files (layers.py)
                pieces/   compressed pieces of archives (pieces.py)
                tools/    downloads, by hash (tools.py)
                debs/     packages and indices of Debian, by address (debcache.py)
                work/     builds under way, and what those of one run share; empty otherwise

Everything in it can be removed at any time: builds write beside and rename, and check the hash of
what they read.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Of root, because builds run as root and use what they find here.
DEFAULT_FOLDER: Final = Path("/var/cache/hakim-actions")
GIGABYTE: Final = 10**9
DEFAULT_MAX_BYTES: Final = 20 * GIGABYTE
PARTS: Final = ("layers", "pieces", "tools", "debs")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the cache: number of files, and their size on disk in bytes."""

    name: str
    files: int
    size: int


@dataclass(frozen=True, kw_only=True, order=True)
class _Entry:
    """What is of use only as a whole: when it was last used, its files, their bytes on disk."""

    used: float
    paths: tuple[Path, ...]
    size: int


def status(folder: Path) -> list[Part]:
    """Return what each part of the cache in *folder* holds."""
    found = []
    for name in PARTS:
        entries = _entries(folder / name)
        files = sum(len(entry.paths) for entry in entries)
        found.append(Part(name=name, files=files, size=sum(entry.size for entry in entries)))
    return found


def prune(folder: Path, *, max_bytes: int, unused_for: float | None = None) -> int:
    """Remove what was not used for longest until at most *max_bytes* are left; return the bytes.

    With *unused_for*, what was not used for so many seconds goes first, whatever its size. Entries
    that a build is just using are safe: it has them open, or makes them again.
    """
    entries = sorted(entry for name in PARTS for entry in _entries(folder / name))
    total = sum(entry.size for entry in entries)
    oldest = 0 if unused_for is None else time.time() - unused_for
    freed = 0
    for entry in entries:
        if total - freed <= max_bytes and entry.used >= oldest:
            break
        with contextlib.suppress(OSError):
            for path in entry.paths:
                path.unlink()
            freed += entry.size
    return freed


def folders(folder: Path) -> list[Path]:
    """Return *folder* and all folders of its parts, to give them to somebody else."""
    below = (path for name in PARTS for path in (folder / name, *(folder / name).rglob("*")))
    return [folder, *(path for path in below if path.is_dir() and not path.is_symlink())]


def clear(folder: Path) -> int:
    """Remove all parts of the cache; return the bytes that were freed."""
    freed = sum(part.size for part in status(folder))
    for name in PARTS:
        shutil.rmtree(folder / name, ignore_errors=True)
    return freed


def _entries(folder: Path) -> Sequence[_Entry]:
    """Return all entries; locks and half-written files are none.

    Files that differ only in their ending are one: the checksum of a layer is as old as the layer,
    and must not go before it.
    """
    groups: dict[Path, list[tuple[Path, os.stat_result]]] = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and not path.name.startswith("."):
                groups.setdefault(_whole(path), []).append((path, path.stat()))
    return [
        _Entry(
            used=max(state.st_mtime for _, state in files),
            paths=tuple(sorted(path for path, _ in files)),
            size=sum(state.st_blocks * 512 for _, state in files),
        )
        for files in groups.values()
    ]


def _whole(path: Path) -> Path:
    return path.with_suffix("") if path.parent.name == "layers" else path
