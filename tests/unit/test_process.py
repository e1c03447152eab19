"""Children are found, heard, and never outlive what started them."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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


# ---------------------------------------------------------------- feeding


def test_a_program_gets_all_that_the_source_writes(tmp_path: Path) -> None:
    def source(write: Callable[[bytes], object]) -> None:
        for number in range(3):
            write(f"{number}\n".encode() * 100_000)

    process.feed(("sh", "-c", 'cat >"$0"', str(tmp_path / "got")), source, env=ENV)

    got = (tmp_path / "got").read_bytes()
    assert got == b"0\n" * 100_000 + b"1\n" * 100_000 + b"2\n" * 100_000


def test_a_program_that_ends_before_its_source_fails_with_its_own_words() -> None:
    written = 0

    def source(write: Callable[[bytes], object]) -> None:
        nonlocal written
        while written < 100 << 16:
            write(bytes(1 << 16))
            written += 1 << 16

    with pytest.raises(process.ProcessError, match="status 3: no room") as caught:
        process.feed(("sh", "-c", "echo no room >&2; exit 3"), source, env=ENV)

    assert caught.value.returncode == 3
    assert written == 100 << 16, "whoever writes has work of its own to finish"


def test_much_output_of_a_fed_program_stops_neither() -> None:
    process.feed(
        ("sh", "-c", "head -c 1000000 /dev/zero; cat >/dev/null"),
        lambda write: write(bytes(1 << 20)),
        env=ENV,
    )


def test_an_error_of_the_source_ends_the_program(tmp_path: Path) -> None:
    def source(write: Callable[[bytes], object]) -> None:
        write(b"x")
        raise ZeroDivisionError

    script = 'echo $$ >"$0"; cat >/dev/null; sleep 60'
    with pytest.raises(ZeroDivisionError):
        process.feed(("sh", "-c", script, str(tmp_path / "pid")), source, env=ENV)

    pid = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
    assert not pid.strip() or gone(int(pid))
