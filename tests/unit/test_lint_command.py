"""The command: what people, machines and GitHub read, its exit codes, and what it cannot check."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import FakeProgram
from lint_project import BROKEN, YAML, write

from hakim_actions.catalog import Project
from hakim_actions.cli import main as cli
from hakim_actions.lint.run import lint

UNKNOWN = next(each for each in BROKEN if each.rule == "filters-known-variants")


@pytest.fixture
def only_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment without any program but bash, which a rule can live without."""
    folder = tmp_path / "bin"
    folder.mkdir()
    bash = shutil.which("bash")
    assert bash
    (folder / "bash").symlink_to(bash)
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python")
    return {"PATH": str(folder)}


def test_a_good_project_ends_with_0(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["lint", str(write(tmp_path / "project"))], only_bash) == 0

    assert capsys.readouterr().out.endswith("Findings: none.\n")


def test_a_finding_ends_with_2_and_names_place_rule_and_way_out(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "project", UNKNOWN)

    assert cli.main(["lint", str(root)], only_bash) == 2

    line = (root / YAML).read_text().split("\n").index("    variants: [rust, rsut]") + 1
    assert capsys.readouterr().out.startswith(
        f"{YAML}:{line}: filters-known-variants\n"
        "  found:    'rsut' in a filter\n"
        "  expected: a variant of variants.yaml\n"
        "  hint:     Did you mean 'rust'? Known: base, rust.\n"
    )


def test_a_rule_without_its_program_is_named_with_the_reason(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "project")

    assert cli.main(["lint", "--json", str(root)], only_bash) == 0

    document = json.loads(capsys.readouterr().out)
    reasons = {each["rule"]: each["reason"] for each in document["skipped"]}
    assert set(reasons) == {"shellcheck", "terraform-fmt", "definition-valid"}
    assert "terraform or tofu is not installed" in reasons["terraform-fmt"]
    assert not set(reasons) & set(document["checked"])
    assert "bash-syntax" in document["checked"]
    cli.main(["lint", str(root)], only_bash)
    assert "skipped shellcheck: shellcheck is not installed" in capsys.readouterr().out


def test_distrobuilder_is_not_asked_by_a_user_it_refuses(
    tmp_path: Path, program: FakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("distrobuilder", "exit 1")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    result = lint(Project(root=write(tmp_path / "project")), env=os.environ)

    reasons = {each.rule: each.reason for each in result.skipped}
    assert "only as root" in reasons["definition-valid"]
    assert not result.findings


def test_json_has_every_part_of_a_finding(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    env = {**only_bash, "GITHUB_ACTIONS": "true"}

    assert cli.main(["lint", "--json", str(write(tmp_path / "project", UNKNOWN))], env) == 2

    document = json.loads(capsys.readouterr().out)
    assert not document["ok"]
    (finding,) = document["findings"]
    assert set(finding) == {"file", "line", "rule", "found", "expected", "hint"}


@pytest.mark.parametrize("below", ["", "images"])
def test_a_workflow_shows_each_finding_at_its_line(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str], below: str
) -> None:
    root = write(tmp_path / "project" / below, UNKNOWN)
    workspace = str(tmp_path / "project")
    env = {**only_bash, "GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": workspace}

    assert cli.main(["lint", str(root)], env) == 2

    file = f"{below}/{YAML}".lstrip("/")
    (annotation,) = [
        line for line in capsys.readouterr().out.split("\n") if line.startswith("::error")
    ]
    assert annotation.startswith(f"::error file={file},line=")
    assert "title=lint%3A filters-known-variants::'rsut' in a filter" in annotation


def test_the_project_around_a_folder_is_checked(
    tmp_path: Path,
    only_bash: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = write(tmp_path / "project", UNKNOWN)
    monkeypatch.chdir(root / "coder")

    assert cli.main(["lint", "--json"], only_bash) == 2

    assert json.loads(capsys.readouterr().out)["root"] == str(root)


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_of_no_project_is_refused_and_no_other_one_checked(
    tmp_path: Path, only_bash: dict[str, str], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "empty").mkdir()

    assert cli.main(["lint", str(tmp_path / name)], only_bash) == 2

    captured = capsys.readouterr()
    assert name in captured.err
    assert not captured.out
