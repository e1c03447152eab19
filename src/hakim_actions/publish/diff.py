"""What changed between two releases or two images: packages, tools, size."""

import json
import lzma
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, Literal

from hakim_actions.artifact import ArtifactName, Manifest
from hakim_actions.errors import ConfigurationError, HakimError, VerificationError
from hakim_actions.index import INDEX_NAME, Index, IndexEntry
from hakim_actions.publish import dpkg

_STATUS: Final = "var/lib/dpkg/status"
#: A status file is a few MB; more than this is not one.
_STATUS_LIMIT: Final = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One image at one time; *tools* is None where they cannot be known, *size* is in bytes."""

    name: ArtifactName
    size: int
    packages: Mapping[str, str]
    tools: Mapping[str, str] | None


Kind = Literal["added", "removed", "upgraded", "downgraded", "changed"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A package or a tool whose version is another one now; empty means: not there."""

    name: str
    old: str
    new: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class ImageDiff:
    """What changed in one image. A size of None: the image was not there."""

    name: str
    old_size: int | None
    new_size: int | None
    packages: tuple[Change, ...] = ()
    tools: tuple[Change, ...] = ()

    @property
    def same(self) -> bool:
        """Nothing changed but, at most, the size."""
        there = self.old_size is not None and self.new_size is not None
        return there and not self.packages and not self.tools


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What changed from *old* to *new* (what they are called), image by image."""

    old: str
    new: str
    images: tuple[ImageDiff, ...]

    def to_json(self) -> str:
        """Return it as indented JSON with a final newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def compare(
    old: Sequence[Snapshot], new: Sequence[Snapshot], *, names: tuple[str, str]
) -> Difference:
    """Compare all images of *old* with those of *new*; *names* is what to call the two."""
    before = {image.name: image for image in old}
    after = {image.name: image for image in new}
    if len(before) == len(after) == 1:
        # Two single images were named to be compared, whatever they are called.
        images = [_image(*before.values(), *after.values())]
    else:
        every = sorted(before.keys() | after.keys())
        images = [_image(before.get(name), after.get(name)) for name in every]
    return Difference(old=names[0], new=names[1], images=tuple(images))


def of_index(index: Index) -> list[Snapshot]:
    """Return the images of a release."""
    return [_of_entry(entry) for entry in index.entries]


def read(path: Path) -> tuple[str, list[Snapshot]]:
    """Read *path* and return what to call it, and its images.

    A manifest, an index, an archive, or a folder that holds an index or manifests.
    """
    if path.is_dir():
        return _folder(path)
    try:
        if path.name.endswith(".tar.xz"):
            return path.name, [_archive(path)]
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        msg = f"Unable to read {path}: {reason}."
        raise ConfigurationError(
            msg, hint="Give a manifest, an index.json, an archive, or a folder with them."
        ) from None
    if _is_index(text):
        index = Index.from_json(text, source=str(path))
        return index.version, of_index(index)
    manifest = Manifest.from_json(text, source=str(path))
    return manifest.version or path.name, [_of_manifest(manifest)]


def _folder(path: Path) -> tuple[str, list[Snapshot]]:
    if (path / INDEX_NAME).is_file():
        return read(path / INDEX_NAME)
    found = sorted(path.rglob("*.manifest.json"))
    if not found:
        msg = f"{path} holds neither {INDEX_NAME} nor a manifest."
        raise ConfigurationError(msg, hint="Give the output folder of build, or a release.")
    read_all = [read(manifest) for manifest in found]
    versions = {version for version, _ in read_all}
    images = [image for _, images in read_all for image in images]
    return versions.pop() if len(versions) == 1 else str(path), images


def _is_index(text: str) -> bool:
    try:
        return "entries" in json.loads(text)
    except (ValueError, TypeError):
        return False


def _of_manifest(manifest: Manifest) -> Snapshot:
    sizes = {record.name: record.size for record in manifest.files}
    return Snapshot(
        name=manifest.name,
        size=sizes.get(manifest.name.archive, 0),
        packages=manifest.packages,
        tools=getattr(manifest, "tools", {}),
    )


