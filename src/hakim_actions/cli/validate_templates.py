"""``hakim-actions validate-templates``."""

from collections.abc import Sequence
from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.coder.template import discover, find_root, named
from hakim_actions.coder.validate import find_engine, validate


@click.command(cls=Command, epilog="Example: hakim-actions validate-templates")
@click.argument("names", nargs=-1)
@click.option(
    "--engine",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The program to use [terraform, else tofu, on PATH].",
)
@click.option(
    "--ignore-lock",
    is_flag=True,
    help="Take providers whose checksums the lock file does not have: your own builds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App, *, names: Sequence[str], engine: Path | None, ignore_lock: bool, as_json: bool
) -> None:
    """Run fmt, init, validate and test on the templates in coder/templates, or only NAMES.

    Both templates of the project must be there. Providers and modules come from their registries,
    or from where TF_CLI_CONFIG_FILE says: with a filesystem mirror it works without a network.
    """
    templates = named(discover(find_root(Path.cwd())), names)
    done = validate(
        templates,
        engine=str(engine) if engine else find_engine(app.env),
        env=app.env,
        progress=report.progress_for(app.env, quiet=as_json),
        ignore_lock=ignore_lock,
    )
    if as_json:
        report.as_json({"templates": [template.name for template in templates], "done": done})
    else:
        for line in done:
            click.echo(line)
