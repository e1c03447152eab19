"""Describes an artifact in a folder of its own, and moves it to where people look for it."""

import shutil
from pathlib import Path

from hakim_actions.artifact import (
    SUMS_NAME,
    ArtifactName,
    FileRecord,
    Manifest,
    format_sums,
    parse_sums,
)
from hakim_actions.errors import VerificationError
from hakim_actions.system import files


def record(path: Path) -> FileRecord:
    """Return name, size and sha256 of *path*."""
    return FileRecord(name=path.name, size=path.stat().st_size, sha256=files.sha256_file(path))


def describe(manifest: Manifest, folder: Path) -> None:
    """Write the manifest, and the checksums of it and of every file it names, into *folder*."""
    path = folder / manifest.name.manifest
    files.write_text(path, manifest.to_json())
    records = (*manifest.files, record(path))
    files.write_text(folder / SUMS_NAME, format_sums({r.name: r.sha256 for r in records}))


def deliver(name: ArtifactName, staged: Path, folder: Path) -> None:
    """Move the described artifact from *staged* into *folder*, which may hold other releases.

    Until the last step the checksum file does not list this artifact, so a run that is killed in
    between leaves files that verify does not accept, never wrong ones that it does.
    """
    sums_file = folder / SUMS_NAME
    new = parse_sums((staged / SUMS_NAME).read_text("utf-8"), source=SUMS_NAME)
    others = _sums_without(name, sums_file)
    if sums_file.exists():
        files.write_text(sums_file, format_sums(others))
    for file_name in new:
        shutil.move(staged / file_name, folder / f".{file_name}.new")
    for file_name in new:
        (folder / f".{file_name}.new").replace(folder / file_name)
    if name.twin not in new:
        (folder / name.twin).unlink(missing_ok=True)  # that of an earlier build
    files.write_text(sums_file, format_sums({**others, **new}))


def _sums_without(name: ArtifactName, sums_file: Path) -> dict[str, str]:
    try:
        known = parse_sums(sums_file.read_text("utf-8"), source=str(sums_file))
    except (OSError, VerificationError):
        return {}  # a damaged file proves nothing about the others either
    return {key: value for key, value in known.items() if not key.startswith(f"{name.stem}.")}