def _of_entry(entry: IndexEntry) -> Snapshot:
    return Snapshot(
        name=entry.name, size=entry.archive.size, packages=entry.packages, tools=entry.tools
    )


def _archive(path: Path) -> Snapshot:
    """Read the dpkg database of an archive, as a stream: nothing is unpacked."""
    try:
        name = ArtifactName.parse(path.name)
    except HakimError:
        name = ArtifactName(path.name, "", "")
    try:
        with tarfile.open(path, mode="r|xz") as archive:
            for member in archive:
                if member.name.removeprefix("./") == _STATUS and member.isreg():
                    status = archive.extractfile(member)
                    assert status is not None  # noqa: S101 - regular files have content
                    packages = _packages(status, path)
                    return Snapshot(
                        name=name, size=path.stat().st_size, packages=packages, tools=None
                    )
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        msg = f"{path} is not a readable .tar.xz: {error}."
        raise VerificationError(msg, hint="Download or build it again.") from None
    msg = f"{path} has no {_STATUS}."
    raise VerificationError(msg, hint="Only archives of a Debian root file system can be compared.")


def _packages(status: IO[bytes], path: Path) -> dict[str, str]:
    text = status.read(_STATUS_LIMIT + 1)
    if len(text) > _STATUS_LIMIT:
        msg = f"{path}: {_STATUS} has more than {_STATUS_LIMIT} bytes."
        raise VerificationError(msg, hint="This is not the archive of a Debian root file system.")
    paragraphs = [_fields(it) for it in text.decode(errors="replace").split("\n\n") if it.strip()]
    installed = [it for it in paragraphs if it.get("Status", "").endswith(" installed")]
    native = {it["Architecture"] for it in installed if it.get("Package") == "dpkg"} | {"all"}
    return {_label(it, native): it["Version"] for it in installed}


def _fields(paragraph: str) -> dict[str, str]:
    lines = (line.partition(": ") for line in paragraph.splitlines() if not line[:1].isspace())
    return {name: value for name, _, value in lines}


def _label(fields: Mapping[str, str], native: set[str]) -> str:
    name, architecture = fields["Package"], fields["Architecture"]
    return name if architecture in native else f"{name}:{architecture}"


def _image(old: Snapshot | None, new: Snapshot | None) -> ImageDiff:
    one = new or old
    assert one is not None  # noqa: S101 - a name comes from one of the two
    if old is None or new is None:
        return ImageDiff(
            name=one.name.stem,
            old_size=old.size if old else None,
            new_size=new.size if new else None,
        )
    return ImageDiff(
        name=new.name.stem,
        old_size=old.size,
        new_size=new.size,
        packages=tuple(_changes(old.packages, new.packages, ordered=True)),
        tools=tuple(_changes(old.tools, new.tools, ordered=False)),
    )


def _changes(
    old: Mapping[str, str] | None, new: Mapping[str, str] | None, *, ordered: bool
) -> Iterator[Change]:
    """Yield what differs, by name. Versions of tools have no common order, so theirs 'changed'."""
    if old is None or new is None:
        return
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, ""), new.get(name, "")
        if before != after:
            yield Change(
                name=name, old=before, new=after, kind=_kind(before, after, ordered=ordered)
            )


def _kind(before: str, after: str, *, ordered: bool) -> Kind:
    if not before:
        return "added"
    if not after:
        return "removed"
    if not ordered:
        return "changed"
    return "upgraded" if dpkg.sort_key(after) > dpkg.sort_key(before) else "downgraded"


def counts(changes: Iterable[Change]) -> dict[str, int]:
    """Return how many changes there are of each kind, in a fixed order, without zeros."""
    kinds = [change.kind for change in changes]
    order: tuple[Kind, ...] = ("added", "removed", "upgraded", "downgraded", "changed")
    return {kind: kinds.count(kind) for kind in order if kind in kinds}
