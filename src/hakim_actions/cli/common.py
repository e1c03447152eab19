"""Options that more than one command has."""

from pathlib import Path
from typing import Final

import click

from hakim_actions import debian
from hakim_actions.image import cache

FOLDER: Final = click.Path(file_okay=False, path_type=Path)

RELEASE: Final = click.option(
    "--release", default=debian.DEFAULT_RELEASE, show_default=True, help="Debian release."
)
ARCH: Final = click.option(
    "--arch", default=debian.DEFAULT_ARCH, show_default=True, help="Debian architecture."
)
COMPRESSION_LEVEL: Final = click.option(
    "--compression-level",
    type=click.IntRange(0, 9),
    default=6,
    show_default=True,
    help="Level of xz: 1 is fast, 9 is small.",
)
CACHE_DIR: Final = click.option(
    "--cache-dir",
    type=FOLDER,
    default=cache.DEFAULT_FOLDER,
    show_default=True,
    help="The cache folder.",
)
CACHE_MAX: Final = click.option(
    "--cache-max",
    default=cache.DEFAULT_MAX_BYTES // cache.GIGABYTE,
    show_default=True,
    type=click.IntRange(min=0),
    metavar="GB",
    help="Size of the cache; what was not used for longest goes first.",
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
