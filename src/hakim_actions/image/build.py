"""From a name to a proven artifact: bootstrap, packages, pack, verify, boot, and then there."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

from hakim_actions.artifact import Archive, ArtifactName, Check, FileRecord, Manifest
from hakim_actions.catalog import Catalog, Project
from hakim_actions.content import Sources
from hakim_actions.debian import release_named
from hakim_actions.image import debcache, delivery, distrobuilder, mirror, sbom, tools, zstd
from hakim_actions.image.boot import BootFailedError, BootReport, boot_test
from hakim_actions.image.cacheuse import CacheMeter, CacheUse
from hakim_actions.image.entries import EntryStore
from hakim_actions.image.inventory import Inventory
from hakim_actions.image.layers import LayerStore, layer_key
from hakim_actions.image.pack import pack_tar
from hakim_actions.image.pieces import PieceStore
from hakim_actions.image.rules import RULES
from hakim_actions.image.toolslock import Lock
from hakim_actions.image.verify import verify_paths
from hakim_actions.image.workspace import work_folder
from hakim_actions.system import files, units
from hakim_actions.system.git import Revision
from hakim_actions.system.progress import PhaseClock, Progress


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What a build is told; the same for every image of one run.

    ``work_dir`` is where images are made, each with ``rootfs_memory`` bytes of memory for its root
    file system if that is not 0. ``level`` is that of xz (0 to 9), ``boot_timeout`` is in seconds.
    Without ``layers`` every image is bootstrapped from scratch; without ``pieces`` everything is
    compressed anew. Downloads are kept in ``downloads``; tools that cannot be had are left out when
    ``allow_missing`` names them, and ``tool_mirrors`` maps the start of their URLs to another.
    Packages are kept in ``debs``, unless ``apt_proxy`` names a proxy that does it; what the streams
    of archives unpack to in ``unpacked``, for the other images of the run. With ``twin``
    there will be a .tar.zst beside the .tar.xz. ``base_begun`` is set by the base image of a run
    when its layer is nobody else's to make, which others wait for.
    """

    project: Project
    catalog: Catalog
    sources: Sources
    revision: Revision
    out: Path
    work_dir: Path
    downloads: Path
    rootfs_memory: int = 0
    lock: Lock | None = None
    allow_missing: Collection[str] = ()
    tool_mirrors: Mapping[str, str] = field(default_factory=dict)
    mirror: str = ""
    apt_proxy: str = ""
    level: int = 6
    boot_timeout: float = 120
    layers: LayerStore | None = None
    pieces: PieceStore | None = None
    debs: Path | None = None
    unpacked: EntryStore | None = None
    twin: bool = False
    base_begun: Event | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Built:
    """An artifact that is there: where, what it is, how long it took in seconds, and the cache."""

    folder: Path
    archive: FileRecord
    manifest: Manifest
    seconds: float
    cache: CacheUse = field(default_factory=CacheUse)


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
        work_folder(options.work_dir / name.stem) as work,
        PhaseClock(progress) as clock,
    ):
        log = folder / name.build_log
        log.write_text("")
        run = _Run(name, options, clock, work=work, log=log)
        manifest = run.prove(run.pack(run.make_rootfs()))
        delivery.deliver(name, run.staged, folder)
    return Built(
        folder=folder,
        archive=manifest.files[0],
        manifest=manifest,
        seconds=round(time.monotonic() - start, 3),
        cache=run.cache,
    )


@contextlib.contextmanager
def rebuilt(name: ArtifactName, options: BuildOptions, progress: Progress) -> Iterator[Path]:
    """Build *name* once more, only to be compared, and give its ``.tar.xz`` for the block.

    It is neither proven nor delivered. Raises BuildError or ConfigurationError.
    """
    folder = files.writable_folder(options.out / name.variant, option="--out")
    with (
        work_folder(options.work_dir / f"{name.stem}-again") as work,
        PhaseClock(progress) as clock,
    ):
        run = _Run(name, options, clock, work=work, log=folder / name.build_log)
        run.pack(run.make_rootfs())
        clock.end()
        yield run.staged / name.archive


