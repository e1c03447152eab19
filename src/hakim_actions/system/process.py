"""The one way to start another program."""

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias

from hakim_actions.errors import HakimError

#: Seconds a program gets to end by itself after SIGTERM before its whole group is killed.
GRACE: Final = 10.0

#: What a child may inherit: enough to find programs, speak English and trust the site's CA.
_KEPT: Final = (
    "PATH",
    "HOME",
    "TERM",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)

_PR_SET_PDEATHSIG: Final = 1

StrPath: TypeAlias = str | os.PathLike[str]


class ProcessError(HakimError):
    """A program was missing, ended with an error or was ended by a signal."""

    def __init__(
        self, message: str, *, hint: str = "", returncode: int = 127, tail: Sequence[str] = ()
    ) -> None:
        """Keep *returncode* (exit status, ``-n`` for signal n, 127 when it was not found).

        *tail* are the last lines that the program printed.
        """
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.tail = tuple(tail)


@dataclass(frozen=True)
class Completed:
    """What a program that ended well or was allowed to fail left behind."""

    returncode: int
    stdout: str


def child_environment(
    env: Mapping[str, str], extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a child: the few harmless variables of *env*, then *extra*."""
    kept = {name: env[name] for name in _KEPT if name in env}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def find(program: str, *, env: Mapping[str, str]) -> str:
    """Return the full path of *program*, also when sbin is not on the user's PATH."""
    path = env.get("PATH", os.defpath)
    found = shutil.which(program, path=f"{path}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        msg = f"The program '{program}' was not found."
        raise ProcessError(msg, hint=f"Install it, or put its folder on PATH ({path}).")
    return found


def is_installed(program: str, *, env: Mapping[str, str]) -> bool:
    """Tell whether :func:`find` finds *program*."""
    try:
        find(program, env=env)
    except ProcessError:
        return False
    return True


def bound(argv: Sequence[StrPath]) -> list[StrPath]:
    """Return the command that runs *argv* (as root) so that nothing of it outlives this process.

    It gets a PID namespace of its own, which the kernel ends with this process, even by SIGKILL.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--"),
        *argv,
    ]


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send *number* to this process when its parent ends, however that ends.

    https://www.man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def run(
    argv: Sequence[StrPath],
    *,
    env: Mapping[str, str],
    check: bool = True,
    stdin: bytes | None = None,
    timeout: float | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run *argv* to its end and return what it printed; never through a shell.

    *env* is the whole environment of the child (see :func:`child_environment`), *timeout* is in
    seconds. Raises ProcessError with the last lines of stderr when *check* and it fails.
    """
    command = [find(os.fspath(argv[0]), env=env), *(os.fspath(part) for part in argv[1:])]
    try:
        done = subprocess.run(
            command,
            env=dict(env),
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"'{shlex.join(command)}' did not end within {timeout:g} seconds."
        raise ProcessError(msg) from None
    except OSError as error:
        msg = f"'{shlex.join(command)}' could not be started: {error.strerror}."
        raise ProcessError(msg) from None
    if check and done.returncode != 0:
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
        raise _failure(command, done.returncode, tail)
    return Completed(done.returncode, done.stdout.decode(errors="replace"))


def stream(
    argv: Sequence[StrPath],
    *,
    env: Mapping[str, str],
    on_line: Callable[[str], None],
    log: IO[str] | None = None,
    cwd: Path | None = None,
    tail: int = 20,
) -> None:
    """Run *argv*, handing each line of stdout and stderr to *on_line* and to *log* as it comes.

    The program leads a process group of its own; whatever ends this function early (Ctrl-C,
    SIGTERM, an error in *on_line*) ends the whole group first. Raises ProcessError with the last
    *tail* lines when it fails.
    """
    command = [find(os.fspath(argv[0]), env=env), *(os.fspath(part) for part in argv[1:])]
    last: list[str] = []
    with started(command, env=env, cwd=cwd, stdout=subprocess.PIPE) as child:
        for line in _lines(child):
            if log is not None:
                log.write(line + "\n")
                log.flush()
            last = [*last[1 - tail :], line]
            on_line(line)
        returncode = child.wait()
    if returncode != 0:
        raise _failure(command, returncode, last)


#: Gets a function that takes the next bytes, and calls it until there are no more.
Source: TypeAlias = Callable[[Callable[[bytes], object]], object]


def feed(argv: Sequence[StrPath], source: Source, *, env: Mapping[str, str]) -> None:
    """Run *argv* to its end with what *source* writes as its stdin.

    A program that ends before *source* does fails afterwards: *source* always comes to its end,
    and an error that it raises ends the program. Raises ProcessError with the last lines that a
    failing program printed.
    """
    command = [find(os.fspath(argv[0]), env=env), *(os.fspath(part) for part in argv[1:])]
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        started(command, env=env, stdin=subprocess.PIPE, stdout=said) as child,
    ):
        assert child.stdin is not None  # noqa: S101 - given as PIPE; narrows the type
        stdin: IO[bytes] | None = child.stdin

        def write(data: bytes) -> None:
            nonlocal stdin
            try:
                if stdin is not None:
                    stdin.write(data)
            except BrokenPipeError:
                stdin = None

        try:
            source(write)
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        returncode = child.wait()
        said.seek(0)
        tail = said.read().strip().splitlines()[-5:]
    if returncode != 0:
        raise _failure(command, returncode, tail)


@contextlib.contextmanager
def started(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[str] | None = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* beside the block, in a process group that is gone when the block is left."""
    try:
        child = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        msg = f"'{shlex.join(command)}' could not be started: {error.strerror}."
        raise ProcessError(msg) from None
    try:
        yield child
    finally:
        _end_group(child)
        if child.stdout is not None:
            child.stdout.close()


def _lines(child: subprocess.Popen[bytes]) -> Iterable[str]:
    assert child.stdout is not None  # noqa: S101 - given as PIPE above; narrows the type
    for raw in child.stdout:
        yield raw.decode(errors="replace").rstrip("\r\n")


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the group: ask, wait, then kill; a kill also ends a PID namespace."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        timer = threading.Timer(GRACE, _signal_group, (child.pid, signal.SIGKILL))
        timer.daemon = True
        timer.start()
        try:
            child.wait()
        finally:
            timer.cancel()
    _signal_group(child.pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _failure(command: Sequence[str], returncode: int, tail: Sequence[str]) -> ProcessError:
    name = Path(command[0]).name
    if returncode < 0:
        how = f"was ended by {signal.Signals(-returncode).name}"
    else:
        how = f"ended with status {returncode}"
    said = f": {tail[-1]}" if tail else ""
    return ProcessError(
        f"'{name}' {how}{said}",
        hint=f"The command was: {shlex.join(command)}",
        returncode=returncode,
        tail=tail,
    )
