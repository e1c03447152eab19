"""One tar of everything that tools.lock brings, in the form it has in the image.

Archives are never unpacked on this machine: their members go from tar to tar, each with a path
that was checked, the owner root, and one of two modes. The same archives make the same bytes.
"""

import fnmatch
import functools
import io
import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from hakim_actions.errors import BuildError
from hakim_actions.image.pins import Tool

#: The time of every file, 2000-01-01: the time of a commit would make every build differ.
MTIME: Final = 946_684_800
_BIN: Final = "usr/local/bin"
_ZIPS: Final = (".zip", ".whl", ".ez")
_UNREADABLE: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError),
)
_TARS: Final = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2")


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A member of an archive: a file when it can be opened, a link when it has one, or a folder."""

    path: str
    executable: bool = False
    size: int = 0
    open: Callable[[], IO[bytes]] | None = None
    link: str = ""


class Overlay:
    """Writes the tar; use it as a context manager. Paths are those in the image, without ``/``."""

    def __init__(self, target: Path) -> None:
        """Write to *target*."""
        self._tar = tarfile.open(target, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - __exit__
        self._owners: dict[str, str] = {}
        self._folders: set[str] = set()
        self._links: set[str] = set()

    def __enter__(self) -> Self:
        """Return the overlay."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Write the end of the tar."""
        self._tar.close()

    def add_archive(self, tool: Tool, archive: Path, *, name: str) -> None:
        """Add what *tool* puts into the image; *name* is that of the file, which tells its format.

        Raises BuildError for an archive that cannot be read, has a member that is not what it
        should be, or lacks what the lock says is in it.
        """
        found: set[str] = set()
        try:
            with _items(archive, name) as items:
                for item in items:
                    for source, target in tool.put.items():
                        place = _place(_stripped(item.path, tool.strip), source, target)
                        if place is None or _omitted(item.path, tool):
                            continue
                        found.add(source)
                        self._add(tool.name, place, item, top=target.lstrip("/"))
        except _UNREADABLE as error:
            msg = f"The archive of '{tool.name}' cannot be read: {error}."
            raise BuildError(msg, hint="Its checksum is right: is its format?") from None
        if absent := [source for source in tool.put if source not in found]:
            msg = f"The archive of '{tool.name}' has no {', '.join(absent)}."
            raise BuildError(msg, hint="Correct 'put' or 'strip' of the tool in tools.lock.")
        for path, link in tool.links.items():
            self.add_link(tool.name, path.lstrip("/"), link)

    def add_bytes(self, owner: str, path: str, data: bytes) -> None:
        """Add a small file."""
        self._claim(path, owner)
        self._write(path, size=len(data), stream=io.BytesIO(data), executable=False)

    def add_link(self, owner: str, path: str, link: str) -> None:
        """Add a symbolic link; *link* may be absolute: it was written by us."""
        self._claim(path, owner)
        self._links.add(path)
        info = _info(path, tarfile.SYMTYPE, 0o777)
        info.linkname = link
        self._tar.addfile(info)

    def _add(self, owner: str, path: str, item: _Item, *, top: str) -> None:
        if item.link:
            _refuse_escape(owner, path, item.link, top=top)
            self.add_link(owner, path, item.link)
        elif item.open is not None:
            self._claim(path, owner)
            executable = item.executable or posixpath.dirname(path) == _BIN
            with item.open() as stream:
                self._write(path, size=item.size, stream=stream, executable=executable)
        else:
            self._add_folders(f"{path}/x")

    def _claim(self, path: str, owner: str) -> None:
        """Make the folders of *path*; refuse a second file there, and one below a link."""
        if other := self._owners.get(path):
            msg = f"'{owner}' and '{other}' both have a file /{path}."
            raise BuildError(msg, hint="Correct 'put' of one of them in tools.lock.")
        if linked := [folder for folder in _above(path) if folder in self._links]:
            msg = f"'{owner}' has /{path} below the link /{linked[-1]}."
            raise BuildError(msg, hint="Such an archive could write anywhere; do not use it.")
        self._owners[path] = owner
        self._add_folders(path)

    def _add_folders(self, path: str) -> None:
        for folder in _above(path):
            if folder not in self._folders:
                self._folders.add(folder)
                self._tar.addfile(_info(folder, tarfile.DIRTYPE, 0o755))

    def _write(self, path: str, *, size: int, stream: IO[bytes], executable: bool) -> None:
        info = _info(path, tarfile.REGTYPE, 0o755 if executable else 0o644)
        info.size = size
        self._tar.addfile(info, stream)


