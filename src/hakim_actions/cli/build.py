"""``hakim-actions build``."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import build_report, common, elevate, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.cli.reproduction import rebuild_and_compare
from hakim_actions.content import Sources
from hakim_actions.errors import BuildError, ConfigurationError, HakimError
from hakim_actions.image import cache, distrobuilder, layers, preflight, tools, toolsupdate
from hakim_actions.image.build import BuildOptions, Built, build
from hakim_actions.image.cachekeys import CacheKey, cache_keys
from hakim_actions.image.entries import EntryStore
from hakim_actions.image.many import Outcome, build_many, has_room_to_keep, rootfs_memory
from hakim_actions.image.pieces import PieceStore
from hakim_actions.image.workspace import run_folder
from hakim_actions.system import files
from hakim_actions.system.git import revision


@click.command(cls=Command, name="build")
@click.argument("variant_argument", metavar="[VARIANT]", required=False)
@click.option("--variant", help="Variant to build.  [default: base]")
@click.option("--all", "all_variants", is_flag=True, help="Build every variant of the release.")
@common.RELEASE
@common.ARCH
@click.option("--cached", is_flag=True, help="Use and fill the cache of base layers and pieces.")
@click.option("--from-scratch", is_flag=True, help="Bootstrap Debian for each variant anew.")
@click.option(
    "--max-layer-age",
    default=layers.DEFAULT_MAX_AGE_DAYS,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Days after which a cached base layer is made anew.",
)
@click.option("--mirror", default="", metavar="URL", help="Debian mirror instead of the default.")
@click.option("--apt-proxy", default="", metavar="URL", help="HTTP proxy for packages.")
@click.option(
    "--allow-missing",
    default="",
    metavar="NAME[,NAME]",
    help="Tools that may be left out when they cannot be had.",
)
@click.option(
    "--tool-mirror",
    "tool_mirrors",
    multiple=True,
    metavar="URL=URL",
    help="Fetch tools whose URL starts like the first from the second; repeatable.",
)
@click.option("--out", type=common.FOLDER, help="Where artifacts go.  [default: distrobuilder/out]")
@common.CACHE_DIR
@common.CACHE_MAX
@click.option(
    "--work-dir",
    type=common.FOLDER,
    help="Where images are made.  [default: <cache-dir>/work, root file systems in spare memory]",
)
@click.option("--image-version", default="", help="Version of the image.  [default: git's]")
@common.COMPRESSION_LEVEL
@click.option("--zstd", is_flag=True, help="Make a .tar.zst, which unpacks faster, as well.")
@click.option("--boot-timeout", default=120.0, show_default=True, help="Seconds to boot within.")
@click.option(
    "--check-reproducible",
    is_flag=True,
    help="Build each image a second time, from scratch, and list what differs.",
)
@common.JSON
@click.pass_obj
def command(
    app: App,
    *,
    variant_argument: str | None,
    variant: str | None,
    all_variants: bool,
    release: str,
    arch: str,
    cached: bool,
    from_scratch: bool,
    max_layer_age: float,
    mirror: str,
    apt_proxy: str,
    allow_missing: str,
    tool_mirrors: tuple[str, ...],
    out: Path | None,
    cache_dir: Path,
    cache_max: int,
    work_dir: Path | None,
    image_version: str,
    compression_level: int,
    zstd: bool,
    boot_timeout: float,
    check_reproducible: bool,
    as_json: bool,
) -> int:
    """Build an image, verify it, boot it, and leave it in the output folder.

    Needs root, and asks sudo for it. Nothing gets its final name before it has booted.

    \b
    Example:
      hakim-actions build --variant php --release trixie
      hakim-actions build --all --cached
    """  # noqa: D301 - click reads the escape
    if cached and from_scratch:
        msg = "--cached and --from-scratch exclude each other."
        raise ConfigurationError(msg, hint="Leave one of them out.")
    project = Project.find(Path.cwd())
    catalog = Catalog.load(project.variants)
    variants = _chosen(catalog, variant_argument, variant, release if all_variants else "")
    names = [catalog.target(name, release, arch) for name in variants]
    _refuse_wrong_url("--mirror", mirror)
    _refuse_wrong_url("--apt-proxy", apt_proxy)
    lock = tools.load(project.tools_lock) if project.tools_lock.is_file() else None
    allowed = allow_missing.replace(",", " ").split()
    if lock is not None:
        tools.check_allowed(lock, allowed)
    mirrors = toolsupdate.parse_mirrors(" ".join(tool_mirrors).split())
    cache_dir = cache_dir.resolve()  # distrobuilder runs in another folder
    elevate.become_root("to bootstrap Debian and to boot the result", env=app.env)
    options = BuildOptions(
        project=project,
        catalog=catalog,
        sources=Sources.read(project.definition.parent),
        revision=revision(project.root, env=app.env, version=image_version),
        out=(out or project.output).resolve(),
        work_dir=(work_dir or cache_dir / "work").resolve(),
        rootfs_memory=0 if work_dir else rootfs_memory(len(names), work_dir=cache_dir),
        downloads=cache_dir,
        lock=lock,
        allow_missing=allowed,
        tool_mirrors=mirrors,
        mirror=mirror,
        apt_proxy=apt_proxy,
        level=compression_level,
        twin=zstd,
        boot_timeout=boot_timeout,
        pieces=PieceStore(cache_dir / "pieces") if cached else None,
        env=app.env,
    )
    preflight.check_build(
        variants=variants,
        release=release,
        arch=arch,
        work_dir=options.work_dir,
        env=app.env,
    )
    distrobuilder.validate(project.definition, env=app.env)
    store = layers.LayerStore(folder=cache_dir / "layers", max_age_days=max_layer_age)
    with _stores(options, store if cached else None, names, from_scratch=from_scratch) as options:
        results, failures = _build_each(names, options, app, quiet=as_json)
        if check_reproducible:
            _build_again(results, options, app, quiet=as_json)
    if cached:
        cache.prune(cache_dir, max_bytes=cache_max * cache.GIGABYTE)
        if cache_dir != cache.DEFAULT_FOLDER:  # that of the machine stays root's
            for folder in cache.folders(cache_dir):
                elevate.give_back(folder, env=app.env)
    build_report.tell(
        results, failures, app, keys=_cache_keys(names, options) if cached else {}, as_json=as_json
    )
    return BuildError.exit_code if failures else 0


def _chosen(
    catalog: Catalog, argument: str | None, option: str | None, every: str
) -> Sequence[str]:
    """Return the variants to build; *every* is the release of which all are wanted."""
    given = [name for name in (argument, option) if name]
    if len(given) + bool(every) > 1:
        msg = "Give a variant once: as [VARIANT], as --variant, or all of them with --all."
        raise ConfigurationError(msg, hint="Example: hakim-actions build --variant php")
    if every:
        return catalog.of_release(every)
    return given or ["base"]


def _cache_keys(names: Sequence[ArtifactName], options: BuildOptions) -> Mapping[str, CacheKey]:
    return cache_keys(
        names,
        sources=options.sources,
        lock=options.lock,
        level=options.level,
        env=options.env,
    )


def _refuse_wrong_url(option: str, url: str) -> None:
    # distrobuilder takes overrides as one text and splits it at ',' and '='.
    if url and (not url.startswith(("http://", "https://")) or set(url) & set(",= \t\n\"'")):
        msg = f"{option}: '{url}' cannot be used."
        raise ConfigurationError(
            msg, hint="Expected http(s)://host/path without ',', '=' or space."
        )


@contextlib.contextmanager
def _stores(
    options: BuildOptions,
    store: layers.LayerStore | None,
    names: Sequence[ArtifactName],
    *,
    from_scratch: bool,
) -> Iterator[BuildOptions]:
    """Give the builds stores of layers, pieces and downloads: the cache, or some of this run alone.

    A single image without the cache is faster from scratch than on a layer made for it. What
    streams unpack to is never of more use than for the run.
    """
    files.writable_folder(options.work_dir, option="--work-dir")
    with run_folder(options.work_dir) as own:
        if store is not None:
            options = replace(options, layers=store)
            if not _can_keep(options.downloads):
                options = replace(options, downloads=own)
        elif len(names) > 1 and not from_scratch:
            options = replace(
                options,
                downloads=own,
                layers=layers.LayerStore(folder=own / "layers"),
                pieces=PieceStore(own / "pieces"),
            )
        else:
            options = replace(options, downloads=own)
        if options.layers is not None:
            options = replace(options, debs=options.downloads / "debs")
        if len(names) > 1 and has_room_to_keep(len(names), work_dir=options.work_dir):
            options = replace(options, unpacked=EntryStore(own / "unpacked", kind="stream"))
        yield options


def _can_keep(folder: Path) -> bool:
    """Tell whether downloads can be kept in the cache *folder*; say so where they cannot."""
    try:
        files.writable_folder(folder, option="--cache-dir")
    except ConfigurationError as error:
        click.echo(f"{error.message} The build goes on and keeps nothing there.", err=True)
        return False
    return True


def _build_each(
    names: Sequence[ArtifactName], options: BuildOptions, app: App, *, quiet: bool
) -> tuple[list[Built], dict[ArtifactName, HakimError]]:
    """Build *names*; one that fails does not stop the others. A single image raises its error."""
    progress = report.progress_for(app.env, quiet=quiet)
    progress.note(f"Building version {options.revision.version}")
    outcomes: Iterable[tuple[ArtifactName, Outcome]]
    if len(names) == 1:
        outcomes = [(names[0], build(names[0], options, progress))]
    else:
        outcomes = build_many(
            names,
            options,
            alone=progress,
            beside=lambda name: report.SharedProgress(name.variant, app.env),
        )
    results: list[Built] = []
    failures: dict[ArtifactName, HakimError] = {}
    for name, outcome in outcomes:
        if isinstance(outcome, Built):
            results.append(outcome)
            elevate.give_back(outcome.folder, env=app.env)
        else:
            failures[name] = outcome
            report.error(outcome, env=app.env)
    return results, failures


def _build_again(results: Sequence[Built], options: BuildOptions, app: App, *, quiet: bool) -> None:
    """Prove *results* by building them again; raise VerificationError for what differs."""
    progress = report.progress_for(app.env, quiet=quiet)
    for result in results:
        name = result.manifest.name
        progress.note(f"Building {name.stem} a second time, from scratch")
        archive = result.folder / name.archive
        sha256 = result.archive.sha256
        rebuild_and_compare(name, options, progress, app, sha256=sha256, first=archive)
        progress.note(f"{name.stem} came out the same.")
