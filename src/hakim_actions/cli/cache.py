"""``hakim-actions cache``."""

from collections.abc import Mapping
from pathlib import Path

import click

from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import common, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.content import Sources
from hakim_actions.image import cache
from hakim_actions.image.cachekeys import CacheKey, cache_keys
from hakim_actions.image.toolslock import Lock
from hakim_actions.system import actions


@click.group(name="cache")
def command() -> None:
    """Look after the cache of builds: base layers, compressed pieces, downloads.

    \b
    Example:
      hakim-actions cache status
    """  # noqa: D301 - click reads the escape


@command.command(cls=Command)
@common.CACHE_DIR
@common.JSON
def status(*, cache_dir: Path, as_json: bool) -> None:
    """Show what the cache holds.

    \b
    Example:
      hakim-actions cache status --json
    """  # noqa: D301 - click reads the escape
    parts = cache.status(cache_dir)
    if as_json:
        report.as_json({part.name: {"files": part.files, "size": part.size} for part in parts})
        return
    for part in parts:
        click.echo(f"{part.name:<8} {part.files:>6} files  {report.size(part.size):>9}")


@command.command(cls=Command)
@common.CACHE_DIR
@common.CACHE_MAX
@click.option(
    "--unused-for",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Also remove what was not used for so long.",
)
@common.JSON
def prune(*, cache_dir: Path, cache_max: int, unused_for: float | None, as_json: bool) -> None:
    """Remove what was not used for longest until the cache is small enough.

    \b
    Example:
      hakim-actions cache prune --cache-max 10
    """  # noqa: D301 - click reads the escape
    freed = cache.prune(
        cache_dir,
        max_bytes=cache_max * cache.GIGABYTE,
        unused_for=None if unused_for is None else unused_for * 3600,
    )
    _tell(freed, as_json=as_json)


@command.command(cls=Command)
@common.CACHE_DIR
@common.JSON
def clear(*, cache_dir: Path, as_json: bool) -> None:
    """Remove everything from the cache.

    \b
    Example:
      hakim-actions cache clear
    """  # noqa: D301 - click reads the escape
    _tell(cache.clear(cache_dir), as_json=as_json)


@command.command(cls=Command)
@click.option("--variant", default="base", show_default=True, help="Variant to build.")
@click.option("--all", "all_variants", is_flag=True, help="Every variant is built in this job.")
@common.RELEASE
@common.ARCH
@common.COMPRESSION_LEVEL
@common.CACHE_DIR
@common.JSON
@click.pass_obj
def keys(
    app: App,
    *,
    variant: str,
    all_variants: bool,
    release: str,
    arch: str,
    compression_level: int,
    cache_dir: Path,
    as_json: bool,
) -> None:
    """Tell under which keys actions/cache restores and saves the parts of the cache.

    In a workflow the outputs are `layer-key`, `layer-restore-keys` and `layer-path`, and the same
    for `pieces` and `tools`. Save what `build` has an output `layer-key` or `pieces-key` for.

    \b
    Example:
      hakim-actions cache keys --variant php --cache-dir .hakim-cache
    """  # noqa: D301 - click reads the escape
    project = Project.find(Path.cwd())
    catalog = Catalog.load(project.variants)
    variants = catalog.of_release(release) if all_variants else [variant]
    found = cache_keys(
        [catalog.target(name, release, arch) for name in variants],
        sources=Sources.read(project.definition.parent),
        lock=Lock.load(project.tools_lock) if project.tools_lock.is_file() else None,
        level=compression_level,
        env=app.env,
    )
    outputs = _outputs(found, cache_dir)
    for name, value in outputs.items():
        actions.set_output(app.env, name, value)
    if as_json:
        report.as_json(outputs)
        return
    for name, value in outputs.items():
        click.echo(f"{name}: {value}".replace("\n", "\n  "))


def _outputs(found: Mapping[str, CacheKey], folder: Path) -> dict[str, str]:
    """Return the outputs of a step; restore keys are lines, the most specific first."""
    outputs = {}
    for part, key in found.items():
        outputs[f"{part}-path"] = str(folder / key.folder)
        outputs[f"{part}-key"] = key.key
        outputs[f"{part}-restore-keys"] = "\n".join(key.restore)
    return outputs


def _tell(freed: int, *, as_json: bool) -> None:
    if as_json:
        report.as_json({"freed": freed})
    else:
        click.echo(f"Freed {report.size(freed)}.")
