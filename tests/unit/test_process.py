"""Children are found, heard, and never outlive what started them."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import FakeProgram

from hakim_actions.system import process

ROOT = Path(__file__).resolve().parents[2]
ENV = {"PATH": os.environ["PATH"]}


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_output_and_status_are_returned() -> None:
    done = process.run(("sh", "-c", "echo out; exit 3"), env=ENV, check=False)

    assert (done.returncode, done.stdout) == (3, "out\n")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(process.ProcessError, match="'no-such-program' was not found") as caught:
        process.run(("no-such-program",), env=ENV)
    assert caught.value.returncode == 127


def test_a_failure_says_the_status_and_the_last_line_of_stderr() -> None:
    with pytest.raises(process.ProcessError, match="'sh' ended with status 5: why"):
        process.run(("sh", "-c", "echo why >&2; exit 5"), env=ENV)


def test_a_signal_is_not_mistaken_for_a_status() -> None:
    with pytest.raises(process.ProcessError, match="was ended by SIGKILL") as caught:
        process.run(("sh", "-c", "kill -KILL $$"), env=ENV)
    assert caught.value.returncode == -signal.SIGKILL


def test_an_argument_is_never_shell_text(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/owned); `touch {tmp_path}/owned`"

    done = process.run(("printf", "%s", hostile), env=ENV)

    assert done.stdout == hostile
    assert not (tmp_path / "owned").exists()


def test_a_program_in_sbin_is_found_without_sbin_on_path(program: FakeProgram) -> None:
    fake = program("only-here", "exit 0")

    assert process.find("only-here", env={"PATH": str(fake.parent)}) == str(fake)
    assert process.find("chroot", env={"PATH": "/nowhere"}).endswith("sbin/chroot")


def test_stdin_is_closed_unless_given() -> None:
    assert process.run(("cat",), env=ENV).stdout == ""
    assert process.run(("cat",), env=ENV, stdin=b"hello").stdout == "hello"


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(process.ProcessError, match=r"did not end within 0\.1 seconds"):
        process.run(("sleep", "60"), env=ENV, timeout=0.1)


def test_lines_come_as_they_are_printed_and_into_the_log() -> None:
    log, lines = io.StringIO(), list[str]()

    process.stream(("sh", "-c", "echo a; echo b >&2"), env=ENV, on_line=lines.append, log=log)

    assert lines == ["a", "b"]
    assert log.getvalue() == "a\nb\n"


def test_a_failed_stream_keeps_its_last_lines() -> None:
    with pytest.raises(process.ProcessError) as caught:
        process.stream(("sh", "-c", "seq 9; exit 1"), env=ENV, on_line=lambda _: None, tail=3)
    assert caught.value.tail == ("7", "8", "9")


def test_an_interrupted_stream_ends_the_whole_group() -> None:
    """Also the grandchild, and also one that ignores SIGTERM."""
    script = "(trap '' TERM; echo $BASHPID; sleep 300) & echo go; wait"

    printed: list[str] = []

    def interrupt(line: str) -> None:
        printed.append(line)
        if len(printed) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.stream(("bash", "-c", script), env=ENV, on_line=interrupt)

    (pid,) = (int(line) for line in printed if line.isdigit())
    assert gone(pid)


def test_the_child_sees_only_what_it_may() -> None:
    env = process.child_environment({"PATH": "/bin", "GITHUB_TOKEN": "secret", "HOME": "/h"})

    assert env == {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C.UTF-8"}


def sleepers(seconds: str) -> list[int]:
    """Return the processes that run ``sleep`` for just these *seconds*."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="making a PID namespace needs root")
def test_what_is_bound_dies_with_its_parent_even_by_sigkill() -> None:
    seconds = f"31{os.getpid()}"
    program = (
        "import os; from hakim_actions.system.process import bound, stream;"
        f"stream(bound(('sh', '-c', 'sleep {seconds} & wait')),"
        " env={'PATH': os.environ['PATH']}, on_line=print)"
    )
    with subprocess.Popen(
        (sys.executable, "-c", program), env={**ENV, "PYTHONPATH": "src"}, cwd=ROOT
    ) as parent:
        deadline = time.monotonic() + 20
        while not (found := sleepers(seconds)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        parent.kill()

    assert all(gone(pid) for pid in found)
