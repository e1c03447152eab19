"""Promotion into a folder: the template cache of the very node, or any path."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hakim_actions.errors import ConfigurationError, PromotionError
from hakim_actions.promote.base import Landed, Obtain, OnBytes, Proof, Settings, Survey, Way
from hakim_actions.promote.source import Template
from hakim_actions.promote.state import Stored
from hakim_actions.system import files

#: Where Proxmox VE's storage "local" keeps container templates.
DEFAULT_FOLDER: Final = Path("/var/lib/vz/template/cache")
_CHUNK: Final = 1024 * 1024


def connect(settings: Settings) -> "Directory":
    """Return the folder of *settings*; raise ConfigurationError when it cannot be written."""
    folder = settings.folder or DEFAULT_FOLDER
    if not folder.is_dir():
        msg = f"--path: '{folder}' is not a folder."
        raise ConfigurationError(msg, hint="Make it first, so that a typing error makes none.")
    return Directory(files.writable_folder(folder, option="--path"))


@dataclass(frozen=True)
class Directory:
    """A folder as target and as its only store: writes go beside, are checked, then renamed."""

    folder: Path
    #: A hard link costs nothing, so every version stays until prune takes it.
    keeps_versions: bool = True

    @property
    def name(self) -> str:
        """The path."""
        return str(self.folder)

    @property
    def label(self) -> str:
        """The path."""
        return str(self.folder)

    def stop(self) -> None:
        """Do nothing: an interrupted copy leaves nothing anyway."""

    def close(self) -> None:
        """Do nothing: a folder holds no connection."""

    def survey(self, templates: Sequence[Template], *, prune: bool = False) -> Survey:
        """Return this folder; nothing stands in the way that connect did not find."""
        return Survey(stores=[self])

    def fits(self, template: Template) -> bool:
        """Take every architecture: who knows what will boot from a folder."""
        return True

    def room(self) -> int | None:
        """Return what this user may still write."""
        return files.free_bytes(self.folder)

    def way(self, template: Template) -> tuple[Way, str]:
        """Copy what is here, download the rest."""
        return Way.COPY, "from this machine" if template.path else "downloaded here first"

    def listing(self) -> dict[str, Stored]:
        """Return the archives in the folder."""
        found = {}
        for path in sorted(self.folder.glob("*.tar.*")):
            with contextlib.suppress(FileNotFoundError):
                found[path.name] = _stored(path)
        return found

    def prove(self, file: str, template: Template) -> bool | None:
        """Hash *file*."""
        return files.sha256_file(self.folder / file) == template.sha256

    def bring(self, template: Template, file: str, *, obtain: Obtain, on_bytes: OnBytes) -> Landed:
        """Copy *template* to *file*, which is there only when its checksum is right."""
        with obtain(template).open("rb") as origin, _writing(self.folder / file) as copy:
            shutil.copyfileobj(origin, copy, _CHUNK)
            if _sha256_so_far(copy) != template.sha256:
                msg = f"{file} was damaged on its way to {self.folder}."
                raise PromotionError(msg, hint="Check the disks of this machine.")
        on_bytes(template, template.size)
        return self._landed(file)

    def swap(
        self,
        template: Template,
        file: str,
        *,
        staged: str,
        obtain: Obtain,
        on_bytes: OnBytes,
    ) -> Landed:
        """Give what is *staged* the name *file* too, in one step that nobody sees halfway."""
        beside = self.folder / f".{file}.{os.getpid()}"
        try:
            beside.unlink(missing_ok=True)
            _link(self.folder / staged, beside)
            beside.replace(self.folder / file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            msg = f"{file} was not replaced: {error.strerror}."
            hint = f"The new template is whole as {self.identifier(staged)}."
            raise PromotionError(msg, hint=hint) from None
        on_bytes(template, template.size)
        return self._landed(file)

    def remove(self, file: str) -> None:
        """Delete *file*."""
        (self.folder / file).unlink(missing_ok=True)

    def _landed(self, file: str) -> Landed:
        return Landed(stored=_stored(self.folder / file), proof=Proof.SHA256)

    def identifier(self, file: str) -> str:
        """Return the path."""
        return str(self.folder / file)


def _sha256_so_far(stream: IO[bytes]) -> str:
    """Hash what is in the file behind *stream*, not what was meant to go there."""
    stream.flush()
    with os.fdopen(os.dup(stream.fileno()), "rb") as written:
        written.seek(0)
        return hashlib.file_digest(written, "sha256").hexdigest()


def _stored(path: Path) -> Stored:
    stat = path.stat()
    return Stored(name=path.name, size=stat.st_size, changed=int(stat.st_mtime))


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[IO[bytes]]:
    try:
        with files.replacing(target) as stream:
            yield stream
    except OSError as error:
        msg = f"{target} cannot be written: {error.strerror}."
        raise PromotionError(msg, hint="Make room or give this user the right.") from None


def _link(source: Path, target: Path) -> None:
    """Link, or copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except PermissionError:
        shutil.copyfile(source, target)
