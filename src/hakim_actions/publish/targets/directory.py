"""A folder that any web server can serve: mirrors, air-gapped sites, and the first try at home.

``<folder>/<version>/`` appears by one rename, complete and on disk; ``latest`` and ``index.html``
follow. A run that dies leaves a hidden folder which the next run completes.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hakim_actions.errors import ConfigurationError, HakimError, PublishError
from hakim_actions.index import INDEX_NAME, Index
from hakim_actions.publish import site, versions
from hakim_actions.publish.base import (
    DEFAULT_FOLDER,
    Asset,
    Plan,
    Publication,
    Published,
    Settings,
    Step,
    Target,
    other_content,
)
from hakim_actions.system import files
from hakim_actions.system.progress import Progress

LATEST: Final = "latest"
PAGE: Final = "index.html"
_LOCK: Final = ".lock"
_NOTES: Final = "RELEASE.md"
#: In an unfinished folder: the sha256 of the sha256sums.txt it was started for.
_MARKER: Final = ".publication"
_PIECE: Final = 1 << 20


def open_target(settings: Settings) -> Target:
    """Return the target for the folder ``settings.to``; nothing is written yet."""
    return DirectoryTarget(Path(settings.to or DEFAULT_FOLDER), settings)


class DirectoryTarget:
    """Releases below one folder."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Publish below *folder*."""
        self._folder = folder
        self._settings = settings

    def previous(self, version: str) -> Index | None:
        """Return the index of the newest release before *version*; None when there is none."""
        tag = versions.before(version, [index.version for index in self._indexes()])
        return next((index for index in self._indexes() if index.version == tag), None)

    def base_url(self, version: str) -> str:
        """Return the folder as a URL: only this machine knows how others reach it."""
        return f"{(self._folder / version).resolve().as_uri()}/"

    def generated_notes(self, publication: Publication) -> str:
        """Return nothing: a folder has nothing to add."""
        return ""

    def plan(self, publication: Publication) -> Plan:
        """Compare file by file with what is there; see :class:`Target`."""
        versions.folder_name(publication.version)
        final = self._folder / publication.version
        if final.exists():
            self._refuse_other(final, publication)
            return Plan(destination=str(final), steps=())
        partial = self._partial(publication)
        there = _complete(partial, publication)
        self._check_draft(partial, publication)
        sent = [
            Step(action="keep", name=asset.name, why="there, same sha256")
            if asset.name in there
            else Step(action="send", name=asset.name, size=asset.size)
            for asset in publication.assets
        ]
        plan = Plan(
            destination=str(final),
            steps=(*sent, Step(action="publish", name=publication.version, why="by one rename")),
        )
        self._check_room(plan)
        return plan

    def publish(self, publication: Publication, *, notes: str, progress: Progress) -> Published:
        """Copy, prove, rename; see :class:`Target`."""
        files.writable_folder(self._folder, option="--to")
        final = self._folder / publication.version
        with files.locked(self._folder / _LOCK, purpose=f"A publication to {self._folder}"):
            plan = self.plan(publication)
            try:
                if plan.steps:
                    self._fill(publication, notes, progress)
                self._finish()
            except OSError as error:
                msg = f"Unable to publish to {final}: {error.strerror or error}."
                raise PublishError(msg, hint="Nothing was published half. Run it again.") from None
        return Published(url=str(final), changed=bool(plan.steps))

    def _partial(self, publication: Publication) -> Path:
        return self._folder / f".{publication.version}.partial"

    def _refuse_other(self, final: Path, publication: Publication) -> None:
        there = _complete(final, publication)
        differs = sorted(publication.by_name.keys() - there)
        extra = sorted(
            {path.name for path in final.iterdir()} - publication.by_name.keys() - {_NOTES}
        )
        if differs or extra:
            raise other_content(
                publication.version, str(self._folder), differs=", ".join([*differs, *extra][:3])
            )

    def _check_draft(self, partial: Path, publication: Publication) -> None:
        """What an unfinished run left must be of the same files, or may be thrown away."""
        marker = partial / _MARKER
        made_for = marker.read_text(encoding="utf-8") if marker.is_file() else ""
        if not partial.exists() or made_for == publication.digest or self._settings.replace_draft:
            return
        if not made_for:
            return  # it died before the first file
        msg = f"{partial} holds an unfinished {publication.version} with other content."
        raise PublishError(msg, hint="--replace-draft throws it away and starts again.")

    def _check_room(self, plan: Plan) -> None:
        free = files.free_bytes(self._folder)
        if plan.to_send > free:
            msg = f"{self._folder} has room for {free} bytes, the release needs {plan.to_send}."
            raise PublishError(msg, hint="Make room, or choose another folder (--to).")

    def _fill(self, publication: Publication, notes: str, progress: Progress) -> None:
        partial = self._partial(publication)
        marker = partial / _MARKER
        if not marker.is_file() or marker.read_text(encoding="utf-8") != publication.digest:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            files.write_text(marker, publication.digest)
        done = _complete(partial, publication)
        for path in partial.iterdir():
            if path.name not in done and path != marker:
                path.unlink()
        with progress.phase(f"Copying {len(publication.assets) - len(done)} files"):
            for asset in publication.assets:
                if asset.name not in done:
                    _copy(asset, partial)
        files.write_text(partial / _NOTES, notes)
        self._rename(partial, publication)

    def _rename(self, partial: Path, publication: Publication) -> None:
        missing = sorted(publication.by_name.keys() - _complete(partial, publication))
        if missing:
            msg = f"{partial} does not read back: {', '.join(missing)}."
            raise PublishError(msg, hint="Nothing was published. Is the disk healthy?")
        (partial / _MARKER).unlink()
        _sync(partial)
        partial.rename(self._folder / publication.version)
        _sync(self._folder)

    def _finish(self) -> None:
        """Point ``latest`` at the newest full release and write the page over all of them."""
        indexes = self._indexes()
        full = [it.version for it in indexes if not versions.is_prerelease(it.version)]
        newest = max(full, key=lambda tag: versions.sort_key(tag) or ((), False, ()), default="")
        if newest:
            _point(self._folder / LATEST, newest)
        files.write_text(self._folder / PAGE, site.render(indexes))

    def _indexes(self) -> Sequence[Index]:
        found = sorted(self._folder.glob(f"[!.]*/{INDEX_NAME}"))
        return [_index(path) for path in found if not path.parent.is_symlink()]


def _index(path: Path) -> Index:
    try:
        return Index.from_json(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, HakimError) as error:
        msg = f"{path} cannot be read: {error}"
        raise ConfigurationError(
            msg, hint="Only releases of hakim-actions may lie in this folder."
        ) from None


def _complete(folder: Path, publication: Publication) -> set[str]:
    """Return the names of the files in *folder* that are proven to be those of the release."""
    return {
        asset.name
        for asset in publication.assets
        if (path := folder / asset.name).is_file()
        and path.stat().st_size == asset.size
        and files.sha256_file(path) == asset.sha256
    }


def _copy(asset: Asset, folder: Path) -> None:
    """Copy *asset*; what is written is hashed on its way, so that a changed source is noticed."""
    digest = hashlib.sha256()
    with asset.open() as source, files.replacing(folder / asset.name) as target:
        while piece := source.read(_PIECE):
            digest.update(piece)
            target.write(piece)
        if digest.hexdigest() != asset.sha256:
            msg = f"{asset.path or asset.name} changed while it was copied."
            raise PublishError(msg, hint="Nothing was published. Verify the artifacts again.")


def _point(link: Path, name: str) -> None:
    """Make *link* point at *name* by one rename, so that it is never missing."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(link)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
