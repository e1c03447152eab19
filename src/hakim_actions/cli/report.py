"""What people and machines read: errors, results, and the progress of a build."""

import json
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from hakim_actions.errors import ConfigurationError, HakimError
from hakim_actions.system import actions, units
from hakim_actions.system.progress import Progress


def hide_secrets(env: Mapping[str, str]) -> None:
    """Tell the runner which words of *env* it must not show; before anything else is printed."""
    if actions.inside(env):
        for value in actions.known_secrets(env):
            for line in actions.masks(value):
                click.echo(line)


def error(failure: HakimError, *, env: Mapping[str, str]) -> None:
    """Print *failure* to stderr, and as an annotation in a workflow.

    A message may quote what came from outside, so the runner takes no command from its lines.
    """
    problems = failure.problems if isinstance(failure, ConfigurationError) else ()
    lines = [f"{_styled('error:', 'red', env)} {failure.message}"]
    lines += [f"  - {problem}" for problem in problems]
    if failure.hint:
        lines.append(f"{_styled('hint:', 'cyan', env)} {failure.hint}")
    text = "\n".join(lines)
    if actions.inside(env):
        message = "\n".join([failure.message, *(f"- {problem}" for problem in problems)])
        click.echo(actions.command("error", message, title="hakim-actions"))
        text = actions.stopped(text)
    click.echo(text, err=True)


def as_json(document: Any) -> None:
    """Print *document* for machines: the only thing on stdout of a command with ``--json``."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def size(count: int) -> str:
    """Return *count* bytes as people read it, in powers of 1000 like disks and downloads."""
    return units.size(count)


def cache_use(counts: Mapping[str, str | int]) -> str:
    """Return in words what a build took from the cache, which *counts* has as a manifest does."""
    layer = f"layer {counts['layer']}" if counts.get("layer") else ""
    pieces = f"{counts['pieces_reused']}/{counts['pieces']} pieces" if counts.get("pieces") else ""
    return ", ".join(filter(None, (layer, pieces))) or "—"


def duration(seconds: float) -> str:
    """Return *seconds* as people read it: ``4.2 s`` or ``3 min 05 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def progress_for(env: Mapping[str, str], *, quiet: bool) -> Progress:
    """Return the listener that fits where the output goes; with *quiet* stdout stays clean."""
    if actions.inside(env) and not quiet:
        return ActionsProgress()
    if sys.stderr.isatty() and env.get("TERM", "dumb") != "dumb":
        from hakim_actions.cli.terminal import TerminalProgress  # noqa: PLC0415 - imports rich

        return TerminalProgress()
    return PlainProgress(quiet=quiet)


class PlainProgress:
    """Plain lines on stderr: one when a phase starts, one when it ends, the child's between."""

    def __init__(self, *, quiet: bool) -> None:
        """With *quiet*, the lines of child programs are left out."""
        self._quiet = quiet

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Print when the block starts, and how long it took."""
        start = time.monotonic()
        click.echo(f"==> {title}", err=True)
        try:
            yield
        except BaseException:
            click.echo(f"==> {title}: failed", err=True)
            raise
        click.echo(f"==> {title}: {duration(time.monotonic() - start)}", err=True)

    def line(self, text: str) -> None:
        """Print *text*, set off from our own lines."""
        if not self._quiet:
            click.echo(f"    {text}", err=True)

    def note(self, text: str) -> None:
        """Print *text*."""
        click.echo(text, err=True)


class SharedProgress:
    """Plain lines on stderr for one of several builds side by side, each with its name in front.

    Lines of child programs are left to the log of the build: nobody reads two at once. Groups of a
    workflow's log would end each other, so there are none.
    """

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        """Put *name* in front."""
        self._name = name
        self._inside = actions.inside(env)

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Print how long the block took."""
        start = time.monotonic()
        try:
            yield
        except BaseException:
            self._say(f"{title}: failed")
            raise
        self._say(f"{title}: {duration(time.monotonic() - start)}")

    def line(self, text: str) -> None:
        """Drop *text*."""

    def note(self, text: str) -> None:
        """Print *text*, which may quote a child program."""
        self._say(text)

    def _say(self, text: str) -> None:
        named = "\n".join(f"[{self._name}] {line}" for line in text.splitlines())
        click.echo(actions.stopped(named) if self._inside else named, err=True)


class ActionsProgress:
    """A group a phase in the log of a workflow, always closed; children cannot give commands."""

    def __init__(self) -> None:
        """Start outside of any phase."""
        # While this random word stands, the runner takes no command from what a child prints.
        self._token = ""
        self._matching = False

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Open a group for the block and say after it how long it took."""
        start = time.monotonic()
        self._token = secrets.token_hex(16)
        click.echo(actions.command("group", title))
        click.echo(actions.command("stop-commands", self._token))
        try:
            yield
        finally:
            click.echo(f"::{self._token}::")
            self._stop_matching()
            click.echo(actions.command("endgroup"))
        click.echo(f"{title}: {duration(time.monotonic() - start)}")

    def line(self, text: str) -> None:
        """Print *text* as it is; errors of apt and its like in it become annotations."""
        if self._token and not self._matching:
            self._matching = True
            click.echo(f"::{self._token}::")
            click.echo(actions.command("add-matcher", str(actions.PROBLEM_MATCHERS)))
            click.echo(actions.command("stop-commands", self._token))
        click.echo(text)

    def _stop_matching(self) -> None:
        # The matchers must not look at the later steps of the job, which are the caller's.
        for owner in actions.PROBLEM_MATCHER_OWNERS if self._matching else ():
            click.echo(actions.command("remove-matcher", owner=owner))
        self._token, self._matching = "", False

    def note(self, text: str) -> None:
        """Print *text* as a notice."""
        click.echo(text)


def _styled(word: str, colour: str, env: Mapping[str, str]) -> str:
    if env.get("NO_COLOR"):
        return word
    return click.style(word, fg=colour, bold=True)
