"""``hakim-actions diff``."""

from pathlib import Path

import click

from hakim_actions.cli.command import Command
from hakim_actions.publish import diff, notes


@click.command(
    cls=Command,
    epilog="Example: hakim-actions diff v1.1.0/index.json v1.2.0/index.json --format markdown",
)
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="How to print it.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(old: Path, new: Path, form: str, as_json: bool) -> None:
    """Show what changed from OLD to NEW: packages, tools and sizes, image by image.

    Each is a manifest, an index.json, a folder with them, or an archive (.tar.xz), whose package
    database is read without unpacking it.
    """
    old_name, before = diff.read(old)
    new_name, after = diff.read(new)
    difference = diff.compare(before, after, names=(old_name, new_name))
    writers = {"text": notes.text, "markdown": notes.markdown, "json": diff.Difference.to_json}
    click.echo(writers["json" if as_json else form](difference), nl=False)
