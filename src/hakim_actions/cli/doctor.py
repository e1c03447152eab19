"""``hakim-actions doctor``."""

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from typing import Any, Final

import click

from hakim_actions.cli import promotion, report
from hakim_actions.cli.command import Command
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError, HakimError
from hakim_actions.system.finding import Finding

#: Topic → module with ``findings(env) -> Iterable[Finding]``. A topic is there with its module.
_MODULES: Final = {
    "build": "hakim_actions.image.doctor",
    "coder": "hakim_actions.coder.doctor",
    "github": "hakim_actions.publish.doctor",
}
_PROXMOX: Final = "proxmox"
_MARKS: Final = {True: "ok", False: "MISSING", None: "optional"}


def topics() -> list[str]:
    """Return what can be examined."""
    return sorted([_PROXMOX, *(name for name, module in _MODULES.items() if _exists(module))])


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its package
        return False


@click.command(
    cls=Command, epilog="Example: hakim-actions doctor proxmox --endpoint https://pve1.example:8006"
)
@click.argument("topic", nargs=-1, type=click.Choice(topics()))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@promotion.proxmox_options
@click.pass_obj
def command(app: App, /, *, topic: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Check every precondition and print the exact line that grants what is missing.

    Without TOPIC, all of them; Proxmox then only where an endpoint is given. Changes nothing.
    """
    chosen = topic or [name for name in topics() if name != _PROXMOX or options["endpoint"]]
    found = {name: list(_examine(name, app, options)) for name in chosen}
    if as_json:
        report.as_json({name: [vars(finding) for finding in f] for name, f in found.items()})
    else:
        for name, findings in found.items():
            _print(name, findings)
    missing = any(finding.ok is False for findings in found.values() for finding in findings)
    return ConfigurationError.exit_code if missing else 0


def _examine(name: str, app: App, options: dict[str, Any]) -> Iterable[Finding]:
    try:
        if name == _PROXMOX:
            module = importlib.import_module("hakim_actions.promote.doctor")
            yield from module.findings(promotion.settings(app, options))
            return
        examine: Callable[..., Iterable[Finding]] = importlib.import_module(_MODULES[name]).findings
        yield from examine(app.env)
    except ConfigurationError as error:
        problems = error.problems or (error.message,)
        for problem in problems:
            yield Finding(check="configuration", ok=False, detail=problem, fix=(f"# {error.hint}",))
    except HakimError as error:
        yield Finding(check="access", ok=False, detail=error.message, fix=(f"# {error.hint}",))


def _print(name: str, findings: Iterable[Finding]) -> None:
    click.echo(f"{name}:")
    for finding in findings:
        detail = f": {finding.detail}" if finding.detail else ""
        click.echo(f"  {_MARKS[finding.ok]:<8}  {finding.check}{detail}")
        for line in finding.fix:
            click.echo(f"              {line}")
