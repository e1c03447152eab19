"""Entries of a folder that are found by a key, and found to be damaged when they are read."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

_DIGEST_SIZE: Final = hashlib.sha256().digest_size


class EntryStore:
    """A folder of entries, which many builds may read and fill at the same time.

    An entry is a file named by its key. It starts with a hash of its own name and content, so a
    damaged one is found when it is read. Entries are written beside and renamed; a kill leaves at
    most a dot file. A folder that cannot be written or read costs time and nothing else: see
    *warnings*.
    """

    def __init__(self, folder: Path, *, kind: str) -> None:
        """Use *folder*, which is made for the first entry; *kind* says what one is, for people."""
        self.folder = folder
        #: What went wrong, for people; a build goes on without the store.
        self.warnings: list[str] = []
        self._kind = kind
        self._name = kind.capitalize()
        self._writable = True

    def path(self, key: str) -> Path:
        """Return where the entry of *key*, some hex digits, is kept."""
        return self.folder / key[:2] / f"{key}.{self._kind}"

    def get(self, key: str) -> memoryview | None:
        """Return the content of *key*, or None when it is not there or not what was put there."""
        path = self.path(key)
        try:
            entry = memoryview(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"{self._name} {path} cannot be read: {error.strerror}.")
            return None
        digest, content = entry[:_DIGEST_SIZE], entry[_DIGEST_SIZE:]
        if digest != _digest(path, content):
            self._warn(f"{self._name} {path} was damaged; it is made again.")
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # who cleans up removes what was not used for longest
        return content

    def put(self, key: str, *content: bytes) -> None:
        """Keep *content*; after the first failure (disk full, read-only) nothing more is kept."""
        if not self._writable:
            return
        path = self.path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _digest(path, *content), *content)
        except OSError as error:
            self._writable = False
            self._warn(f"{self._name}s are not kept in {self.folder}: {error.strerror}.")

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def _digest(path: Path, *content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(path.name.encode())
    for part in content:
        digest.update(part)
    return digest.digest()


def _write(path: Path, *content: bytes) -> None:
    """Write *path* in one step; not synced, since damage is found when it is read."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
