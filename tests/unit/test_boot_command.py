"""``hakim-actions boot-test``: what people and machines read of a report."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hakim_actions.artifact import Check
from hakim_actions.cli import boot_test as module
from hakim_actions.cli.main import main
from hakim_actions.image.boot import BootFailedError, BootReport, Failure

NAME = "hakim-base-trixie-amd64.tar.xz"
JOURNAL = "".join(f"Nov 01 line {number}\n" for number in range(100))


def report(*failures: Failure) -> BootReport:
    return BootReport(
        name=NAME,
        checks=(Check(name="state", detail="running", seconds=0.1),),
        failures=failures,
        boot_seconds=2.5,
        phases={"extract": 3.0, "boot": 2.5},
        apparmor=False,
        log=f"==> journal <==\n{JOURNAL}##[error]sly\n==> console <==\n",
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let every image pass, and keep what was asked for."""
    seen: list[dict[str, Any]] = []

    def boot_test(artifact: Path, **options: Any) -> BootReport:
        seen.append({"artifact": artifact, **options})
        options["on_step"]("booting")
        return report()

    monkeypatch.setattr(module, "boot_test", boot_test)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return seen


@pytest.fixture
def _failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def boot_test(*_args: Any, **_options: Any) -> BootReport:
        raise BootFailedError(report(Failure(name="ssh", expected="an answer", found="silence")))

    monkeypatch.setattr(module, "boot_test", boot_test)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_a_passing_image_is_told_with_its_times(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["boot-test", "--timeout", "7", NAME], {}) == 0

    out = capsys.readouterr().out
    assert "boots; up after 2.5 s" in out
    assert "extract 3.0 s" in out
    assert "no AppArmor" in out
    assert calls[0]["timeout"] == 7
    assert calls[0]["artifact"] == Path(NAME)


@pytest.mark.usefixtures("_failing")
def test_a_failing_image_ends_with_5_the_reason_and_the_journal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["boot-test", NAME], {}) == 5

    told = capsys.readouterr()
    assert "✗ ssh" in told.out
    assert f"error: {NAME} fails 1 of 2 checks" in told.err
    assert "ssh: expected an answer, found silence" in told.err
    assert "Nov 01 line 99" in told.err
    assert "Nov 01 line 10\n" not in told.err


@pytest.mark.usefixtures("_failing")
def test_a_line_of_the_journal_is_no_command_to_a_runner(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["boot-test", NAME], {"GITHUB_ACTIONS": "true"})

    assert "##[" not in capsys.readouterr().err


@pytest.mark.usefixtures("_failing")
def test_json_is_all_there_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot-test", "--json", NAME], {}) == 5

    document = json.loads(capsys.readouterr().out)
    assert document["passed"] is False
    assert document["failures"] == [{"name": "ssh", "expected": "an answer", "found": "silence"}]
    assert document["checks"][0]["name"] == "state"
    assert document["boot_seconds"] == 2.5
    assert document["journal"][-1] == "##[error]sly"


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.usefixtures("_failing")
def test_the_whole_log_is_kept_also_of_a_failure(tmp_path: Path, as_json: list[str]) -> None:
    log = tmp_path / "boot.log"

    main(["boot-test", *as_json, "--keep-log", str(log), NAME], {})

    assert JOURNAL in log.read_text()


def test_a_log_that_cannot_be_written_is_refused_before_the_boot(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    assert main(["boot-test", "--keep-log", str(tmp_path / "file" / "boot.log"), NAME], {}) == 2

    assert "--keep-log" in capsys.readouterr().err
    assert calls == []


def test_the_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boot-test", "--help"], {}) == 0

    assert "\n    hakim-actions boot-test distrobuilder/out/base/" in capsys.readouterr().out
