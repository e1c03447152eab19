"""``hakim-actions matrix``."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from hakim_actions import matrix as feature
from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog, Project
from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.content import Sources
from hakim_actions.errors import ConfigurationError, NothingToDoError
from hakim_actions.index import Index
from hakim_actions.system import actions, git


@click.command(cls=Command, name="matrix")
@click.option("--variant", "variants", multiple=True, help="Only this variant; repeatable.")
@click.option("--release", "releases", multiple=True, help="Only this Debian release; repeatable.")
@click.option("--arch", "arches", multiple=True, help="Only this architecture; repeatable.")
@click.option("--changed-since", default="", metavar="REF", help="Only what changed since REF.")
@click.option(
    "--not-in",
    default="",
    metavar="RELEASE",
    help="Only what is not in this release: its tag, 'latest', or path or URL of an index.json.",
)
@click.option(
    "--runner",
    "runners",
    multiple=True,
    metavar="ARCH=LABEL",
    help="Runner of an architecture instead of GitHub's own; repeatable.",
)
@click.option("--fail-if-empty", is_flag=True, help="End with 3 when nothing needs a build.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    variants: tuple[str, ...],
    releases: tuple[str, ...],
    arches: tuple[str, ...],
    changed_since: str,
    not_in: str,
    runners: tuple[str, ...],
    fail_if_empty: bool,
    as_json: bool,
) -> None:
    """Tell which images need a build, as the matrix of a workflow.

    In a workflow the outputs are `matrix`, `layers`, `count` and `any`; guard the job with `any`,
    because GitHub fails a job whose matrix is empty.

    \b
    Example:
      hakim-actions matrix --variant php --changed-since origin/main
      hakim-actions matrix --not-in latest
    """  # noqa: D301 - click reads the escape
    project = Project.find(Path.cwd())
    catalog = Catalog.load(project.variants)
    filters = feature.Filters(
        variants=_split(variants), releases=_split(releases), arches=_split(arches)
    )
    rows = feature.all_rows(
        catalog,
        Sources.read(project.definition.parent),
        filters=filters,
        runners=_runners(_split(runners)),
    )
    if changed_since:
        before = git.folder_at(project.root, changed_since, feature.DEFINITION_FOLDER, env=app.env)
        paths = git.changed_paths(project.root, changed_since, env=app.env)
        rows = feature.changed(rows, before=Sources.of(before.items()), paths=paths)
    if not_in:
        rows = feature.not_published(rows, _published(not_in, app))
    _tell(feature.limited(rows), app, as_json=as_json)
    if fail_if_empty and not rows:
        msg = "Nothing needs a build."
        raise NothingToDoError(msg)


def _split(values: tuple[str, ...]) -> list[str]:
    """Take ``a,b`` and several lines, too: an input of an action is a single text."""
    return [word for value in values for word in value.replace(",", " ").split()]


def _runners(given: list[str]) -> Mapping[str, str]:
    runners = dict(feature.RUNNERS)
    for pair in given:
        arch, equals, label = pair.partition("=")
        if arch not in runners or not equals or not label:
            msg = f"--runner: '{pair}' is not ARCH=LABEL."
            raise ConfigurationError(msg, hint="Example: --runner arm64=self-hosted-arm")
        runners[arch] = label
    return runners


def _published(source: str, app: App) -> dict[ArtifactName, str]:
    """Return the content key of every image of *source*; none where there is no release yet."""
    index = _index(source, app)
    if index is None:
        click.echo("There is no release yet: all images need a build.", err=True)
        return {}
    return {entry.name: entry.content_key for entry in index.entries}


def _index(source: str, app: App) -> Index | None:
    """Read the index at *source*. What looks like a file is one, all else is a release."""
    if source.startswith(("https://", "http://")):
        from hakim_actions.system.http import Http  # noqa: PLC0415 - only who asks for it pays

        with Http() as client:
            text = client.get(source).body.decode(errors="replace")
        return Index.from_json(text, source=source)
    path = Path(source)
    if "/" not in source and path.suffix != ".json" and not path.is_file():
        from hakim_actions.publish import released  # noqa: PLC0415 - likewise

        return released.read_index(source, env=app.env)
    try:
        return Index.from_json(path.read_text("utf-8"), source=source)
    except (OSError, ValueError) as error:
        msg = f"--not-in: {source} cannot be read: {error}."
        raise ConfigurationError(msg, hint="Expected the index.json of a release.") from None


def _tell(matrix: feature.Matrix, app: App, *, as_json: bool) -> None:
    document = matrix.as_dict()
    for key, value in document.items():
        actions.set_output(app.env, key, json.dumps(value))
    if as_json:
        report.as_json(document)
        return
    for row in matrix.rows:
        click.echo(f"{row.name.stem:<32} {row.content_key[:12]}  on {row.runner}")
    click.echo(f"{len(matrix.rows)} images need a build.")
