"""The boundary: one line and a hint for people, the right exit code, no traceback."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from hakim_actions.cli import main as cli
from hakim_actions.cli.command import Command
from hakim_actions.errors import (
    BuildError,
    ConfigurationError,
    HakimError,
    NothingToDoError,
    PromotionError,
    PublishError,
    TemplateError,
    VerificationError,
)

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("github", "httpx", "proxmoxer", "requests", "rich", "yaml")


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Return a function that runs a command which raises, and returns the exit code."""

    def run(error: BaseException) -> int:
        def callback() -> None:
            raise error

        monkeypatch.setattr(
            cli.LazyGroup, "get_command", lambda *_: click.Command("build", callback=callback)
        )
        return cli.main(["build"], {})

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HakimError, 1),
        (ConfigurationError, 2),
        (NothingToDoError, 3),
        (BuildError, 4),
        (VerificationError, 5),
        (PublishError, 6),
        (PromotionError, 7),
        (TemplateError, 8),
    ],
)
def test_each_kind_of_error_has_its_exit_code(
    error: type[HakimError],
    code: int,
    ending: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ending(error("It broke.", hint="Mend it.")) == code
    assert capsys.readouterr().err == "error: It broke.\nhint: Mend it.\n"


def test_every_problem_is_listed(
    ending: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    ending(ConfigurationError("Two problems.", problems=("one", "two")))

    assert "  - one\n  - two\n" in capsys.readouterr().err


def test_a_bug_is_one_line_and_a_private_log(
    ending: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ending(ZeroDivisionError("oops")) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: Unexpected ZeroDivisionError: oops\nhint: This is a bug.")
    assert "Traceback" not in error
    log = Path(error.rpartition(" ")[2].strip().rstrip("."))
    assert "Traceback" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    log.unlink()


def test_ctrl_c_ends_with_130(ending: Callable[[BaseException], int]) -> None:
    assert ending(KeyboardInterrupt()) == 130


def test_an_error_is_an_annotation_in_a_workflow(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["buidl"], {"GITHUB_ACTIONS": "true"}) == 2
    assert "::error title=hakim-actions::Unknown command 'buidl'." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["buidl"], "Did you mean 'build'?"),
        (["build", "--no-such-option"], "--no-such-option"),
        (["build", "--compression-level", "x"], "--compression-level"),
    ],
)
def test_a_usage_error_says_what_was_typed_and_ends_with_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv, {}) == 2
    assert said in capsys.readouterr().err


def test_every_wrong_value_is_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was typed or came as a variable, like the inputs of an action."""
    monkeypatch.setenv("HAKIM_BUILD_CACHED", "garbage")
    monkeypatch.setenv("HAKIM_BUILD_BOOT_TIMEOUT", "soon")

    assert cli.main(["build", "--compression-level", "77"], {}) == 2

    said = capsys.readouterr().err
    assert "error: 3 values are missing or cannot be used." in said
    assert "'--cached': 'garbage' is not a valid boolean" in said
    assert "'--boot-timeout': 'soon' is not a valid float" in said
    assert "'--compression-level': 77 is not in the range" in said


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_is_there_with_help_json_and_an_example(name: str) -> None:
    module = importlib.import_module(f"hakim_actions.cli.{name.replace('-', '_')}")

    # A group is as good as the commands in it.
    for command in getattr(module.command, "commands", {"": module.command}).values():
        assert "Example" in f"{command.help}{command.epilog}"
        assert any("--json" in parameter.opts for parameter in command.params)
        assert isinstance(command, Command)


def test_help_imports_nothing_heavy() -> None:
    """Start-up is what people wait for; only the command that runs may load its libraries."""
    program = (
        "import sys; from hakim_actions.cli.main import main; main(['--help'], {});"
        f"print([n for n in {HEAVY!r} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        (sys.executable, "-c", program),
        env={"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr.strip() == "[]"


def test_sigterm_unwinds_like_ctrl_c(tmp_path: Path) -> None:
    """What a command cleans up in ``finally`` is cleaned up when a runner cancels the job."""
    program = f"""
import pathlib, sys, time, click
from hakim_actions.cli import main as cli
from hakim_actions.cli.command import Command
def callback():
    try:
        pathlib.Path({str(tmp_path / "started")!r}).touch()
        time.sleep(60)
    finally:
        pathlib.Path({str(tmp_path / "cleaned")!r}).touch()
cli.LazyGroup.get_command = lambda *_: click.Command("build", callback=callback)
sys.exit(cli.main(["build"], {{}}))
"""
    with subprocess.Popen(
        (sys.executable, "-c", program),
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        deadline = time.monotonic() + 20
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        _, error = child.communicate(timeout=20)

    assert child.returncode == 143
    assert error == "error: Terminated.\n"
    assert (tmp_path / "cleaned").exists()
