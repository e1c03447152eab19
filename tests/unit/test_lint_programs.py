"""The rules understand what the real programs print; the other tests use stand-ins."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import FakeProgram
from lint_project import MODULE, YAML, Fixture, write

from hakim_actions.catalog import Project
from hakim_actions.lint.run import Finding, LintReport, lint

TERRAFORM = pytest.mark.skipif(
    not (shutil.which("terraform") or shutil.which("tofu")), reason="neither terraform nor tofu"
)
DISTROBUILDER = pytest.mark.skipif(
    not shutil.which("distrobuilder") or os.geteuid() != 0, reason="no distrobuilder, or not root"
)


def checked(root: Path, file: str, old: str, new: str) -> LintReport:
    edit = Fixture("", file, old, new, "", "")
    return lint(Project(root=write(root / "project", edit)), env=os.environ)


def of_rule(report: LintReport, rule: str) -> list[Finding]:
    assert rule in report.checked
    return [each for each in report.findings if each.rule == rule]


@TERRAFORM
def test_terraform_names_each_place_that_it_would_format(tmp_path: Path) -> None:
    report = checked(tmp_path, MODULE, '    value = "custom"', '    value    = "custom"')

    (found,) = of_rule(report, "terraform-fmt")

    # Both lines of the block are aligned anew; the first of them starts the change.
    assert (found.file, found.line) == (MODULE, 11)
    assert f"terraform fmt {MODULE}" in found.hint


@TERRAFORM
def test_terraform_names_the_line_that_it_cannot_read(tmp_path: Path) -> None:
    report = checked(tmp_path, MODULE, 'value = "custom"', "value =")

    (found,) = of_rule(report, "terraform-fmt")

    assert (found.file, found.line, found.found) == (MODULE, 11, "Invalid expression")


@DISTROBUILDER
@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("  downloader:", "  downlaoder:", 5, "field downlaoder not found"),
        ("generator: dump", "generator: dmup", 1, "generator must be one of"),
    ],
)
def test_distrobuilder_says_what_it_does_not_take(
    tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    report = checked(tmp_path, YAML, old, new)

    (found,) = of_rule(report, "definition-valid")

    assert found.line == line
    assert said in found.found


@DISTROBUILDER
def test_a_set_without_packages_is_a_valid_definition(tmp_path: Path) -> None:
    empty = "    - {action: install, variants: [rust], packages: []}\nfiles:\n"

    report = checked(tmp_path, YAML, "files:\n", empty)

    assert of_rule(report, "definition-valid") == []


def test_a_shellcheck_that_is_too_old_is_a_skipped_rule_and_no_success(
    tmp_path: Path, program: FakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("shellcheck", "echo unknown format >&2; exit 4")
    monkeypatch.setattr("sys.executable", "/nowhere/bin/python")

    report = checked(tmp_path, YAML, "curl", "curl")

    reasons = {each.rule: each.reason for each in report.skipped}
    assert "ended with status 4" in reasons["shellcheck"]
    assert "shellcheck" not in report.checked
