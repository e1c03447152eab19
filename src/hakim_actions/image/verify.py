"""Verifies artifacts on disk: that they are all there, that they are whole, and what they are.

Nothing stops at the first problem: every rule that a file breaks is in the report.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from hakim_actions.artifact import SUMS_NAME, Manifest, parse_sums
from hakim_actions.errors import VerificationError
from hakim_actions.image import checksums, rules_manifest, zstd
from hakim_actions.image.entries import EntryStore
from hakim_actions.image.openfile import UnusableFileError, open_inside
from hakim_actions.image.rules import Failure, Rule
from hakim_actions.image.structure import check_structure
from hakim_actions.image.xzreader import XzReader
from hakim_actions.image.xzstreams import Observer
from hakim_actions.index import INDEX_NAME
from hakim_actions.system.process import ProcessError
from hakim_actions.system.progress import Progress, Silent

#: The longest text that is read whole: checksums or a manifest (bytes).
_MAX_TEXT: Final = 64 << 20


@dataclass(frozen=True, kw_only=True)
class CheckedFile:
    """A file that was read: *size* in bytes, and whether its sha256 stands in a checksum file.

    *missing* is what the manifest of an archive says was left out of it.
    """

    path: Path
    size: int
    sha256: str
    listed: bool
    seconds: float
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All files that were read, and every rule that is broken; none when all is well."""

    checked: tuple[CheckedFile, ...]
    failures: tuple[Failure, ...]

    def require(self) -> None:
        """Raise VerificationError when a rule is broken; it tells of the first."""
        if self.failures:
            first = self.failures[0]
            more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
            msg = f"{first.file}: {first.found}, expected {first.expected}{more}."
            raise VerificationError(msg, hint=f"Rule {first.rule}: {first.why}")


def verify_paths(
    paths: Sequence[Path],
    *,
    checksums_only: bool = False,
    progress: Progress | None = None,
    observe_unpacked: Observer | None = None,
    kept: EntryStore | None = None,
) -> VerifyReport:
    """Verify each of *paths*: an archive, a folder with artifacts, or a folder of such folders.

    An archive that is named by itself is compared with the checksum file beside it if there is
    one; with *checksums_only* there must be one. *observe_unpacked* gets the tar inside an archive
    while that is read, up to the first byte that cannot be right. Streams whose content *kept* has
    are not unpacked again.
    """
    verification = _Verification(
        checksums_only=checksums_only,
        progress=progress or Silent(),
        observers=() if observe_unpacked is None else (observe_unpacked,),
        kept=kept,
    )
    for path in paths:
        with verification.telling(path):
            if path.is_dir():
                verification.tree(path)
            else:
                verification.archive(path)
    return VerifyReport(checked=tuple(verification.checked), failures=tuple(verification.failures))


