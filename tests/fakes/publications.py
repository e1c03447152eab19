"""Artifacts as build leaves them, small: for everything that comes after building."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hakim_actions.artifact import (
    SUMS_NAME,
    ArtifactName,
    FileRecord,
    Manifest,
    format_sums,
    parse_sums,
)
from hakim_actions.publish.base import Publication
from hakim_actions.publish.consolidate import consolidate

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
EPOCH: Final = 1_767_225_600
PACKAGES: Final = {"bash": "5.2.37-2+b5", "openssl": "3.5.1-1", "libc6": "2.41-12"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """One artifact to write; ``archive`` is the content of its .tar.xz."""

    variant: str = "base"
    release: str = "trixie"
    arch: str = "amd64"
    version: str = "v1.2.0"
    commit: str = COMMIT
    archive: bytes = b"archive"
    packages: Mapping[str, str] = field(default_factory=lambda: dict(PACKAGES))

    @property
    def name(self) -> ArtifactName:
        return ArtifactName(self.variant, self.release, self.arch)


def write(folder: Path, made: Made, *, exact: bool = False) -> Path:
    """Write *made* below ``folder/<variant>`` with its checksums, and return that folder.

    Unless *exact*, each archive ends in its name, so that no two are the same.
    """
    target = folder / made.variant
    target.mkdir(parents=True, exist_ok=True)
    contents = {
        made.name.archive: made.archive + (b"" if exact else made.name.stem.encode()),
        made.name.metadata: b"metadata " + made.name.stem.encode(),
        made.name.sbom: b'{"bomFormat": "CycloneDX"}\n',
    }
    records = tuple(
        FileRecord(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    )
    contents[made.name.manifest] = manifest(made, records).to_json().encode()
    for name, data in contents.items():
        (target / name).write_bytes(data)
    (target / made.name.build_log).write_text("I: Retrieving InRelease\n")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    listing = target / SUMS_NAME
    if listing.exists():
        sums = {**parse_sums(listing.read_text(), source="the fixture"), **sums}
    listing.write_text(format_sums(sums))
    return target


def _record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def add_twin(folder: Path, made: Made, *, told: bool = True) -> Path:
    """Put a .tar.zst beside *made* as ``build --zstd`` does, and return it.

    Unless *told*, the manifest knows nothing of it.
    """
    target = folder / made.variant
    twin = target / made.name.twin
    twin.write_bytes(b"twin of " + made.name.stem.encode())
    path, listing = target / made.name.manifest, target / SUMS_NAME
    if told:
        before = Manifest.from_json(path.read_text(), source=path.name)
        files = (*before.files, _record(twin))
        path.write_text(replace(before, files=files).to_json())
    sums = parse_sums(listing.read_text(), source="the fixture")
    changed = {it.name: _record(it).sha256 for it in (twin, path)}
    listing.write_text(format_sums({**sums, **changed}))
    return twin


def manifest(made: Made, records: Sequence[FileRecord] = ()) -> Manifest:
    """Return the manifest that build would have written for *made*."""
    return Manifest(
        variant=made.variant,
        release=made.release,
        arch=made.arch,
        version=made.version,
        commit=made.commit,
        epoch=EPOCH,
        distrobuilder="3.4.0",
        files=tuple(records),
        packages=made.packages,
    )


def write_all(folder: Path, *variants: str, base: Made | None = None) -> Path:
    """Write one artifact a variant, like *base*, and return *folder*."""
    for variant in variants or ("base",):
        write(folder, replace(base or Made(), variant=variant))
    return folder


def publication(folder: Path, *variants: str, version: str = "v1.2.0") -> Publication:
    """Write the artifacts of *variants* and return them consolidated."""
    return consolidate([write_all(folder, *variants)], version=version)
