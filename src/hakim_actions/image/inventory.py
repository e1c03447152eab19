"""What a root file system contains, read from its tar: Debian packages and who owns which file."""

import lzma
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from hakim_actions.errors import BuildError
from hakim_actions.image import dpkg, tar

_STATUS: Final = b"var/lib/dpkg/status"
_INFO: Final = b"var/lib/dpkg/info/"
#: More than any dpkg database has, and little enough to hold in memory.
_SIZE_LIMIT: Final = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """*packages* maps ``name`` (``name:arch`` where foreign) of what is installed to its version.

    *owners* maps the path of a file as it stands in the tar, without ``./``, to the package that
    brought it. Conffiles count; a path that several packages list belongs to the first by name.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    owners: Mapping[bytes, str] = field(default_factory=dict)

    @classmethod
    def of_tar(cls, source: Path) -> Self:
        """Read *source*, an uncompressed tar: its headers and the dpkg database, nothing else."""
        with tar.opened(source) as read_at:
            return cls._of(tar.reading_ahead(read_at), source=source.name)

    @classmethod
    def of_xz(cls, stream: IO[bytes], *, source: str) -> Self:
        """Read a ``.tar.xz`` from *stream*, going forward only; *source* names it in errors."""
        try:
            with lzma.open(stream) as plain:
                return cls._of(tar.stream_reader(plain), source=source)
        except (lzma.LZMAError, EOFError) as error:
            msg = f"{source} is not a whole .xz file: {error}"
            raise BuildError(msg, hint="Build it again, or fetch it again.") from None

    @classmethod
    def _of(cls, read_at: tar.ReadAt, *, source: str) -> Self:
        reader = InventoryReader(read_at)
        for member in tar.scan(read_at, source=source):
            reader.notice(member)
        return cls(packages=reader.packages(), owners=reader.owners())


class InventoryReader:
    """Collects the dpkg database while somebody else goes through the members of a tar."""

    def __init__(self, read_at: tar.ReadAt) -> None:
        """Read what is noticed with *read_at*."""
        self._read_at = read_at
        self._status = b""
        self._lists: dict[str, bytes] = {}
        self._merged: dict[bytes, bytes] = {}

    def notice(self, member: tar.Member) -> None:
        """Keep *member* if it tells about packages; call it before the next one is asked for."""
        path = member.path
        if path.startswith(_INFO) and path.endswith((b".list", b".conffiles")):
            package = path[len(_INFO) :].rpartition(b".")[0].decode(errors="replace")
            self._lists[package] = self._lists.get(package, b"") + self._content(member)
        elif path == _STATUS:
            self._status = self._content(member)
        elif member.kind == tar.SYMLINK and b"/" not in path:
            self._merged[path] = member.link.strip(b"/")

    def _content(self, member: tar.Member) -> bytes:
        if member.size > _SIZE_LIMIT or member.kind != tar.FILE:
            msg = f"./{os.fsdecode(member.path)} is not a file of the dpkg database."
            raise BuildError(msg, hint=f"Expected a file of at most {_SIZE_LIMIT >> 20} MiB.")
        return self._read_at(member.offset, member.size)

    def packages(self) -> dict[str, str]:
        """Return the version of each installed package, sorted by name."""
        known = dpkg.parse_status(self._status.decode(errors="replace"))
        installed = [package for package in known if package.status == "installed"]
        machines = Counter(package.arch for package in installed if package.arch != "all")
        native = machines.most_common(1)[0][0] if machines else "all"
        named = dpkg.by_name(installed, native=native)
        return {name: named[name].version for name in sorted(named)}

    def needed(self, names: Collection[str]) -> frozenset[str]:
        """Return *names*, what every Debian has, and what these depend on; see :mod:`dpkg`."""
        return dpkg.needed(self._status.decode(errors="replace"), names)

    def owners(self) -> dict[bytes, str]:
        """Return the package of each path, also of what dpkg keeps about the package itself."""
        owners: dict[bytes, str] = {}
        for package in sorted(self._lists):
            for line in self._lists[package].splitlines():
                owners.setdefault(self._in_tar(line.strip(b"/")), package)
        return owners

    def _in_tar(self, path: bytes) -> bytes:
        """Return where *path* is in the tar: dpkg lists ``/bin/x``, the file is in ``usr/bin``.

        See https://wiki.debian.org/UsrMerge.
        """
        top, slash, rest = path.partition(b"/")
        return self._merged.get(top, top) + slash + rest if slash else path
