"""What promote, rollback, prune and doctor share: options, connections, tables."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from hakim_actions.cli import report
from hakim_actions.cli.main import App
from hakim_actions.errors import ConfigurationError
from hakim_actions.promote import base
from hakim_actions.promote.base import Settings
from hakim_actions.promote.directory import DEFAULT_FOLDER
from hakim_actions.promote.endpoint import Endpoint, Token
from hakim_actions.promote.state import State
from hakim_actions.system import files
from hakim_actions.system.http import Deadline
from hakim_actions.system.tls import Trust, parse_fingerprint

_Command = TypeVar("_Command", bound=Callable[..., Any])
TOKEN_VARIABLE = "PROXMOX_TOKEN"  # noqa: S105 - the name of a variable

_PROXMOX: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option(
        "--endpoint",
        envvar="PROXMOX_ENDPOINT",
        default="",
        metavar="URL",
        help="https://<any node of the cluster>:8006 [PROXMOX_ENDPOINT].",
    ),
    click.option(
        "--token-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Holds user@realm!name=secret; without it ${TOKEN_VARIABLE} is read.",
    ),
    click.option(
        "--storage",
        envvar="PROXMOX_STORAGE",
        default="",
        metavar="NAME",
        help="The storage for container templates [PROXMOX_STORAGE].",
    ),
    click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="NAME",
        help="Only this node; repeatable. Default: all that are online.",
    ),
    click.option(
        "--ca-file",
        envvar="PROXMOX_CA_FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The CA of the cluster, /etc/pve/pve-root-ca.pem [PROXMOX_CA_FILE].",
    ),
    click.option(
        "--fingerprint",
        envvar="PROXMOX_FINGERPRINT",
        default="",
        metavar="SHA256",
        help="Trust exactly this certificate [PROXMOX_FINGERPRINT].",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Trust any certificate: whoever is in between gets the token. Refused in CI.",
    ),
    click.option("--yes-insecure", is_flag=True, help="With --insecure, also in CI."),
    click.option(
        "--parallel",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="Nodes worked on at a time.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=1),
        default=7200,
        show_default=True,
        metavar="SECONDS",
        help="For everything together.",
    ),
)
_TARGET: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option(
        "--target",
        type=click.Choice(base.TARGETS),
        default=base.TARGETS[0],
        show_default=True,
        help="The kind of place.",
    ),
    click.option(
        "--path",
        "folder",
        type=click.Path(path_type=Path),
        help=f"directory: the folder [{DEFAULT_FOLDER}].",
    ),
    click.option(
        "--state",
        "state_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Remembers what was promoted [~/.local/state/hakim-actions/promotions.json].",
    ),
)


def proxmox_options(command: _Command) -> _Command:
    """Add the options that describe a Proxmox cluster."""
    for option in reversed(_PROXMOX):
        command = option(command)
    return command


def target_options(command: _Command) -> _Command:
    """Add the options that describe any target, and the state file."""
    command = proxmox_options(command)
    for option in reversed(_TARGET):
        command = option(command)
    return command


def settings(app: App, options: Mapping[str, Any]) -> Settings:
    """Return what the *options* of :func:`target_options` say; raise ConfigurationError."""
    endpoint = options["endpoint"]
    return Settings(
        endpoint=Endpoint.parse(endpoint, trust=_trust(app, options)) if endpoint else None,
        token=_token(app, options["token_file"]),
        storage=options["storage"],
        nodes=tuple(options["nodes"]),
        folder=options.get("folder"),
        parallel=options["parallel"],
        deadline=Deadline(options["timeout"]),
    )


@contextmanager
def opened_state(app: App, path: Path | None) -> Iterator[State]:
    """Load the state and hold its lock, so that two runs do not forget what the other did."""
    path = path or _default_state(app.env)
    files.writable_folder(path.parent, option="--state")
    with files.locked(path.with_name(path.name + ".lock"), purpose="A promotion with this state"):
        yield State.load(path)


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask on a terminal; elsewhere only ``--yes`` counts."""
    if yes:
        return True
    if not sys.stdin.isatty():
        click.echo("Nothing was changed. Run it again with --yes to do this.", err=True)
        return False
    return click.confirm(question, err=True)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return *rows* as aligned text with a heading."""
    cells = [[name.upper() for name in columns], *(_cells(row, columns) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return *rows* as a Markdown table."""
    lines = [columns, ["---"] * len(columns), *(_cells(row, columns) for row in rows)]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [
        report.size(row[name]) if name == "size" else str(row[name]).replace("\n", " ")
        for name in columns
    ]


def _token(app: App, path: Path | None) -> Token | None:
    if path is not None:
        text, source = path.read_text(encoding="utf-8"), f"--token-file {path}"
        if path.stat().st_mode & 0o077:
            click.echo(f"warning: others can read {path}: chmod 600 {path}", err=True)
    else:
        text, source = app.env.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE
    return Token.parse(text, source=source) if text else None


def _trust(app: App, options: Mapping[str, Any]) -> Trust:
    chosen = [name for name in ("ca_file", "fingerprint", "insecure") if options[name]]
    if len(chosen) > 1:
        names = " and ".join("--" + name.replace("_", "-") for name in chosen)
        msg = f"{names} exclude each other."
        raise ConfigurationError(msg, hint="Keep the CA file, or the fingerprint.")
    if options["insecure"]:
        if app.env.get("CI") == "true" and not options["yes_insecure"]:
            msg = "--insecure is refused in CI."
            raise ConfigurationError(
                msg, hint="Give --ca-file or --fingerprint; 'hakim-actions doctor' prints it."
            )
        click.echo(
            "WARNING: --insecure: the certificate is not checked. Whoever is between this machine "
            "and the node can take the token.",
            err=True,
        )
    fingerprint = options["fingerprint"]
    return Trust(
        ca_file=options["ca_file"],
        fingerprint=parse_fingerprint(fingerprint, option="--fingerprint") if fingerprint else "",
        insecure=options["insecure"],
    )


def _default_state(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or "/root") / ".local" / "state"
    return Path(home) / "hakim-actions" / "promotions.json"