def _above(path: str) -> Sequence[str]:
    """Return the folders that *path* is in, the outermost first."""
    return _with_above(posixpath.dirname(path))


@functools.lru_cache(1024)
def _with_above(folder: str) -> Sequence[str]:
    return (*_above(folder), folder) if folder else ()


def pack_folder(folder: Path, target: Path) -> None:
    """Write *folder* as an archive that ``add_archive`` reads, the same for the same files."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(path, arcname=path.relative_to(folder).as_posix())
            info.mtime, info.uid, info.gid, info.uname, info.gname = MTIME, 0, 0, "", ""
            if not info.isfile():
                tar.addfile(info)
                continue
            info.type, info.linkname = tarfile.REGTYPE, ""  # files that share content stay files
            info.size = path.stat().st_size
            with path.open("rb") as stream:
                tar.addfile(info, stream)


def _info(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{path}")
    info.type, info.mode, info.mtime = kind, mode, MTIME
    info.uname = info.gname = "root"
    return info


def _items(archive: Path, name: str) -> AbstractContextManager[Iterator[_Item]]:
    if name.endswith(_ZIPS):
        return _zip_items(archive)
    if name.endswith(_TARS):
        return _tar_items(archive)
    return _single_item(archive)


@contextmanager
def _tar_items(archive: Path) -> Iterator[Iterator[_Item]]:
    with tarfile.open(archive, "r:*") as tar:
        yield (_tar_item(tar, member) for member in tar)


def _tar_item(tar: tarfile.TarFile, member: tarfile.TarInfo) -> _Item:
    path = _safe(member.name)
    if member.isdir():
        return _Item(path=path)
    if member.issym():
        return _Item(path=path, link=member.linkname)
    whole = member
    if member.islnk():  # a second name of a file that came before: becomes a file of its own
        whole = tar.getmember(member.linkname)
    if not whole.isfile():
        msg = f"the member {member.name!r} is neither file, folder nor link"
        raise tarfile.TarError(msg)

    def open_member() -> IO[bytes]:
        stream = tar.extractfile(whole)
        assert stream is not None  # noqa: S101 - a file, as checked above
        return stream

    executable = bool(whole.mode & 0o111)
    return _Item(path=path, executable=executable, size=whole.size, open=open_member)


@contextmanager
def _zip_items(archive: Path) -> Iterator[Iterator[_Item]]:
    with zipfile.ZipFile(archive) as zipped:
        yield (_zip_item(zipped, member) for member in zipped.infolist())


def _zip_item(zipped: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Item:
    path = _safe(member.filename)
    mode = member.external_attr >> 16
    if member.is_dir():
        return _Item(path=path)
    if stat.S_ISLNK(mode):
        return _Item(path=path, link=zipped.read(member).decode(errors="replace"))
    return _Item(
        path=path,
        executable=bool(mode & 0o111),
        size=member.file_size,
        open=lambda: zipped.open(member),
    )


@contextmanager
def _single_item(file: Path) -> Iterator[Iterator[_Item]]:
    yield iter([_Item(path=".", size=file.stat().st_size, open=lambda: file.open("rb"))])


def _safe(name: str) -> str:
    """Return the path of a member without ``./``; refuse one that leaves its folder."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or "\0" in name:
        msg = f"the member {name!r} leaves the archive's folder"
        raise tarfile.TarError(msg)
    return "/".join(parts) or "."


def _stripped(path: str, count: int) -> str | None:
    """Return *path* without its first *count* folders, None for these folders themselves."""
    if path == ".":
        return path if not count else None
    return "/".join(path.split("/")[count:]) or None


def _place(path: str | None, source: str, target: str) -> str | None:
    """Return where *path* of the archive goes when *source* goes to *target*, None if nowhere."""
    top = target.lstrip("/")
    if path is None or (path == "." and source != "."):
        return None
    if path == source:
        return top
    if source == ".":
        return f"{top}/{path}"
    return f"{top}/{path[len(source) + 1 :]}" if path.startswith(f"{source}/") else None


def _omitted(path: str, tool: Tool) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in tool.omit)


def _refuse_escape(owner: str, path: str, link: str, *, top: str) -> None:
    """Refuse a *link* of an archive that points out of what the archive brings."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    if link.startswith("/") or not (target == top or target.startswith(f"{top}/")):
        msg = f"'{owner}' has a link /{path} that points out of it, to {link!r}."
        raise BuildError(msg, hint="Leave it out with 'omit' in tools.lock, or do not use it.")
