"""The group of all commands, loaded one by one, and the one place that prints errors."""

import importlib
import signal
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from hakim_actions import __version__
from hakim_actions.cli import report
from hakim_actions.errors import ConfigurationError, HakimError, did_you_mean

#: Command → what it does. The module has the command's name with '_' for '-' and is imported only
#: when its command runs, so that --help stays fast.
COMMANDS: Final = {
    "boot-test": "Boot an artifact in LXC as Proxmox would run it, and check what it promises.",
    "build": "Build an image, verify it, boot it, and leave it in the output folder.",
    "cache": "Look after the cache of builds: base layers, compressed pieces, downloads.",
    "diff": "Show what changed between two releases or images: packages, tools, sizes.",
    "doctor": "Check every precondition and print the line that grants what is missing.",
    "lint": "Check that definition, variants, scripts, templates, workflows and docs agree.",
    "matrix": "Tell which images need a build, as the matrix of a workflow.",
    "promote": "Bring templates into a Proxmox storage or a folder, and prove them there.",
    "prune": "Delete old versions of promoted templates.",
    "publish": "Publish artifacts as one release: complete, or not there.",
    "push-templates": "Push the Coder templates: validated, all or none, or back to the last.",
    "reproduce": "Build an image again from its manifest, and prove that the bytes are the same.",
    "rollback": "Make an earlier version of the templates the current one again.",
    "site": "Write one static page over releases: images, sizes over time, packages, commands.",
    "tools": "Show or refresh the pins of tools.lock.",
    "validate-templates": "Check the Coder templates with Terraform or OpenTofu.",
    "verify": "Check artifacts: checksums, and the structure of the root file system.",
}


@dataclass(frozen=True, kw_only=True)
class App:
    """What a command gets from outside: the environment and the stream to report on."""

    env: Mapping[str, str]


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of *cmd_name* and return its ``command``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"hakim_actions.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        _read_documented_variables(cmd_name, command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Answer an unknown command with the nearest known one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            msg = f"Unknown command '{name}'."
            raise ConfigurationError(msg, hint=did_you_mean(name, COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from COMMANDS, so that none is imported for it."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


def _read_documented_variables(path: str, command: click.Command) -> None:
    """Let HAKIM_<COMMAND>_<OPTION> win over the other variables of each option of *command*.

    click's own automatic name has the parameter in it, which is not always the option's name.
    """
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            long = max(parameter.opts, key=len).removeprefix("--")
            name = f"HAKIM_{path}_{long}".replace("-", "_").upper()
            given = parameter.envvar
            others = [given] if isinstance(given, str) else list(given or ())
            parameter.envvar = [name, *(other for other in others if other != name)]
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            _read_documented_variables(f"{path}-{name}", subcommand)


@click.group(
    cls=LazyGroup, context_settings={"auto_envvar_prefix": "HAKIM", "max_content_width": 100}
)
@click.version_option(__version__, prog_name="hakim-actions")
def group() -> None:
    """Golden Debian LXC templates for Proxmox and Coder, from a commit to a workspace.

    Every option can also be given as HAKIM_<COMMAND>_<OPTION>; an empty value counts as unset.

    Exit codes: 0 ok, 1 unexpected, 2 usage, 3 nothing to do, 4 build, 5 verification, 6 publish,
    7 promotion, 8 templates.
    """


class _Terminated(BaseException):
    """SIGTERM came: unwinds like Ctrl-C, so that everything is cleaned up."""


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command and return its exit code; print errors as ``error:`` and ``hint:`` lines."""
    report.hide_secrets(env)
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        result = group.main(
            list(argv), prog_name="hakim-actions", standalone_mode=False, obj=App(env=env)
        )
    except HakimError as error:
        report.error(error, env=env)
        return error.exit_code
    except click.ClickException as error:
        report.error(ConfigurationError(error.format_message(), hint=_usage_hint(error)), env=env)
        return ConfigurationError.exit_code
    except (KeyboardInterrupt, click.Abort):
        report.error(HakimError("Interrupted."), env=env)
        return 128 + signal.SIGINT
    except _Terminated:
        report.error(HakimError("Terminated."), env=env)
        return 128 + signal.SIGTERM
    except Exception as error:  # noqa: BLE001 - the boundary: a bug becomes a line and a log
        report.error(_bug(error), env=env)
        return HakimError.exit_code
    finally:
        signal.signal(signal.SIGTERM, before)
    return result if isinstance(result, int) else 0


def _on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    # A second SIGTERM must not interrupt the clean-up that the first one started.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _usage_hint(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return f"Try '{ctx.command_path} --help'." if ctx is not None else "Try 'hakim-actions --help'."


def _bug(error: Exception) -> HakimError:
    """Write the traceback to a log that only this user can read, and return the short line."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="hakim-actions-", suffix=".log", delete=False
    ) as stream:
        traceback.print_exception(error, file=stream)
    return HakimError(
        f"Unexpected {type(error).__name__}: {error}",
        hint=f"This is a bug. The full log is in {Path(stream.name)}.",
    )
