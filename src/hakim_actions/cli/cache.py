"""``hakim-actions cache``."""

from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.image import cache

_FOLDER = click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=cache.DEFAULT_FOLDER,
    show_default=True,
    help="The cache folder.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(name="cache")
def command() -> None:
    """Look after the cache of builds: base layers, compressed pieces, downloads.

    \b
    Example:
      hakim-actions cache status
    """  # noqa: D301 - click reads the escape


@command.command()
@_FOLDER
@_JSON
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


@command.command()
@_FOLDER
@click.option(
    "--cache-max",
    default=cache.DEFAULT_MAX_BYTES // 10**9,
    show_default=True,
    type=click.IntRange(min=0),
    help="GB to keep.",
)
@_JSON
def prune(*, cache_dir: Path, cache_max: int, as_json: bool) -> None:
    """Remove what was not used for longest until the cache is small enough.

    \b
    Example:
      hakim-actions cache prune --cache-max 10
    """  # noqa: D301 - click reads the escape
    _tell(cache.prune(cache_dir, max_bytes=cache_max * 10**9), as_json=as_json)


@command.command()
@_FOLDER
@_JSON
def clear(*, cache_dir: Path, as_json: bool) -> None:
    """Remove everything from the cache.

    \b
    Example:
      hakim-actions cache clear
    """  # noqa: D301 - click reads the escape
    _tell(cache.clear(cache_dir), as_json=as_json)


def _tell(freed: int, *, as_json: bool) -> None:
    if as_json:
        report.as_json({"freed": freed})
    else:
        click.echo(f"Freed {report.size(freed)}.")
