"""The artifacts of all jobs become one release: nothing missing, nothing unknown, all proven.

Every file must be listed in a ``sha256sums.txt``, be there once, and hash to what is listed; its
manifest must agree; all images must come from one commit; and the expected matrix must be covered.
"""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from hakim_actions.errors import ConfigurationError, HakimError, VerificationError
from hakim_actions.index import INDEX_NAME, Index, IndexEntry
from hakim_actions.publish.base import Asset, Publication
from hakim_actions.system import files

#: The roles of an artifact's files in the index, each with its ending.
ROLES: Final = {
    "archive": ".tar.xz",
    "metadata": ".meta.tar.xz",
    "manifest": ".manifest.json",
    "sbom": ".cdx.json",
}
#: Likewise, of files that only some builds make; the manifest says which.
OPTIONAL_ROLES: Final = {"twin": ".tar.zst"}
_MERGED_HINT: Final = (
    "Download the artifacts of a workflow each into a folder of its own (no merge-multiple): "
    "every job writes its own sha256sums.txt."
)


@dataclass
class _Found:
    """What lies in the folders, before any of it is trusted."""

    files: dict[str, Path] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    listed_in: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def consolidate(
    folders: Sequence[Path], *, version: str = "", expected: Collection[ArtifactName] = ()
) -> Publication:
    """Prove the artifacts below *folders* and return them as one release.

    *version* is the tag; without one, that of the ``index.json`` in the first folder or of the
    manifests counts. With *expected*, exactly these images must be there. Raises VerificationError
    that names every problem, or ConfigurationError when a folder cannot be read.
    """
    found = _scan(folders)
    _refuse(found.problems or _prove(found), folders)
    manifests = _manifests(found)
    _refuse([*_agree(found, manifests), *_complete(manifests, expected)], folders)
    written = _written_index(folders[0])
    tag = version or (written.version if written else "") or manifests[0].version
    index = _with_images(_index(tag, manifests, found), written)
    if written is not None and index.to_json() != replace(written, version=tag).to_json():
        msg = f"{folders[0] / INDEX_NAME} does not describe the artifacts beside it."
        raise VerificationError(
            msg, hint="They changed after verify. Run 'hakim-actions verify --consolidate' again."
        )
    return publication(index, found.files, found.sums)


def publication(index: Index, paths: Mapping[str, Path], sums: Mapping[str, str]) -> Publication:
    """Return *index* with its files at *paths*, proven by *sums*, as one release.

    ``index.json`` is listed in ``sha256sums.txt`` like any other file, so that one signature over
    the latter covers the whole release.
    """
    index_asset = _in_memory(INDEX_NAME, index.to_json())
    sums_asset = _in_memory(SUMS_NAME, format_sums({**sums, INDEX_NAME: index_asset.sha256}))
    on_disk = [
        Asset(name=name, size=path.stat().st_size, sha256=sums[name], path=path)
        for name, path in paths.items()
    ]
    assets = sorted([*on_disk, index_asset, sums_asset], key=lambda asset: asset.name)
    return Publication(index=index, assets=tuple(assets))


def with_index(release: Publication, index: Index) -> Publication:
    """Return *release* with another index, and the checksum file that goes with it."""
    paths = {asset.name: asset.path for asset in release.assets if asset.path is not None}
    return publication(index, paths, {name: release.by_name[name].sha256 for name in paths})


def write(release: Publication, folder: Path) -> None:
    """Write ``index.json`` and then the ``sha256sums.txt`` that proves it into *folder*."""
    files.writable_folder(folder, option="The folder of the release")
    for name in (INDEX_NAME, SUMS_NAME):
        files.write_text(folder / name, release.by_name[name].data.decode())


