"""``hakim-actions rollback``."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from hakim_actions.cli import promotion
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.cli.promote import Job
from hakim_actions.promote import base, rollback, source
from hakim_actions.system.http import Http


@click.command(
    cls=Command,
    epilog="Example: hakim-actions rollback --endpoint https://pve1.example:8006 "
    "--storage hakim-tmpl --to v1.1.0 --yes",
)
@click.option("--to", default="", metavar="VERSION", help="Default: the one before the current.")
@click.option("--variant", "variants", multiple=True, help="Only this variant; repeatable.")
@click.option(
    "--versioned", is_flag=True, help="Only see to it that the version is there, side by side."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@promotion.target_options
@click.pass_obj
def command(
    app: App,
    /,
    *,
    to: str,
    variants: tuple[str, ...],
    versioned: bool,
    yes: bool,
    as_json: bool,
    target: str,
    state_file: Path | None,
    **options: Any,
) -> None:
    """Make an earlier version the current one again, as safely as promote does.

    Prints the plan first. Which versions there were, and where they came from, is in the state.
    """
    settings = promotion.settings(app, options)
    with (
        closing(base.connect(target, settings)) as place,
        promotion.opened_state(app, state_file) as state,
        Http(deadline=settings.deadline, headers={"User-Agent": "hakim-actions"}) as web,
    ):
        version = rollback.choose(state, to=to)
        found, remark = rollback.source_of(version, state, web=web, env=app.env)
        if remark:
            click.echo(
                f"note: {version}: {remark}; only what is in the stores can be used.", err=True
            )
        job = Job(app, place, state, web, settings.parallel, as_json=as_json)
        made = job.plan(found, source.select(found, variants=variants), versioned=versioned)
        if not as_json:
            job.show(made)
        if not made.changes or promotion.confirmed(f"Go back to {version}?", yes=yes):
            job.carry_out(made)