class _Run:
    """The steps of one build, in the order they are called."""

    def __init__(
        self,
        name: ArtifactName,
        options: BuildOptions,
        clock: PhaseClock,
        *,
        work: Path,
        log: Path,
    ) -> None:
        self._name = name
        self._options = options
        self._clock = clock
        self._work = work
        self._log = log
        self._tool = distrobuilder.version(env=options.env) or ""
        self._archive: Archive | None = None
        self._tools: tools.Staged | None = None
        self._meter = CacheMeter(clock)
        self.cache = CacheUse()
        self.staged = work / "artifact"
        self.staged.mkdir()

    def make_rootfs(self) -> distrobuilder.Rootfs:
        """Bootstrap Debian, or start from a base layer, and install the variant."""
        options = self._options
        self._clock.start("mirror", "Ask the Debian mirror")
        self._archive = mirror.read_archive(
            options.mirror, self._name.release, proxy=options.apt_proxy, env=options.env
        )
        self._tools = self._stage_tools(self._name)
        if options.layers is None:
            return self._distrobuilder(self._name, layer=None, staged=self._tools)
        key = layer_key(
            self._name,
            sources=options.sources,
            archive=self._archive,
            distrobuilder=self._tool,
            missing=self._missing_in_base(),
        )
        return self._on_layer(options.layers, key)

    def pack(self, rootfs: distrobuilder.Rootfs) -> Manifest:
        """Pack the root file system and describe the result."""
        name, options = self._name, self._options
        self._clock.start("pack", "Pack")
        report = pack_tar(
            rootfs.tar,
            self.staged / name.archive,
            epoch=release_named(name.release).released,
            common=options.sources.packages(name.base),
            level=options.level,
            store=options.pieces,
        )
        for warning in report.warnings:
            self._clock.progress.note(warning)
        inventory = Inventory.of_tar(rootfs.tar)
        details = sbom.read_details(rootfs.tar)
        rootfs.metadata.rename(self.staged / name.metadata)
        rootfs.tar.unlink()  # the boot test needs the room
        self.cache = self._meter.use(report, stored=options.pieces is not None)
        archive = FileRecord(name=name.archive, size=report.packed_bytes, sha256=report.sha256)
        manifest = Manifest(
            variant=name.variant,
            release=name.release,
            arch=name.arch,
            version=options.revision.version,
            commit=options.revision.commit,
            epoch=options.revision.epoch,
            distrobuilder=self._tool,
            archive=self._archive,
            files=(archive, delivery.record(self.staged / name.metadata)),
            tools=self._tools.versions if self._tools else {},
            missing=self._tools.missing if self._tools else (),
            largest=details.largest(),
            packages=dict(sorted(inventory.packages.items())),
            content_key=options.sources.key(name),
            level=options.level,
            unpacked_bytes=report.raw_bytes,
            cache=self.cache.counts(),
        )
        components = sbom.document(manifest, lock=options.lock, details=details)
        files.write_text(self.staged / name.sbom, components)
        listed = (*manifest.files, delivery.record(self.staged / name.sbom))
        manifest = dataclasses.replace(manifest, files=(*listed, *self._twin(report.raw_bytes)))
        delivery.describe(manifest, self.staged)
        return manifest

    def _twin(self, raw_bytes: int) -> tuple[FileRecord, ...]:
        """Pack the archive with zstd as well, if that is wanted."""
        if not self._options.twin:
            return ()
        self._clock.start("zstd", "Pack with zstd")
        archive, twin = self.staged / self._name.archive, self.staged / self._name.twin
        zstd.pack_twin(archive, twin, raw_bytes=raw_bytes, env=self._options.env)
        return (delivery.record(twin),)

    def prove(self, manifest: Manifest) -> Manifest:
        """Verify and boot what is staged, and return the manifest with what was proven."""
        self._clock.start("verify", "Verify")
        structure = Check(name="structure", detail=f"{len(RULES)} rules of the image contract")
        booted = self._boot(manifest)
        self._clock.end()
        proven = dataclasses.replace(
            manifest,
            checks=(structure, *booted.checks),
            phases=dict(self._clock.seconds),
            boot_seconds=booted.boot_seconds,
        )
        delivery.describe(proven, self.staged)
        return proven

    def _verify(self, write: Callable[[bytes], object]) -> None:
        """Verify what is staged, handing the tar inside on to the container that will boot it."""
        kept = self._options.unpacked
        verified = verify_paths([self.staged], observe_unpacked=write, kept=kept)
        for warning in kept.warnings if kept else ():
            self._clock.progress.note(warning)
        for failure in verified.failures:
            self._clock.progress.note(
                f"    {failure.rule}: {failure.found}, expected {failure.expected}."
            )
        verified.require()
        self._clock.start("boot", "Boot")

    def _boot(self, manifest: Manifest) -> BootReport:
        options = self._options
        try:
            return boot_test(
                self.staged / self._name.archive,
                env=options.env,
                work_dir=options.work_dir,
                timeout=options.boot_timeout,
                commands=options.catalog.checks(
                    self._name.variant, self._name.release, missing=manifest.missing
                ),
                unpacked=self._verify,
                memory=options.rootfs_memory,
                on_step=self._clock.progress.line,
            )
        except BootFailedError as error:
            with self._log.open("a", encoding="utf-8") as stream:
                stream.write(error.report.log)
            error.hint = f"The journal of the boot is in {self._log}."
            raise

    def _on_layer(self, store: LayerStore, key: str) -> distrobuilder.Rootfs:
        """Start from the base layer; who finds none makes it, while the others wait for it."""
        base, base_begun = self._name.base, self._options.base_begun
        if base_begun is not None and self._name != base:
            base_begun.wait()
        with store.alone(key):
            if base_begun is not None:
                base_begun.set()
            layer = self._meter.get_layer(store, key)
            if layer is None and self._name == base:
                made = self._distrobuilder(base, layer=None, staged=self._tools)
                self._meter.put_layer(store, key, made.tar)
                return made
            if layer is None:
                self._clock.progress.note(f"No base layer of {base.release} yet: making it.")
                made = self._distrobuilder(base, layer=None, staged=self._stage_tools(base))
                layer = self._meter.put_layer(store, key, made.tar)
        return self._distrobuilder(self._name, layer=layer, staged=self._tools)

    def _missing_in_base(self) -> list[str]:
        """Return which of the tools of base could not be had for this image."""
        lock = self._options.lock
        if lock is None or self._tools is None:
            return []
        return [name for name in self._tools.missing if lock.tool(name).is_for("base")]

    def _stage_tools(self, name: ArtifactName) -> tools.Staged | None:
        """Fetch and check the tools of *name*, which the definition copies in."""
        options = self._options
        if options.lock is None:
            return None
        self._clock.start("tools", "Fetch tools")
        into = self._work / f"tools-{name.variant}"
        into.mkdir()
        staged = tools.stage(
            options.lock.for_target(name),
            into=into,
            cache=options.downloads,
            env=options.env,
            allow_missing=options.allow_missing,
            mirrors=options.tool_mirrors,
            on_line=self._clock.progress.line,
        )
        for tool, reason in staged.reasons.items():
            self._clock.progress.note(f"Without {tool}, as --allow-missing says: {reason}")
        return staged

    def _distrobuilder(
        self, name: ArtifactName, *, layer: Path | None, staged: tools.Staged | None
    ) -> distrobuilder.Rootfs:
        options = self._options
        job = distrobuilder.Job(
            name=name,
            definition=options.project.definition,
            root=options.project.root,
            source=distrobuilder.Source(mirror=options.mirror, layer=layer),
            version=options.revision.version,
            commit=options.revision.commit,
            work_dir=self._work / f"distrobuilder-{name.variant}",
            tools=staged.tar if staged else None,
            memory=options.rootfs_memory,
        )
        job.work_dir.mkdir(exist_ok=True)
        with self._apt_proxy() as apt_proxy:
            job = dataclasses.replace(job, apt_proxy=apt_proxy)
            return distrobuilder.run(job, log=self._log, clock=self._clock, env=options.env)

    @contextlib.contextmanager
    def _apt_proxy(self) -> Iterator[str]:
        """Run the cache of packages beside the block; a proxy that was given takes its place."""
        options, note = self._options, self._clock.progress.note
        if options.apt_proxy or options.debs is None:
            yield options.apt_proxy
            return
        with debcache.proxy(debcache.DebStore(options.debs, on_warning=note)) as running:
            yield running.url
        served, fetched = units.size(running.served), units.size(running.fetched)
        note(f"Packages: {served} from the cache, {fetched} downloaded.")
