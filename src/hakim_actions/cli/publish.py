"""``hakim-actions publish``."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from hakim_actions.catalog import Project
from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import HakimError
from hakim_actions.publish import base, consolidate, diff, notes, versions
from hakim_actions.publish.base import Plan, Publication, Published, Settings, Target
from hakim_actions.system import actions
from hakim_actions.system.progress import Progress


@click.command(
    cls=Command,
    epilog="Example: hakim-actions publish --target github --tag v1.2.0 artifacts/ --dry-run",
)
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--target",
    type=click.Choice(base.target_names()),
    default=base.DEFAULT_TARGET,
    show_default=True,
    help="The kind of place.",
)
@click.option(
    "--to",
    default="",
    metavar="PLACE",
    help="github: owner/name [GITHUB_REPOSITORY]. registry: host/owner [ghcr.io/<owner>]."
    f" directory: a folder [{base.DEFAULT_FOLDER}].",
)
@click.option(
    "--tag", default="", help="The version [the tag of the workflow, or the artifacts']. "
)
@click.option(
    "--replace-draft", is_flag=True, help="Throw away an unfinished release of other files."
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="For one file with all its attempts.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 16),
    default=4,
    show_default=True,
    help="Uploads at a time.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="github: holds the token [GITHUB_TOKEN].",
)
@click.option(
    "--auth-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="registry: credentials as 'skopeo login' writes them [REGISTRY_AUTH_FILE].",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    folders: tuple[Path, ...],
    target: str,
    to: str,
    tag: str,
    replace_draft: bool,
    deadline: float,
    parallel: int,
    token_file: Path | None,
    auth_file: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish the artifacts below FOLDERS as one release: complete, or not there.

    Without FOLDERS, what build left. Safe to run again: it goes on where it stopped, and does
    nothing when the release is finished.
    """
    settings = Settings(
        to=to,
        env=app.env,
        token=token_file.read_text(encoding="utf-8").strip() if token_file else "",
        auth_file=auth_file,
        replace_draft=replace_draft,
        deadline=deadline,
        parallel=parallel,
    )
    place = base.open_target(target, settings)
    places = list(folders) or [Project.find(Path.cwd()).output]
    progress = report.progress_for(app.env, quiet=as_json)
    with progress.phase("Checking the artifacts"):
        publication = consolidate.consolidate(places, version=tag or _workflow_tag(app))
    with progress.phase("Looking what is there"):
        plan = place.plan(publication)
    if dry_run:
        _show(plan, publication, as_json=as_json)
        return
    published = _publish(place, publication, plan, progress)
    if published.images:
        _record(publication, published, places[0])
    _tell(app, publication, published, as_json=as_json)


def _workflow_tag(app: App) -> str:
    is_tag = app.env.get("GITHUB_REF_TYPE") == "tag"
    return app.env.get("GITHUB_REF_NAME", "") if is_tag else ""


def _publish(place: Target, publication: Publication, plan: Plan, progress: Progress) -> Published:
    text = _notes(place, publication, progress) if plan.steps else ""
    return place.publish(publication, notes=text, progress=progress)


def _notes(place: Target, publication: Publication, progress: Progress) -> str:
    return notes.release_notes(
        publication.index,
        base_url=place.base_url(publication.version),
        difference=_difference(place, publication, progress),
        generated=place.generated_notes(publication),
    )


def _difference(
    place: Target, publication: Publication, progress: Progress
) -> diff.Difference | None:
    """Return what changed; an earlier release that cannot be read does not stop this one."""
    try:
        previous = place.previous(publication.version)
    except HakimError as error:
        progress.note(f"The notes will not say what changed: {error.message}")
        return None
    if previous is None:
        return None
    return diff.compare(
        diff.of_index(previous),
        diff.of_index(publication.index),
        names=(previous.version, publication.version),
    )


def _record(publication: Publication, published: Published, folder: Path) -> None:
    """Write the digests of the images into index.json, and prove it anew in sha256sums.txt."""
    entries = tuple(
        replace(entry, image=published.images.get(entry.name.stem, entry.image))
        for entry in publication.index.entries
    )
    index = replace(publication.index, entries=entries)
    consolidate.write(consolidate.with_index(publication, index), folder)


def _show(plan: Plan, publication: Publication, *, as_json: bool) -> None:
    if as_json:
        report.as_json({"version": publication.version, **asdict(plan)})
        return
    click.echo(f"{publication.version} → {plan.destination}")
    for step in plan.steps:
        size = report.size(step.size) if step.size else ""
        why = f"  ({step.why})" if step.why else ""
        click.echo(f"  {step.action:<8} {step.name:<48} {size:>9}{why}".rstrip())
    click.echo(f"To send: {report.size(plan.to_send)}" if plan.steps else "Nothing to do.")


def _tell(app: App, publication: Publication, published: Published, *, as_json: bool) -> None:
    version = publication.version
    prerelease = versions.is_prerelease(version)
    outputs: dict[str, Any] = {
        "version": version,
        "url": published.url,
        "changed": published.changed,
        "prerelease": prerelease,
        "images": dict(published.images),
    }
    actions.set_output(app.env, "release-url", published.url)
    actions.set_output(app.env, "version", version)
    actions.set_output(app.env, "changed", json.dumps(published.changed))
    actions.set_output(app.env, "images", json.dumps(dict(published.images)))
    table = notes.artifact_table(publication.index)
    actions.append_summary(app.env, f"### {version}: {published.url}\n\n{table}")
    if as_json:
        report.as_json(outputs)
        return
    done = "is published" if published.changed else "was published already, with the same files"
    click.echo(f"{version} {done}: {published.url}")
    for name, image in published.images.items():
        click.echo(f"  {name}: {image}")