def expected_names(text: str, *, source: str) -> tuple[ArtifactName, ...]:
    """Read the images that a matrix promises: ``{"include": [{variant, release, arch}, …]}``."""
    try:
        rows = json.loads(text)["include"]
        return tuple(ArtifactName(row["variant"], row["release"], row["arch"]) for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{source} is not a matrix: {error}."
        raise ConfigurationError(msg, hint="Give what 'hakim-actions matrix' printed.") from None


def _in_memory(name: str, text: str) -> Asset:
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    return Asset(name=name, size=len(data), sha256=digest, data=data)


def _scan(folders: Sequence[Path]) -> _Found:
    found = _Found()
    for folder in dict.fromkeys(path.resolve() for path in folders):
        if not folder.is_dir():
            msg = f"{folder} is not a folder."
            raise ConfigurationError(msg, hint="Build first, or name the folder of the artifacts.")
        for parent, children, names in os.walk(folder, onerror=_unreadable):
            children[:] = sorted(name for name in children if not name.startswith("."))
            for name in sorted(names):
                _take(found, Path(parent) / name)
    if not found.files:
        listed = ", ".join(map(str, folders))
        msg = f"No artifact in {listed}."
        raise VerificationError(msg, hint="Expected hakim-<variant>-<release>-<arch>.tar.xz files.")
    return found


def _unreadable(error: OSError) -> None:
    msg = f"Unable to read {error.filename}: {error.strerror}."
    raise ConfigurationError(msg, hint="Give this user the right to read the artifacts.")


def _take(found: _Found, path: Path) -> None:
    if path.name == SUMS_NAME:
        _take_sums(found, path)
    elif path.name.startswith("hakim-") and not path.name.endswith(".build.log"):
        if path.is_symlink() or not path.is_file():
            found.problems.append(f"{path} is not a regular file")
        elif path.name in found.files:
            found.problems.append(
                f"{path.name} is there twice: {found.files[path.name]} and {path}"
            )
        else:
            found.files[path.name] = path


def _take_sums(found: _Found, path: Path) -> None:
    try:
        sums = parse_sums(path.read_text(encoding="utf-8"), source=str(path))
    except (HakimError, ValueError) as error:
        found.problems.append(str(error).rstrip("."))
        return
    index_sum = sums.pop(INDEX_NAME, "")
    if index_sum:
        index = path.with_name(INDEX_NAME)
        if not index.is_file() or files.sha256_file(index) != index_sum:
            found.problems.append(f"{index} is missing or not the one that {path} lists")
    for name, digest in sums.items():
        if found.sums.setdefault(name, digest) != digest:
            found.problems.append(
                f"{name} has one checksum in {found.listed_in[name]} and another in {path}:"
                " it changed after it was verified"
            )
        found.listed_in.setdefault(name, path)


def _prove(found: _Found) -> list[str]:
    missing = [
        f"{name} is missing ({found.listed_in[name]} lists it)"
        for name in sorted(found.sums.keys() - found.files.keys())
    ]
    unlisted = [
        f"{found.files[name]} is in no {SUMS_NAME}"
        for name in sorted(found.files.keys() - found.sums.keys())
    ]
    both = sorted(found.files.keys() & found.sums.keys())
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        digests = dict(
            zip(both, pool.map(files.sha256_file, map(found.files.get, both)), strict=True)
        )
    changed = [
        f"{found.files[name]} changed after it was verified: {found.listed_in[name]} says"
        f" sha256 {found.sums[name]}, it has {digests[name]}"
        for name in both
        if digests[name] != found.sums[name]
    ]
    return [*missing, *unlisted, *changed]


def _manifests(found: _Found) -> list[Manifest]:
    manifests = [
        Manifest.from_json(_text(path), source=str(path))
        for name, path in sorted(found.files.items())
        if name.endswith(ROLES["manifest"])
    ]
    return sorted(manifests, key=lambda manifest: manifest.name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        msg = f"{path} is not text."
        raise VerificationError(msg, hint="Build the image again; it writes a new one.") from None


def _agree(found: _Found, manifests: Sequence[Manifest]) -> list[str]:
    """Return where manifests and files contradict each other, and what belongs to no image."""
    problems: list[str] = []
    known: set[str] = set()
    for manifest in manifests:
        names = [manifest.name.stem + ending for ending in _roles(manifest).values()]
        known.update(names)
        problems += [f"{name} is missing" for name in names if name not in found.files]
        problems += [
            f"{manifest.name.manifest} says another sha256 of {record.name} than {SUMS_NAME}"
            for record in manifest.files
            if found.sums.get(record.name, record.sha256) != record.sha256
        ]
    strays = sorted(found.files.keys() - known)
    problems += [f"{found.files[name]} belongs to no manifest" for name in strays]
    commits = {manifest.commit for manifest in manifests}
    if len(commits) > 1:
        made = ", ".join(f"{manifest.name.stem} from {manifest.commit}" for manifest in manifests)
        problems.append(f"the images come from {len(commits)} commits: {made}")
    return problems


def _complete(manifests: Iterable[Manifest], expected: Collection[ArtifactName]) -> list[str]:
    if not expected:
        return []
    there = {manifest.name for manifest in manifests}
    wanted = set(expected)
    missing = [f"{name.stem} is missing: the matrix asks for it" for name in sorted(wanted - there)]
    return missing + [f"{name.stem} is not in the matrix" for name in sorted(there - wanted)]


def _refuse(problems: Sequence[str], folders: Sequence[Path]) -> None:
    if not problems:
        return
    where = ", ".join(map(str, folders))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    msg = f"Not a complete release: {count} in {where}:" + "".join(f"\n  - {it}" for it in problems)
    unlisted = any(f"is in no {SUMS_NAME}" in problem for problem in problems)
    raise VerificationError(
        msg, hint=_MERGED_HINT if unlisted else "Build what is named above again."
    )


def _index(version: str, manifests: Sequence[Manifest], found: _Found) -> Index:
    return Index(
        version=version,
        commit=manifests[0].commit,
        epoch=max(manifest.epoch for manifest in manifests),
        entries=tuple(_entry(manifest, found) for manifest in manifests),
    )


def _entry(manifest: Manifest, found: _Found) -> IndexEntry:
    roles = _roles(manifest)
    records = {role: _record(manifest.name.stem + end, found) for role, end in roles.items()}
    return IndexEntry(
        variant=manifest.variant,
        release=manifest.release,
        arch=manifest.arch,
        content_key=getattr(manifest, "content_key", ""),
        files=records,
        packages=dict(manifest.packages),
        tools=dict(getattr(manifest, "tools", {})),
        missing=tuple(getattr(manifest, "missing", ())),
    )


def _roles(manifest: Manifest) -> Mapping[str, str]:
    """Return the roles and endings of the files that *manifest* promises."""
    made = {record.name.removeprefix(manifest.name.stem) for record in manifest.files}
    return ROLES | {role: end for role, end in OPTIONAL_ROLES.items() if end in made}


def _record(name: str, found: _Found) -> FileRecord:
    return FileRecord(name=name, size=found.files[name].stat().st_size, sha256=found.sums[name])


def _written_index(folder: Path) -> Index | None:
    path = folder / INDEX_NAME
    if not path.is_file():
        return None
    return Index.from_json(_text(path), source=str(path))


def _with_images(index: Index, written: Index | None) -> Index:
    """Keep the OCI references that were recorded for the very same archives."""
    if written is None:
        return index
    known = {(entry.name, entry.archive.sha256): entry.image for entry in written.entries}
    entries = (
        replace(it, image=known.get((it.name, it.archive.sha256), "")) for it in index.entries
    )
    return replace(index, entries=tuple(entries))
