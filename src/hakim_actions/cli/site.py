"""``hakim-actions site``."""

from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.publish import site
from hakim_actions.system import files


@click.command(
    cls=Command,
    epilog="Example: hakim-actions site dist/releases/*/index.json -o dist/releases/index.html",
)
@click.argument(
    "indexes", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="index.html",
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--base-url",
    default="",
    metavar="URL",
    help="Where the files of a release are, with {version} in it, such as"
    " https://github.com/acme/images/releases/download/{version}/; else <version>/ by the page.",
)
@click.option("--title", default=site.TITLE, show_default=True, help="The name on the page.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    indexes: tuple[Path, ...], output: Path, base_url: str, title: str, *, as_json: bool
) -> None:
    """Write one static page over releases: images, sizes over time, packages, commands.

    INDEXES are the index.json files of the releases, in any order.
    """
    page = site.render([site.read(path) for path in indexes], base_url=base_url, title=title)
    files.writable_folder(output.parent, option="--output")
    files.write_text(output, page)
    if as_json:
        report.as_json({"output": str(output), "releases": len(indexes)})
    else:
        click.echo(f"{output}: {len(indexes)} releases")
