"""``hakim-actions prune``."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from hakim_actions.cli import promotion, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError
from hakim_actions.promote import base, prune

_COLUMNS = ("store", "file", "action", "size", "reason")


@click.command(
    cls=Command,
    epilog="Example: hakim-actions prune --endpoint https://pve1.example:8006 "
    "--storage hakim-tmpl --keep 3 --older-than 30 --yes",
)
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Versions of each image.")
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only what is older."
)
@click.option(
    "--in-use",
    multiple=True,
    metavar="TEMPLATE",
    help="A template id or file name that must stay; repeatable, or several in one value.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@promotion.target_options
@click.pass_obj
def command(
    app: App,
    /,
    *,
    keep: int,
    older_than: float | None,
    in_use: tuple[str, ...],
    yes: bool,
    as_json: bool,
    target: str,
    state_file: Path | None,
    **options: Any,
) -> None:
    """Delete old versions (hakim-…_<version>.tar.xz); contract names are never touched.

    Prints the plan first. Needs Datastore.Allocate on the storage, which promote does not.
    """
    with (
        closing(base.connect(target, promotion.settings(app, options))) as place,
        promotion.opened_state(app, state_file) as state,
    ):
        survey = place.survey((), prune=True)
        if survey.problems:
            msg = f"Nothing can be deleted in {place.name}."
            hint = "'hakim-actions doctor' prints the line for every missing right."
            raise ConfigurationError(msg, hint=hint, problems=survey.problems)
        verdicts = [
            verdict
            for store in survey.stores
            for verdict in prune.judge(
                store,
                store.listing().values(),
                state=state,
                keep=keep,
                older_than=older_than,
                in_use=prune.parse_in_use(in_use),
                now=time.time(),
            )
        ]
        rows = [verdict.row() for verdict in verdicts]
        if not as_json:
            click.echo(promotion.table(rows, _COLUMNS))
        old = sum(1 for verdict in verdicts if not verdict.reason)
        gone = []
        if old and promotion.confirmed(f"Delete {old} files?", yes=yes):
            gone = prune.remove(verdicts, state=state)
        if as_json:
            report.as_json({"plan": rows, "removed": gone})
        else:
            click.echo(f"Deleted: {len(gone)}." if old else "Nothing to delete.")
