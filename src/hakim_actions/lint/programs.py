"""Programs that rules run, and how a rule says that it cannot be checked without one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hakim_actions.lint.tree import RuleSkippedError
from hakim_actions.system import process


@dataclass(frozen=True)
class Output:
    """How a program ended, and all it printed, errors included."""

    returncode: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What it printed as one text."""
        return "\n".join(self.lines)


def needed(env: Mapping[str, str], *names: str, install: str) -> str:
    """Return the path of the first of *names* that is there; skip the rule if none is.

    *install* is the command that brings it.
    """
    for name in names:
        try:
            return process.find(name, env=env)
        except process.ProcessError:
            continue
    msg = f"{' or '.join(names)} is not installed ({install})"
    raise RuleSkippedError(msg)


def needs_root(program: str) -> None:
    """Skip the rule unless root runs it, as *program* asks."""
    if os.geteuid() != 0:
        msg = f"{program} runs only as root"
        raise RuleSkippedError(msg)


def output_of(
    argv: Sequence[process.StrPath],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> Output:
    """Run *argv* to its end, whatever its exit code, and return all that it printed."""
    lines: list[str] = []
    try:
        process.stream(argv, env=env, on_line=lines.append, cwd=cwd)
    except process.ProcessError as error:
        return Output(error.returncode, tuple(lines) or (error.message,))
    return Output(0, tuple(lines))
