"""Runs a command in a process of its own that can be killed at any moment, and starts fast.

A fork server that has everything imported makes the processes, so that a test can afford dozens.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

_PRELOADED: Final = [
    "fakes.github_client",
    "hakim_actions.cli.publish",
    "hakim_actions.publish.targets.directory",
    "hakim_actions.publish.targets.github",
]
#: Audit events that change files; see https://docs.python.org/3/library/audit_events.html
_CHANGES: Final = {"os.rename", "os.mkdir", "os.remove", "os.symlink", "os.chmod", "shutil.rmtree"}


def start(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: Path,
    die_at: tuple[Path, int] | None = None,
) -> ForkServerProcess:
    """Start ``hakim-actions argv`` with its output in *log*.

    With *die_at* (folder, n) it kills itself just before it changes something in the folder for
    the n-th time.
    """
    context = multiprocessing.get_context("forkserver")
    _start_server()
    arguments = (list(argv), dict(environment), str(log), die_at)
    process = context.Process(target=_run, args=arguments, daemon=True)
    process.start()
    return process


@functools.cache
def _start_server() -> None:
    """Start the fork server so that it finds what it shall import; Python 3.11 forgets sys.path."""
    forkserver.set_forkserver_preload(_PRELOADED)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def run(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    log: Path,
    die_at: tuple[Path, int] | None = None,
) -> int:
    """Run it to its end and return the exit code, ``-9`` when it was killed."""
    process = start(argv, environment, log=log, die_at=die_at)
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
        msg = f"{argv} did not end"
        raise AssertionError(msg)
    return process.exitcode


def _run(
    argv: list[str], environment: dict[str, str], log: str, die_at: tuple[Path, int] | None
) -> None:
    from hakim_actions.cli.main import main  # noqa: PLC0415 - preloaded in the fork server

    with open(log, "a", buffering=1, encoding="utf-8") as stream:  # noqa: PTH123
        if die_at is not None:
            sys.addaudithook(_Killer(*die_at))
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            status = main(argv, environment)
    os._exit(status)


class _Killer:
    """Counts changes below a folder and kills this process before the n-th."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = str(folder)
        self._left = number

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event not in _CHANGES and not is_write:
            return
        if not any(str(argument).startswith(self._folder) for argument in arguments[:2]):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
