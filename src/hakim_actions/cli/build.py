"""``hakim-actions build``."""

from collections.abc import Sequence
from pathlib import Path

import click

from hakim_actions import debian
from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import elevate, report
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError
from hakim_actions.image import distrobuilder, preflight
from hakim_actions.image.build import BuildOptions, Built, build
from hakim_actions.system import actions
from hakim_actions.system.git import revision

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(name="build")
@click.argument("variant_argument", metavar="[VARIANT]", required=False)
@click.option("--variant", help="Variant to build.  [default: base]")
@click.option("--all", "all_variants", is_flag=True, help="Build every variant of the catalog.")
@click.option(
    "--release", default=debian.DEFAULT_RELEASE, show_default=True, help="Debian release."
)
@click.option("--arch", default=debian.DEFAULT_ARCH, show_default=True, help="Debian architecture.")
@click.option("--mirror", default="", metavar="URL", help="Debian mirror instead of the default.")
@click.option("--apt-proxy", default="", metavar="URL", help="HTTP proxy for packages.")
@click.option("--out", type=_FOLDER, help="Where artifacts go.  [default: distrobuilder/out]")
@click.option("--work-dir", type=_FOLDER, help="Where images are made.  [default: <out>/.work]")
@click.option("--image-version", default="", help="Version of the image.  [default: git's]")
@click.option(
    "--compression-level",
    type=click.IntRange(0, 9),
    default=6,
    show_default=True,
    help="Level of xz: 1 is fast, 9 is small.",
)
@click.option("--boot-timeout", default=120.0, show_default=True, help="Seconds to boot within.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    variant_argument: str | None,
    variant: str | None,
    all_variants: bool,
    release: str,
    arch: str,
    mirror: str,
    apt_proxy: str,
    out: Path | None,
    work_dir: Path | None,
    image_version: str,
    compression_level: int,
    boot_timeout: float,
    as_json: bool,
) -> None:
    """Build an image, verify it, boot it, and leave it in the output folder.

    Needs root, and asks sudo for it. Nothing gets its final name before it has booted.

    \b
    Example:
      hakim-actions build --variant php --release trixie
    """  # noqa: D301 - click reads the escape
    project = Project.find(Path.cwd())
    catalog = Catalog.load(project.variants)
    variants = _chosen(catalog, variant_argument, variant, all_variants=all_variants)
    names = [catalog.target(name, release, arch) for name in variants]
    elevate.become_root("to bootstrap Debian and to boot the result", env=app.env)
    out = out or project.output
    options = BuildOptions(
        project=project,
        revision=revision(project.root, env=app.env, version=image_version),
        out=out,
        work_dir=(work_dir or out / ".work").resolve(),
        mirror=mirror,
        apt_proxy=apt_proxy,
        level=compression_level,
        boot_timeout=boot_timeout,
        env=app.env,
    )
    preflight.check_build(
        variants=variants, release=release, work_dir=options.work_dir, env=app.env
    )
    distrobuilder.validate(project.definition, env=app.env)
    progress = report.progress_for(app.env, quiet=as_json)
    results = []
    for name in names:
        progress.note(f"Building {name.stem}, version {options.revision.version}")
        results.append(build(name, options, progress))
        elevate.give_back(results[-1].folder, env=app.env)
    _tell(results, app, as_json=as_json)


def _chosen(
    catalog: Catalog, argument: str | None, option: str | None, *, all_variants: bool
) -> Sequence[str]:
    given = [name for name in (argument, option) if name]
    if len(given) + all_variants > 1:
        msg = "Give a variant once: as [VARIANT], as --variant, or all of them with --all."
        raise ConfigurationError(msg, hint="Example: hakim-actions build --variant php")
    if all_variants:
        return list(catalog.variants)
    return given or ["base"]


def _tell(results: Sequence[Built], app: App, *, as_json: bool) -> None:
    for result in results:
        _set_outputs(result, app)
    if as_json:
        report.as_json([_document(result) for result in results])
        return
    for result in results:
        click.echo(_summary(result))


def _document(result: Built) -> dict[str, object]:
    name = result.manifest.name
    return {
        "name": name.stem,
        "artifact": str(result.folder / name.archive),
        "manifest": str(result.folder / name.manifest),
        "sha256": result.archive.sha256,
        "size": result.archive.size,
        "seconds": result.seconds,
        "phases": dict(result.manifest.phases),
    }


def _summary(result: Built) -> str:
    manifest = result.manifest
    phases = ", ".join(
        f"{name} {report.duration(seconds)}" for name, seconds in manifest.phases.items()
    )
    rows = (
        ("artifact", str(result.folder / manifest.name.archive)),
        (
            "size",
            f"{report.size(result.archive.size)}, {report.size(manifest.unpacked_bytes)} unpacked",
        ),
        ("sha256", result.archive.sha256),
        ("packages", str(len(manifest.packages))),
        ("proven", f"{len(manifest.checks)} checks, booted in LXC"),
        ("time", f"{report.duration(result.seconds)} ({phases})"),
    )
    lines = [f"{manifest.name.stem} is ready."]
    return "\n".join([*lines, *(f"  {key:<9} {value}" for key, value in rows)])


def _set_outputs(result: Built, app: App) -> None:
    name: ArtifactName = result.manifest.name
    for key, value in (
        ("artifact", str(result.folder / name.archive)),
        ("manifest", str(result.folder / name.manifest)),
        ("sha256", result.archive.sha256),
        ("size", str(result.archive.size)),
        ("duration", str(result.seconds)),
    ):
        actions.set_output(app.env, key, value)
