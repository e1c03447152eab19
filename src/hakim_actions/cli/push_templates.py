"""``hakim-actions push-templates``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.coder.api import Coder
from hakim_actions.coder.archive import LIMIT, pack
from hakim_actions.coder.job import Result, Source
from hakim_actions.coder.label import label_for
from hakim_actions.coder.push import Push
from hakim_actions.coder.release import RELEASE_NAME, release_file
from hakim_actions.coder.template import Template, discover, find_root, named
from hakim_actions.coder.variables import given_variables
from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.index import Index
from hakim_actions.system import actions
from hakim_actions.system.http import Deadline
from hakim_actions.system.tls import Trust


@click.command(
    cls=Command,
    epilog="Example: CODER_URL=https://coder.example.com hakim-actions push-templates --dry-run",
)
@click.argument("names", nargs=-1)
@click.option("--url", default="", help="The address of Coder [CODER_URL].")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Holds the session token [CODER_SESSION_TOKEN].",
)
@click.option("--organization", default="", help="Its name or id [CODER_ORGANIZATION].")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The CA of Coder's certificate [the system's].",
)
@click.option(
    "--index",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The index.json of a release: gives the templates their download addresses.",
)
@click.option("--version-name", default="", help="The new version's name [the tag, or branch-sha].")
@click.option("--message", default="", help="The new version's message [the commit's].")
@click.option(
    "--variable",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A template variable that is no secret; also TF_VAR_<name> in the environment.",
)
@click.option(
    "--variables-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Template variables as YAML.",
)
@click.option(
    "--all-or-nothing/--one-by-one",
    default=True,
    show_default=True,
    help="Whether one bad template keeps all old versions active.",
)
@click.option("--no-activate", is_flag=True, help="Leave the old versions active.")
@click.option("--force", is_flag=True, help="Push also what has not changed.")
@click.option("--rollback", is_flag=True, help="Activate the good version before the active one.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=900,
    show_default=True,
    metavar="SECONDS",
    help="For everything together.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def command(
    app: App,
    *,
    names: Sequence[str],
    url: str,
    token_file: Path | None,
    organization: str,
    ca_file: Path | None,
    index: Path | None,
    version_name: str,
    message: str,
    variables: Sequence[str],
    variables_file: Path | None,
    all_or_nothing: bool,
    no_activate: bool,
    force: bool,
    rollback: bool,
    dry_run: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Push the templates in coder/templates, or only NAMES, to a Coder server.

    A template whose content and variables did not change is left alone. New versions are imported
    while the old ones stay active; only when all are good they are activated.
    """
    root = find_root(Path.cwd())
    templates = named(discover(root), names)
    sources = (
        []
        if rollback
        else _sources(
            templates,
            root=root,
            index=index,
            given=given_variables(templates, options=variables, file=variables_file, env=app.env),
        )
    )
    label = label_for(root, env=app.env, name=version_name, message=message)
    progress = report.progress_for(app.env, quiet=as_json)
    with _coder(app.env, url, token_file, ca_file, timeout) as coder:
        push = Push(
            coder=coder,
            organization=coder.organization(organization or app.env.get("CODER_ORGANIZATION", "")),
            progress=progress,
            all_or_nothing=all_or_nothing,
            activate=not no_activate,
            force=force,
        )
        if rollback:
            results = push.rollback(templates, dry_run=dry_run)
        else:
            results = push.plan(sources, label) if dry_run else push.run(sources, label)
    _report(results, env=app.env, as_json=as_json)


def _sources(
    templates: Sequence[Template], *, root: Path, index: Path | None, given: Mapping[str, str]
) -> list[Source]:
    overlay = {RELEASE_NAME: release_file(_index(index))} if index else {}
    return [
        Source(
            template=template,
            pack=pack(template.folder, root=root, overlay=overlay),
            variables=given,
        )
        for template in templates
    ]


def _index(path: Path) -> Index:
    try:
        return Index.from_json(path.read_text(encoding="utf-8"), source=str(path))
    except UnicodeDecodeError:
        msg = f"{path} is not a release index."
        raise VerificationError(msg, hint="Expected the index.json of a release.") from None


def _coder(
    env: Mapping[str, str], url: str, token_file: Path | None, ca_file: Path | None, timeout: float
) -> Coder:
    address = url or env.get("CODER_URL", "")
    token = (
        token_file.read_text(encoding="utf-8") if token_file else env.get("CODER_SESSION_TOKEN", "")
    ).strip()
    problems = []
    if not address.startswith(("https://", "http://")):
        problems.append("--url or CODER_URL: expected the address of Coder, https://…")
    if not token:
        problems.append("--token-file or CODER_SESSION_TOKEN: expected a session token")
    if problems:
        msg = "It is not said which Coder to push to, and as whom."
        raise ConfigurationError(
            msg, hint="Make a token with 'coder tokens create'.", problems=problems
        )
    return Coder(url=address, token=token, trust=Trust(ca_file=ca_file), deadline=Deadline(timeout))


def _report(results: Sequence[Result], *, env: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        report.as_json({"templates": [asdict(result) for result in results]})
    else:
        for result in results:
            click.echo(_line(result))
    for result in results:
        actions.set_output(env, f"{result.name}-version", result.version)
    rows = "".join(f"| {r.name} | {r.action} | {r.version} | {r.size} |\n" for r in results)
    actions.append_summary(
        env, f"| Template | | Version | Bytes |\n| --- | --- | --- | ---: |\n{rows}"
    )


def _line(result: Result) -> str:
    packed = f", {report.size(result.size)} of {report.size(LIMIT)}" if result.size else ""
    took = f" in {report.duration(result.seconds)}" if result.seconds >= 0.1 else ""
    version = f" ({result.version})" if result.version else ""
    return f"{result.name}: {result.action}{version}{packed}{took}"
