"""From a name to a proven artifact: bootstrap, packages, pack, verify, boot, and then there."""

import contextlib
import dataclasses
import errno
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hakim_actions.artifact import (
    SUMS_NAME,
    ArtifactName,
    Check,
    FileRecord,
    Manifest,
    format_sums,
    parse_sums,
)
from hakim_actions.catalog import Project
from hakim_actions.errors import BuildError, VerificationError
from hakim_actions.image import distrobuilder, mirror
from hakim_actions.image.boot import boot_test
from hakim_actions.image.inventory import Inventory
from hakim_actions.image.pack import PackReport, pack_tar
from hakim_actions.image.rules import RULES
from hakim_actions.image.verify import verify_paths
from hakim_actions.system import files
from hakim_actions.system.git import Revision
from hakim_actions.system.progress import PhaseClock, Progress


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What a build is told; the same for every image of one run.

    ``work_dir`` is where root file systems are made, ``level`` is that of xz (0 to 9),
    ``boot_timeout`` is in seconds.
    """

    project: Project
    revision: Revision
    out: Path
    work_dir: Path
    mirror: str = ""
    apt_proxy: str = ""
    level: int = 6
    boot_timeout: float = 120
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Built:
    """An artifact that is there: where, what it is, and how long it took in seconds."""

    folder: Path
    archive: FileRecord
    manifest: Manifest
    seconds: float


def build(name: ArtifactName, options: BuildOptions, progress: Progress) -> Built:
    """Build *name*, prove it, and put it into ``<out>/<variant>/``.

    Nothing is under its final name before it was verified and booted. Raises BuildError,
    VerificationError or ConfigurationError; whatever ends the build, no mount, process or half
    file is left, only the log of distrobuilder.
    """
    start = time.monotonic()
    folder = files.writable_folder(options.out / name.variant, option="--out")
    lock = folder / f".{name.stem}.lock"
    with (
        files.locked(lock, purpose=f"A build of {name.stem}"),
        _work_folder(options.work_dir / name.stem) as work,
        _disk_full_explained(options),
        PhaseClock(progress) as clock,
    ):
        rootfs = _make_rootfs(name, options, clock, work=work, log=folder / name.build_log)
        staged = work / "artifact"
        staged.mkdir()
        manifest = _pack(name, options, clock, rootfs=rootfs, staged=staged)
        checks = _prove(name, options, clock, staged=staged)
        clock.end()
        manifest = dataclasses.replace(manifest, checks=checks, phases=dict(clock.seconds))
        _describe(manifest, staged)
        _move(name, staged, folder)
    return Built(
        folder=folder,
        archive=manifest.files[0],
        manifest=manifest,
        seconds=round(time.monotonic() - start, 3),
    )


def _make_rootfs(
    name: ArtifactName, options: BuildOptions, clock: PhaseClock, *, work: Path, log: Path
) -> distrobuilder.Rootfs:
    clock.start("mirror", "Ask the Debian mirror")
    mirror.read_archive(options.mirror, name.release, proxy=options.apt_proxy, env=options.env)
    job = distrobuilder.Job(
        name=name,
        definition=options.project.definition,
        root=options.project.root,
        source=distrobuilder.Source(mirror=options.mirror),
        version=options.revision.version,
        commit=options.revision.commit,
        work_dir=work / "distrobuilder",
        apt_proxy=options.apt_proxy,
    )
    job.work_dir.mkdir()
    return distrobuilder.run(job, log=log, clock=clock, env=options.env)


def _pack(
    name: ArtifactName,
    options: BuildOptions,
    clock: PhaseClock,
    *,
    rootfs: distrobuilder.Rootfs,
    staged: Path,
) -> Manifest:
    clock.start("pack", "Pack")
    archive = staged / name.archive
    report = pack_tar(rootfs.tar, archive, epoch=options.revision.epoch, level=options.level)
    inventory = Inventory.of_tar(rootfs.tar)
    rootfs.metadata.rename(staged / name.metadata)
    rootfs.tar.unlink()  # the boot test needs the room
    manifest = Manifest(
        variant=name.variant,
        release=name.release,
        arch=name.arch,
        version=options.revision.version,
        commit=options.revision.commit,
        epoch=options.revision.epoch,
        distrobuilder=distrobuilder.version(env=options.env) or "",
        files=(_packed_record(name, report), _record(staged / name.metadata)),
        packages=dict(sorted(inventory.packages.items())),
        unpacked_bytes=report.raw_bytes,
    )
    _describe(manifest, staged)
    return manifest


def _prove(
    name: ArtifactName, options: BuildOptions, clock: PhaseClock, *, staged: Path
) -> tuple[Check, ...]:
    """Verify and boot what is staged; return what was proven, or raise VerificationError."""
    clock.start("verify", "Verify")
    verified = verify_paths([staged])
    for failure in verified.failures:
        clock.progress.note(f"    {failure.rule}: {failure.found}, expected {failure.expected}.")
    verified.require()
    clock.start("boot", "Boot")
    booted = boot_test(
        staged / name.archive,
        env=options.env,
        work_dir=options.work_dir,
        timeout=options.boot_timeout,
        on_step=clock.progress.line,
    )
    structure = Check(name="structure", detail=f"{len(RULES)} rules of the image contract")
    return (structure, *booted.checks)


def _describe(manifest: Manifest, folder: Path) -> None:
    """Write the manifest and the checksums of everything in *folder*."""
    path = folder / manifest.name.manifest
    files.write_text(path, manifest.to_json())
    records = (*manifest.files, _record(path))
    files.write_text(folder / SUMS_NAME, format_sums({r.name: r.sha256 for r in records}))


def _record(path: Path) -> FileRecord:
    return FileRecord(name=path.name, size=path.stat().st_size, sha256=files.sha256_file(path))


def _packed_record(name: ArtifactName, report: PackReport) -> FileRecord:
    return FileRecord(name=name.archive, size=report.packed_bytes, sha256=report.sha256)


def _move(name: ArtifactName, staged: Path, folder: Path) -> None:
    """Move what is staged into *folder*, which may hold artifacts of other releases.

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
    files.write_text(sums_file, format_sums({**others, **new}))


def _sums_without(name: ArtifactName, sums_file: Path) -> dict[str, str]:
    try:
        known = parse_sums(sums_file.read_text("utf-8"), source=str(sums_file))
    except (OSError, VerificationError):
        return {}  # a damaged file proves nothing about the others either
    return {key: value for key, value in known.items() if not key.startswith(f"{name.stem}.")}


@contextlib.contextmanager
def _work_folder(path: Path) -> Iterator[Path]:
    """Make *path* for one build and remove it with all that is in it, also a killed run's rest."""
    _remove(path)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    # Processes that were just killed may still be letting go of files below it.
    for _ in range(20):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.25)


@contextlib.contextmanager
def _disk_full_explained(options: BuildOptions) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        msg = f"The disk is full: {options.work_dir} or {options.out}."
        raise BuildError(msg, hint="Free some, or name another folder with --work-dir.") from None
