"""Compares two builds of one image, member by member, and says what is not the same."""

import contextlib
import hashlib
import lzma
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from hakim_actions.system import process

#: What diffoscope is given: more or larger files make a report that nobody reads.
_MOST_FILES: Final = 20
_LARGEST_FILE: Final = 16 << 20
_CHUNK: Final = 1 << 20


class _Look(NamedTuple):
    """What can be seen of a member; *content* is the sha256 of a file, or the target of a link."""

    type: str
    mode: str
    owner: str
    time: int
    content: str
    attributes: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A member that two images do not have alike; *what* says in which of its properties."""

    path: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.path}: {'; '.join(self.what)}"


def differences(first: Path, second: Path) -> list[Difference]:
    """Return how the members of two ``.tar.xz`` differ, by path; none when they are the same.

    Both are read once, going forward.
    """
    before, after = _looks(first), _looks(second)
    found = [
        *(Difference(path=path, what=("only in the first",)) for path in before.keys() - after),
        *(Difference(path=path, what=("only in the second",)) for path in after.keys() - before),
    ]
    changed = ((path, tuple(_changes(before[path], after[path]))) for path in before.keys() & after)
    found += (Difference(path=path, what=what) for path, what in changed if what)
    if not found and list(before) != list(after):
        found.append(Difference(path=".", what=("the order of the members",)))
    return sorted(found, key=lambda difference: difference.path)


def explain(
    first: Path,
    second: Path,
    differing: Sequence[Difference],
    *,
    work_dir: Path,
    env: Mapping[str, str],
) -> str:
    """Return what diffoscope says of the *differing* files, nothing where it is not installed.

    *work_dir* is an empty folder for the files; large ones are left out.
    """
    if not process.is_installed("diffoscope", env=env):
        return ""
    wanted = {difference.path for difference in differing[:_MOST_FILES]}
    folders = work_dir / "first", work_dir / "second"
    for archive, folder in zip((first, second), folders, strict=True):
        folder.mkdir()
        for member, data in _files(archive, wanted):
            # A name of our own: that of a hostile member could lead out of the folder.
            (folder / member.name.replace("/", "_").lstrip(".")).write_bytes(data)
    argv = ("diffoscope", "--text", "-", "--no-progress", *folders)
    return process.run(argv, env=process.child_environment(env), check=False).stdout


def _looks(archive: Path) -> dict[str, _Look]:
    with _reading(archive) as tar:
        return {member.name: _look(member, tar) for member in tar}


def _look(member: tarfile.TarInfo, tar: tarfile.TarFile) -> _Look:
    content = member.linkname
    if member.isreg():
        digest = hashlib.sha256()
        stream = tar.extractfile(member)
        while stream is not None and (chunk := stream.read(_CHUNK)):
            digest.update(chunk)
        content = digest.hexdigest()
    return _Look(
        type=member.type.decode(),
        mode=f"{member.mode:04o}",
        owner=f"{member.uid}:{member.gid}",
        time=int(member.mtime),
        content=content,
        attributes=str(sorted(member.pax_headers.items())),
    )


def _changes(before: _Look, after: _Look) -> Iterator[str]:
    for name, old, new in zip(_Look._fields, before, after, strict=True):
        if old != new:
            # A hash says nothing to a reader, nor do raw attributes.
            values = "" if name in {"content", "attributes"} else f" {old} and {new}"
            yield f"{name}{values}"


def _files(archive: Path, wanted: set[str]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with _reading(archive) as tar:
        for member in tar:
            if member.name in wanted and member.isreg() and member.size <= _LARGEST_FILE:
                stream = tar.extractfile(member)
                if stream is not None:
                    yield member, stream.read()


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[tarfile.TarFile]:
    with lzma.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        yield tar
