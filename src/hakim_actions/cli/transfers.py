"""How far the files of a promotion are: a bar each on a terminal, a line each elsewhere."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.progress import TransferSpeedColumn as Speed

from hakim_actions.cli import report
from hakim_actions.promote.apply import Listener, Outcome
from hakim_actions.promote.plan import Step


@contextmanager
def shown(env: Mapping[str, str]) -> Iterator[Listener]:
    """Show transfers on stderr while the block runs."""
    if not sys.stderr.isatty() or env.get("TERM", "dumb") == "dumb":
        yield Listener(on_outcome=_line)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), Speed())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars = _Bars(progress)
        yield Listener(on_bytes=bars.on_bytes, on_outcome=bars.on_outcome)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[int, TaskID] = {}
        self._lock = threading.Lock()

    def on_bytes(self, step: Step, count: int) -> None:
        with self._lock:
            if id(step) not in self._tasks:
                title = f"{step.store.label}: {step.template.name.stem}"
                self._tasks[id(step)] = self._progress.add_task(title, total=step.template.size)
        self._progress.update(self._tasks[id(step)], completed=count)

    def on_outcome(self, outcome: Outcome) -> None:
        with self._lock:
            task = self._tasks.pop(id(outcome.step), None)
        if task is not None:
            self._progress.remove_task(task)
        self._progress.console.print(_text(outcome), markup=False, highlight=False)


def _line(outcome: Outcome) -> None:
    click.echo(_text(outcome), err=True)


def _text(outcome: Outcome) -> str:
    step = outcome.step
    said = f": {outcome.message}" if outcome.message else f", {report.duration(outcome.seconds)}"
    return f"{step.store.label}: {step.file} {outcome.result.value}{said}"
