"""``hakim-actions tools``: the pins of tools.lock."""

from pathlib import Path

import click

from hakim_actions.catalog import Project
from hakim_actions.cli import report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import HakimError
from hakim_actions.image import toolsupdate
from hakim_actions.image.pins import Source, Tool
from hakim_actions.image.toolslock import Lock
from hakim_actions.system import files
from hakim_actions.system.http import Http


@click.group(name="tools")
def command() -> None:
    """Show or refresh the pins of tools.lock, which has what images get beside Debian packages."""


@command.command(cls=Command, name="list", epilog="Example: hakim-actions tools list --json")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_tools(*, as_json: bool) -> None:
    """List the tools: version, variants, sources, and which have no pin yet."""
    lock = Lock.load(Project.find(Path.cwd()).tools_lock)
    if as_json:
        report.as_json([_document(tool) for tool in lock.tools.values()])
        return
    for tool in lock.tools.values():
        variants = tool.variants if isinstance(tool.variants, str) else ", ".join(tool.variants)
        click.echo(f"{tool.name} {tool.version} ({tool.kind}; {variants})")
        for arch, source in tool.sources.items():
            click.echo(f"    {arch}: {_described(source)}")


@command.command(cls=Command, epilog="Example: hakim-actions tools update bun --dry-run")
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
@click.option(
    "--tool-mirror",
    "mirrors",
    multiple=True,
    metavar="URL=MIRROR",
    help="Take what begins with URL from MIRROR; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def update(
    app: App, *, name: str | None, dry_run: bool, mirrors: tuple[str, ...], as_json: bool
) -> None:
    """Pin the newest version of every tool, or of NAME, and show what changes.

    A tool that cannot be asked keeps its pin, and the command ends with an error after the rest
    is written.
    """
    path = Project.find(Path.cwd()).tools_lock
    lock = Lock.load(path)
    with Http() as http:
        result = toolsupdate.update(
            lock,
            names=[lock.tool(name).name] if name else list(lock.tools),
            http=http,
            env=app.env,
            mirrors=toolsupdate.parse_mirrors(mirrors),
        )
    if result.changes and not dry_run:
        files.write_text(path, result.text)
    if as_json:
        report.as_json([_changed(change) for change in result.changes])
    else:
        for change in result.changes:
            click.echo(str(change))
        if not result.changes:
            click.echo("Every pin that could be asked for is up to date.")
    if result.problems:
        msg = f"{len(result.problems)} pins could not be refreshed: {'; '.join(result.problems)}."
        raise HakimError(msg, hint="They stay as they are. Try again where they can be reached.")


def _described(source: Source) -> str:
    pin = source.fingerprint or source.lockfile or source.digest
    return f"{source}, {f'NO PIN: {source.unpinned}' if source.unpinned else pin}"


def _changed(change: toolsupdate.Change) -> dict[str, object]:
    old, new = change.digest
    return {
        "name": change.tool,
        "source": change.arch,
        "version": change.version[1],
        "old_version": change.version[0],
        "pin": str(new),
        "old_pin": str(old or ""),
    }


def _document(tool: Tool) -> dict[str, object]:
    return {
        "name": tool.name,
        "version": tool.version,
        "kind": tool.kind,
        "variants": tool.variants,
        "sources": {
            arch: {
                "version": source.version,
                "location": source.location,
                "pin": str(source.fingerprint or source.lockfile or source.digest or ""),
                "unpinned": source.unpinned,
            }
            for arch, source in tool.sources.items()
        },
    }
