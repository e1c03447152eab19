"""What people read: sizes, times, and phases that always say how they ended."""

from pathlib import Path

import pytest

from hakim_actions.cli import report
from hakim_actions.system.progress import PhaseClock, Silent


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (228_554_544, "228.6 MB"),
        (2_147_483_648, "2.1 GB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert report.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (185, "3 min 05 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def fail_in(progress: object) -> None:
    with progress.phase("Pack"):  # type: ignore[attr-defined]
        raise KeyError


def test_a_plain_phase_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    progress = report.PlainProgress(quiet=False)
    with progress.phase("Boot"):
        progress.line("from a child")
    with pytest.raises(KeyError):
        fail_in(progress)

    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "==> Boot",
        "    from a child",
        "==> Boot: 0.0 s",
        "==> Pack",
        "==> Pack: failed",
    ]


def test_a_group_is_closed_also_by_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError):
        fail_in(report.ActionsProgress())

    lines = capsys.readouterr().out.splitlines()
    assert lines.index("::group::Pack") < lines.index("::endgroup::")


def test_a_child_cannot_give_commands_to_the_runner(capsys: pytest.CaptureFixture[str]) -> None:
    progress = report.ActionsProgress()
    with progress.phase("Pack"):
        progress.line("::error::fooled you")

    resume = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("::stop-commands::"):
            resume = f"::{line.removeprefix('::stop-commands::')}::"
        elif line == resume:
            resume = ""
        elif line == "::error::fooled you":
            break
    assert len(resume) > 30, "the runner took commands while the child printed"


def test_phases_follow_each_other_and_add_up() -> None:
    with PhaseClock(Silent()) as clock:
        clock.start("source", "Bootstrap")
        clock.start("source", "Bootstrap")
        clock.start("packages", "Install")
        clock.start("source", "Bootstrap")

    assert list(clock.seconds) == ["source", "packages"]


def test_a_phase_that_failed_is_not_counted() -> None:
    clock = PhaseClock(Silent())

    def run() -> None:
        with clock:
            clock.start("pack", "Pack")
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert clock.seconds == {}


def test_the_terminal_shows_the_phase_and_its_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from rich.console import Console  # noqa: PLC0415 - only this test draws

    from hakim_actions.cli.terminal import TerminalProgress  # noqa: PLC0415

    with (tmp_path / "screen").open("w") as screen:
        progress = TerminalProgress()
        monkeypatch.setattr(
            progress, "_console", Console(file=screen, force_terminal=True, width=60)
        )
        with progress.phase("Pack [x]"):
            progress.line("a [very] long line " * 10)
        with pytest.raises(KeyError):
            fail_in(progress)

    said = (tmp_path / "screen").read_text()
    assert "✓" in said
    assert "Pack [x]" in said
    assert "✗" in said
