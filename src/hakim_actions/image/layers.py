"""Base layers: tars of finished base images, kept by what they were made from.

A variant is built on the layer of its release and architecture instead of bootstrapping Debian
again; every step of the definition runs a second time on it and finds its work done.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.artifact import Archive, ArtifactName
from hakim_actions.content import Sources
from hakim_actions.system import files

#: Security updates get in at least this often.
DEFAULT_MAX_AGE_DAYS: Final = 7
_DAY: Final = 86_400


def layer_key(
    name: ArtifactName,
    *,
    sources: Sources,
    archive: Archive,
    distrobuilder: str,
    missing: Collection[str] = (),
) -> str:
    """Return the key of the base layer below *name*: definition, tool, and the archive's state.

    *missing* are the tools of base that could not be had: without them it is another layer.
    The version and the commit are not in it: the variant writes its own /etc/hakim-release.
    """
    parts = [
        *(sources.key(name.base), distrobuilder, archive.mirror),
        *(sorted(archive.digests.items()), sorted(missing)),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class LayerStore:
    """A folder of layers. A layer older than *max_age_days* is not used.

    An entry is ``<key>.tar`` with its sha256 beside it, so a damaged one is found before use, and
    the seconds that making it took.
    """

    folder: Path
    max_age_days: float = DEFAULT_MAX_AGE_DAYS

    def get(self, key: str) -> Path | None:
        """Return the layer of *key*, or None when there is none that may be used."""
        tar, digest = self._paths(key)
        try:
            # A clock that went backwards makes a negative age: the layer is as good as new.
            age = time.time() - digest.stat().st_mtime
            expected = digest.read_text("ascii")
            if age > self.max_age_days * _DAY:
                return None
            if files.sha256_file(tar) != expected:
                tar.unlink()
                return None
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):  # a cache that can only be read
            os.utime(tar)  # who cleans up removes what was not used for longest
        return tar

    def seconds(self, key: str) -> float:
        """Return what making the layer of *key* took when it was made; 0 when nobody knows."""
        try:
            return float(self._seconds(key).read_text("ascii"))
        except (OSError, ValueError):
            return 0.0

    def put(self, key: str, tar: Path, *, seconds: float = 0.0) -> Path:
        """Keep *tar*, which nobody may write to any more, as the layer of *key*; return the layer.

        On one disk both are one file, else the layer is a copy. *seconds* is what making it took.
        Where the folder cannot be written, or is full, nothing is kept and *tar* is returned.
        """
        target, digest = self._paths(key)
        sha256 = files.sha256_file(tar)
        beside = target.with_suffix(".new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            digest.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
            _link_or_copy(tar, beside)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            return tar
        beside.replace(target)
        with contextlib.suppress(OSError):  # without them it is of use to this build only
            files.write_text(self._seconds(key), f"{seconds:.3f}")
            # Last: a kill before this leaves a tar that nobody trusts.
            files.write_text(digest, sha256)
        return target

    def alone(self, key: str) -> AbstractContextManager[None]:
        """Wait until no other build is making the layer of *key*, then hold it for the block."""
        return files.alone(self.folder / f".{key}.lock")

    def _paths(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.tar", self.folder / f"{key}.sha256"

    def _seconds(self, key: str) -> Path:
        return self.folder / f"{key}.seconds"


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one that knows no hard links
        shutil.copyfile(source, target)