def _is_hidden(path: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _is_listed_below(folder: Path, name: str, sha256: str) -> bool:
    """Tell whether a folder below *folder* has *name* and lists it with the same *sha256*.

    The index of a release may stand above the folders of the jobs that made its files; each of
    those is verified by itself.
    """
    for path in folder.rglob(name):
        with contextlib.suppress(OSError, ValueError, VerificationError):
            text = (path.parent / SUMS_NAME).read_text("utf-8")
            if parse_sums(text, source=SUMS_NAME).get(name) == sha256:
                return True
    return False


@dataclass
class _Verification:
    checksums_only: bool
    progress: Progress
    observers: Sequence[Observer] = ()
    kept: EntryStore | None = None
    checked: list[CheckedFile] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unpacked: dict[Path, tuple[int, str]] = field(default_factory=dict)
    """Size and sha256 of what each archive unpacked to."""

    @contextlib.contextmanager
    def telling(self, path: Path) -> Iterator[None]:
        """Make a failure of what the system refuses in the block, instead of ending everything."""
        try:
            yield
        except (UnusableFileError, OSError) as error:
            found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            expected = "a regular file that this user may read"
            self._fail(checksums.USABLE, getattr(error, "filename", None) or path, found, expected)

    def tree(self, top: Path) -> None:
        """Verify *top* if artifacts are in it, and every folder below it that has some.

        Hidden folders are work in progress.
        """
        below = sorted(p for p in top.rglob("*") if p.is_dir() and not _is_hidden(p, top))
        empty = True
        for folder in (top, *below):
            with self.telling(folder):
                if checksums.holds_artifacts(folder):
                    empty = False
                    self._folder(folder)
        if empty:
            found = f"neither hakim-*.tar.xz nor {SUMS_NAME}"
            self._fail(checksums.FOUND, top, found, "artifacts as build leaves them")

    def archive(self, path: Path) -> None:
        """Verify the one archive *path*."""
        sums = self._sums(path.parent, required=self.checksums_only)
        self._unlisted(path.parent, {path.name}, sums)
        self._files(path.parent, [path.name], sums=sums or {}, archives={path.name})

    def _folder(self, folder: Path) -> None:
        present = {path.name for path in folder.iterdir()}
        sums = self._sums(folder, required=True)
        self._unlisted(folder, set(filter(checksums.must_be_listed, present)), sums)
        listed = set(sums or {})
        for name in sorted(listed - present):
            if INDEX_NAME in present and _is_listed_below(folder, name, (sums or {})[name]):
                continue
            self._fail(checksums.LISTED_FILES, folder / name, "no such file", "the listed file")
        archives = set(filter(checksums.is_archive, present))
        if not archives and not any(map(checksums.is_archive, listed)):
            self._fail(checksums.FOUND, folder, "no hakim-*.tar.xz", "an archive")
        names = sorted(archives | (listed & present))
        self._files(folder, names, sums=sums or {}, archives=archives)

    def _sums(self, folder: Path, *, required: bool) -> dict[str, str] | None:
        """Return the checksums in *folder*; without a file that can be read, None."""
        path = folder / SUMS_NAME
        if not path.exists() and not path.is_symlink():
            if required:
                self._fail(checksums.PRESENT, path, "no such file", "as sha256sum writes it")
            return None
        text = self._text(path)
        try:
            return None if text is None else parse_sums(text, source=SUMS_NAME)
        except VerificationError as error:
            self._fail(checksums.READABLE, path, error.message, error.hint)
            return None

    def _unlisted(self, folder: Path, names: set[str], sums: Mapping[str, str] | None) -> None:
        if sums is not None:
            for name in sorted(names - sums.keys()):
                expected = f"a line for it in {SUMS_NAME}"
                self._fail(checksums.COMPLETE, folder / name, "not listed", expected)

    def _files(
        self, folder: Path, names: Sequence[str], *, sums: Mapping[str, str], archives: set[str]
    ) -> None:
        """Read every file once, then compare what was read with the manifests."""
        manifests = {name: self._manifest(folder, name) for name in sorted(archives)}
        read = {}
        for name in names:
            structure = name in archives and not self.checksums_only
            with self.progress.phase(f"Verify {folder / name}"):
                checked = self._file(
                    folder / name, sums.get(name), structure=structure, manifest=manifests.get(name)
                )
            if checked is not None:
                read[name] = checked
        self.checked += read.values()
        sizes = {name: (checked.size, checked.sha256) for name, checked in read.items()}
        for name, manifest in manifests.items():
            if manifest is not None and name in read:
                for finding in rules_manifest.compare_files(manifest, name, sizes):
                    self._fail(rules_manifest.FILES, folder / name, *finding)

    def _file(
        self, path: Path, expected: str | None, *, structure: bool, manifest: Manifest | None
    ) -> CheckedFile | None:
        start = time.monotonic()
        with self.telling(path), open_inside(path) as (stream, size):
            if structure:
                sha256 = self._structure(path, stream, size, manifest)
            else:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                if zstd.is_twin(path.name) and not self.checksums_only:
                    self._twin(path, stream)
            if expected is not None and sha256 != expected:
                self._fail(checksums.MATCH, path, f"{sha256} ({size} bytes)", expected)
            return CheckedFile(
                path=path,
                size=size,
                sha256=sha256,
                listed=expected is not None,
                seconds=round(time.monotonic() - start, 3),
                missing=() if manifest is None else tuple(map(str, manifest.missing)),
            )
        return None

    def _structure(
        self, path: Path, stream: IO[bytes], size: int, manifest: Manifest | None
    ) -> str:
        """Check the structure and hash the file in one reading; return the sha256.

        What it unpacks to is hashed as well where a twin has to be compared with it.
        """
        digest, unpacked = hashlib.sha256(), hashlib.sha256()
        has_twin = path.with_name(zstd.twin_of(path.name)).exists()
        observers = (*self.observers, unpacked.update) if has_twin else self.observers
        with XzReader(
            stream, observe=digest.update, observe_unpacked=observers, kept=self.kept
        ) as reader:
            self.failures += check_structure(reader, path, size=size, manifest=manifest)
            if has_twin:
                self.unpacked[path] = (reader.offset, unpacked.hexdigest())
            reader.drain()
        return digest.hexdigest()

    def _twin(self, path: Path, stream: IO[bytes]) -> None:
        """Compare what the twin *path* unpacks to with its archive, which was read before it."""
        size, sha256 = self.unpacked.get(path.with_name(zstd.archive_of(path.name)), (0, ""))
        stream.seek(0)
        try:
            found = zstd.raw_sha256(stream, limit=size)
        except (zstd.UnusableTwinError, ProcessError) as error:
            self._fail(zstd.SAME, path, error.message, error.hint or f"{size} bytes")
            return
        if found != sha256:
            self._fail(zstd.SAME, path, f"unpacked, sha256 {found}", f"{sha256}, as the archive")

    def _manifest(self, folder: Path, archive: str) -> Manifest | None:
        path = folder / f"{archive.removesuffix('.tar.xz')}.manifest.json"
        if not path.exists() and not path.is_symlink():
            return None
        text = self._text(path)
        try:
            return None if text is None else Manifest.from_json(text, source=path.name)
        except VerificationError as error:
            self._fail(rules_manifest.READABLE, path, error.message, error.hint)
            return None

    def _text(self, path: Path) -> str | None:
        """Return the text of *path*, or None after telling why there is none."""
        with self.telling(path), open_inside(path) as (stream, size):
            if size > _MAX_TEXT:
                self._fail(checksums.USABLE, path, f"{size} bytes", f"at most {_MAX_TEXT}")
                return None
            try:
                return stream.read().decode()
            except UnicodeDecodeError:
                self._fail(checksums.USABLE, path, "bytes that are no UTF-8", "a text file")
        return None

    def _fail(self, rule: Rule, path: str | Path, found: str, expected: str) -> None:
        self.failures.append(rule.broken(path, found=found, expected=expected))
