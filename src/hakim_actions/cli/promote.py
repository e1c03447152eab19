"""``hakim-actions promote``."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hakim_actions.cli import promotion, report, transfers
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError, HakimError, PromotionError
from hakim_actions.promote import base, github, plan, source
from hakim_actions.promote.apply import Outcome, Result, apply
from hakim_actions.promote.plan import Plan
from hakim_actions.promote.source import Source, Template
from hakim_actions.promote.state import State
from hakim_actions.system import actions
from hakim_actions.system.http import Http

_PLAN_COLUMNS = ("store", "file", "action", "way", "size", "reason")
_DONE_COLUMNS = ("store", "file", "result", "proof", "message")


@click.command(
    cls=Command,
    epilog="Example: hakim-actions promote --release v1.2.0 --repo owner/name "
    "--endpoint https://pve1.example:8006 --storage hakim-tmpl --plan",
)
@click.option("--release", "tag", default="", metavar="TAG", help="A GitHub release, with --repo.")
@click.option(
    "--repo", default="", envvar="GITHUB_REPOSITORY", metavar="OWNER/NAME", help="Its repository."
)
@click.option(
    "--from",
    "origin",
    default="",
    metavar="PLACE",
    help="Instead: the URL of an index.json, or a folder as build or publish leave it.",
)
@click.option("--variant", "variants", multiple=True, help="Only this variant; repeatable.")
@click.option("--debian", "releases", multiple=True, help="Only this Debian release; repeatable.")
@click.option("--arch", "archs", multiple=True, help="Only this architecture; repeatable.")
@click.option(
    "--versioned", is_flag=True, help="Keep versions side by side: hakim-…_<version>.tar.xz."
)
@click.option("--plan", "plan_only", is_flag=True, help="Print what would be done; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@promotion.target_options
@click.pass_obj
def command(
    app: App,
    /,
    *,
    tag: str,
    repo: str,
    origin: str,
    variants: tuple[str, ...],
    releases: tuple[str, ...],
    archs: tuple[str, ...],
    versioned: bool,
    plan_only: bool,
    as_json: bool,
    target: str,
    state_file: Path | None,
    **options: Any,
) -> None:
    """Bring templates into a Proxmox storage, or a folder, and prove them there.

    Reads first and stops before anything is sent when something is not right. Safe to run again:
    it goes on where it stopped, and does nothing when all is there.
    """
    settings = promotion.settings(app, options)
    reference = _reference(tag, repo, origin)
    with (
        closing(base.connect(target, settings)) as place,
        promotion.opened_state(app, state_file) as state,
        Http(deadline=settings.deadline, headers={"User-Agent": "hakim-actions"}) as web,
    ):
        found = source.open_source(reference, web=web, env=app.env)
        templates = source.select(found, variants=variants, releases=releases, archs=archs)
        job = Job(app, place, state, web, settings.parallel, as_json=as_json)
        made = job.plan(found, templates, versioned=versioned)
        if plan_only:
            job.show(made)
        else:
            job.carry_out(made)


@dataclass(frozen=True)
class Job:
    """One promotion from plan to report; rollback uses it too."""

    app: App
    target: base.Target
    state: State
    web: Http
    parallel: int
    as_json: bool

    def plan(self, found: Source, templates: Sequence[Template], *, versioned: bool) -> Plan:
        """Look and decide; prints the plan and raises ConfigurationError when it cannot be done."""
        made = plan.make(
            found,
            templates,
            self.target.survey(templates),
            target=self.target.name,
            state=self.state,
            versioned=versioned,
            parallel=self.parallel,
        )
        if made.problems:
            self.show(made)
            msg = f"{self.target.name} cannot take these templates; nothing was sent."
            hint = "'hakim-actions doctor' prints the line for every missing right."
            raise ConfigurationError(msg, hint=hint, problems=made.problems)
        return made

    def show(self, made: Plan) -> None:
        """Print the plan, and add it to the summary of the job."""
        rows = [step.row() for step in made.steps]
        notes = "".join(f"- {note}\n" for note in made.notes)
        text = promotion.markdown(rows, _PLAN_COLUMNS)
        actions.set_output(self.app.env, "plan", json.dumps(made.document()))
        title = f"### Plan: {made.source.version or 'templates'} → {made.target}"
        actions.append_summary(self.app.env, f"{title}\n\n{text}\n{notes}")
        if self.as_json:
            report.as_json(made.document())
            return
        click.echo(text_of(made))

    def carry_out(self, made: Plan) -> None:
        """Apply the plan and report; raises PromotionError when a step failed."""
        with self._obtaining() as obtain, transfers.shown(self.app.env) as listener:
            outcomes = apply(
                made,
                self.target,
                state=self.state,
                obtain=obtain,
                parallel=self.parallel,
                listener=listener,
            )
        self._report(made, outcomes)

    @contextmanager
    def _obtaining(self) -> Iterator[base.Obtain]:
        with tempfile.TemporaryDirectory(prefix="hakim-promote-") as folder:
            yield lambda template: source.obtain(
                template, Path(folder), web=self.web, env=self.app.env
            )

    def _report(self, made: Plan, outcomes: Sequence[Outcome]) -> None:
        rows = [outcome.row() for outcome in outcomes]
        failed = [o for o in outcomes if o.result in {Result.FAILED, Result.NOT_TRIED}]
        changed = any(o.result in {Result.ADDED, Result.REPLACED} for o in outcomes)
        ids = {o.step.template.name.stem: o.row()["template"] for o in outcomes if o not in failed}
        document = {
            "target": made.target,
            "version": made.source.version,
            "changed": changed,
            "templates": ids,
            "steps": rows,
            "notes": list(made.notes),
        }
        actions.set_output(self.app.env, "changed", json.dumps(changed))
        actions.set_output(self.app.env, "version", made.source.version)
        actions.set_output(self.app.env, "templates", json.dumps(ids))
        text = promotion.markdown(rows, _DONE_COLUMNS)
        actions.append_summary(self.app.env, f"### {made.source.version} → {made.target}\n\n{text}")
        if self.as_json:
            report.as_json(document)
        else:
            self._print(made, outcomes, rows)
        if failed:
            raise _failure(failed, of=len(outcomes))

    def _print(
        self, made: Plan, outcomes: Sequence[Outcome], rows: Sequence[dict[str, Any]]
    ) -> None:
        click.echo(promotion.table(rows, _DONE_COLUMNS))
        for note in made.notes:
            click.echo(f"note: {note}")
        if any(o.proof == base.Proof.SIZE.value for o in outcomes):
            click.echo(
                "note: 'size only' means that nobody could compare the content: give the token "
                "Sys.AccessNetwork on the node, or keep the state file."
            )
        if all(o.result is Result.KEPT for o in outcomes):
            click.echo("Nothing to do: everything is there.")


def text_of(made: Plan) -> str:
    """Return the plan as people read it."""
    head = f"{made.source.version or 'templates'} from {made.source.reference} → {made.target}"
    rows = promotion.table([step.row() for step in made.steps], _PLAN_COLUMNS)
    notes = "".join(f"\nnote: {note}" for note in made.notes)
    return f"{head}\n\n{rows}\n{notes}".rstrip()


def _reference(tag: str, repo: str, origin: str) -> str:
    if bool(tag) == bool(origin):
        msg = "Say where the templates come from: --release with --repo, or --from."
        raise ConfigurationError(msg, hint="For example: --release v1.2.0 --repo owner/name.")
    if tag and not repo:
        msg = "--release needs --repo owner/name."
        raise ConfigurationError(msg, hint="In a workflow it is the workflow's repository.")
    return github.reference(repo, tag) if tag else origin


def _failure(failed: Sequence[Outcome], *, of: int) -> HakimError:
    first = next((o for o in failed if o.result is Result.FAILED), failed[0])
    msg = f"{len(failed)} of {of} files are not there: {first.message}"
    hint = f"{first.hint} What is done stays done; run promote again for the rest.".strip()
    return PromotionError(msg, hint=hint)
