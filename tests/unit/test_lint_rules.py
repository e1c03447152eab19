"""Each rule of lint finds what it is there for, at its line, and nothing in a good project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import FakeProgram
from lint_project import BROKEN, GO, GOOD, VARIANTS, YAML, Fixture, write

from hakim_actions.catalog import Project
from hakim_actions.lint.rules import RULES, rule
from hakim_actions.lint.run import Finding, lint

NEED_PROGRAMS = {"bash-syntax", "definition-valid", "shellcheck", "terraform-fmt"}


@pytest.fixture(autouse=True)
def _external_programs(program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for what not every machine has, which print what the real ones print."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(
        "distrobuilder",
        r"""
        [[ $1 == validate ]] || exit 64
        line=$(grep -n 'downloader: nothing' "$2") || exit 0
        printf 'time="now" level=error msg="Failed running distrobuilder" err="%s"\n' \
          "Failed: line ${line%%:*}: source.downloader must be one of [\\\"x\\\"]" >&2
        exit 1
        """,
    )
    program(
        "terraform",
        r"""
        [[ $1 == fmt ]] || exit 64
        for file; do
          number=$(grep -ns '  =  ' "$file") || continue
          number=${number%%:*}
          echo "$file"
          printf -- '--- old/%s\n+++ new/%s\n@@ -%d,3 +%d,3 @@\n one\n-%s\n+new\n two\n' \
            "$file" "$file" $((number - 1)) $((number - 1)) "$(sed -n "${number}p" "$file")"
          status=3
        done
        exit ${status:-0}
        """,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "project"


def findings(root: Path, *, programs: bool = False) -> Sequence[Finding]:
    """Lint *root*; without *programs* as on a machine that has none, which is much faster."""
    env = os.environ if programs else {"PATH": ""}
    with pytest.MonkeyPatch.context() as patch:
        if not programs:
            patch.setattr(sys, "executable", "/nowhere/bin/python")
        result = lint(Project(root=root), env=env)
    skipped = {each.rule for each in result.skipped}
    unreadable = {each.rule for each in result.skipped if "see " in each.reason}
    assert skipped <= (set() if programs else NEED_PROGRAMS) | unreadable
    assert set(result.checked) == set(RULES) - skipped
    return result.findings


def test_a_good_project_breaks_no_rule(root: Path) -> None:
    assert findings(write(root), programs=True) == ()


@pytest.mark.parametrize("fixture", BROKEN, ids=str)
def test_a_broken_rule_is_told_at_its_line_and_no_other_rule_with_it(
    root: Path, fixture: Fixture
) -> None:
    found = findings(write(root, fixture), programs=fixture.rule in NEED_PROGRAMS)

    broken_with_it = {"bash-syntax": {"shellcheck"}}.get(fixture.rule, set())
    assert {each.rule for each in found} - broken_with_it == {fixture.rule}
    file = fixture.at or fixture.file
    text = (root / file).read_text()
    line = text.count("\n", 0, text.index(fixture.line)) + 1
    told = [each for each in found if (each.file, each.line) == (file, line)]
    assert told, f"{file}:{line} is not among {found}"
    assert any(fixture.found in each.found and fixture.hint in each.hint for each in told)
    assert all(each.found and each.expected and each.hint for each in found)


def test_every_rule_has_a_project_that_breaks_it() -> None:
    assert {fixture.rule for fixture in BROKEN} == set(RULES)


def test_an_id_can_be_given_to_one_rule_only() -> None:
    with pytest.raises(ValueError, match="defined twice"):
        rule("shellcheck", "Again", why="No reason")


def test_several_mistakes_are_told_at_once_in_the_order_of_the_files(root: Path) -> None:
    chosen = [fixture for fixture in BROKEN if fixture.rule.startswith(("filters", "uses", "docs"))]
    distinct = {(fixture.file, fixture.old): fixture for fixture in chosen}

    found = findings(write(root, *distinct.values()))

    assert {each.rule for each in found} == {fixture.rule for fixture in chosen}
    assert [(each.file, each.line) for each in found] == sorted(
        (each.file, each.line) for each in found
    )


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (YAML, "files:\n", "    - {action: install, variants: [go], packages: []}\nfiles:\n"),
        (YAML, "variants: [rust]\n    content", "variants: [rust, go]\n    content"),
        ("distrobuilder/tools.lock", "[rust]", "[rust, go]"),
        (
            "distrobuilder/scripts/actions/post-packages.sh",
            "install_rust_stack() {",
            "function install_go_stack() { :; }\ninstall_go_stack\ninstall_rust_stack() {",
        ),
    ],
    ids=["empty set", "file", "tool", "function"],
)
def test_a_variant_has_something_of_its_own_in_any_of_these_places(
    root: Path, file: str, old: str, new: str
) -> None:
    go = Fixture("", VARIANTS, "  rust:\n", GO + "  rust:\n", "", "")

    assert findings(write(root, go, Fixture("", file, old, new, "", ""))) == ()


def test_a_package_may_stand_in_sets_that_never_meet(root: Path) -> None:
    """Eza is in the sets of two releases, git in an early and a late one."""
    assert GOOD[YAML].count("- eza") == 2
    assert GOOD[YAML].count("- git\n") == 2
    both = Fixture("", YAML, "releases: [bookworm]", "releases: [bookworm, trixie]", "", "")

    assert {each.rule for each in findings(write(root, both))} == {"packages-once"}


def test_a_project_needs_neither_tools_lock_nor_workflows_nor_templates(root: Path) -> None:
    write(root)
    (root / "distrobuilder/tools.lock").unlink()
    for folder in (".github", "coder", "build", "scripts", "distrobuilder/scripts"):
        shutil.rmtree(root / folder)

    assert findings(root) == ()


@pytest.mark.parametrize("text", ["", "- a list\n", "variants: [\n"])
@pytest.mark.parametrize("file", [YAML, VARIANTS, "distrobuilder/tools.lock"])
def test_a_file_that_holds_something_else_is_a_finding_and_no_crash(
    root: Path, file: str, text: str
) -> None:
    write(root)
    (root / file).write_text(text)

    rules = {each.rule for each in findings(root)}

    if file != "distrobuilder/tools.lock" or text == "variants: [\n":
        assert rules & {"yaml-syntax", "definition-keys", "catalog-valid"}


@pytest.mark.parametrize(
    ("file", "text", "rule"),
    [
        (VARIANTS, "variants: [\n", "yaml-syntax"),
        (VARIANTS, "schema: 1\n", "catalog-valid"),
        (YAML, "packages: [\n", "yaml-syntax"),
        (".github/workflows/ci.yml", "jobs: [\n", "yaml-syntax"),
    ],
)
def test_what_follows_from_a_mistake_is_not_told_beside_it(
    root: Path, file: str, text: str, rule: str
) -> None:
    write(root)
    (root / file).write_text(text)

    assert {each.rule for each in findings(root)} == {rule}


def test_a_template_without_its_variants_file_is_told(root: Path) -> None:
    write(root)
    (root / "coder/templates/hakim/variants.yaml").unlink()

    (found,) = findings(root)

    assert (found.rule, found.line) == ("templates-have-variants", 3)
    assert "ln -s ../../../distrobuilder/variants.yaml coder/templates/hakim/" in found.hint


def test_a_secret_is_told_and_never_repeated(root: Path) -> None:
    secret = next(each for each in BROKEN if each.rule == "no-secrets")

    (found,) = findings(write(root, secret))

    assert "ghp_" not in repr(found)


def test_what_stands_in_a_file_cannot_draw_on_the_terminal(root: Path) -> None:
    escape = Fixture(
        "", YAML, "variants: [rust]\n    content", 'variants: ["\\e[2J"]\n    content', "", ""
    )

    (found,) = findings(write(root, escape))

    assert "\x1b" not in found.found
    assert "\\x1b" in found.found


def test_what_git_ignores_is_not_looked_at(root: Path) -> None:
    write(root)
    subprocess.run(("git", "init", "--quiet", root), check=True)
    (root / ".gitignore").write_text("/cache/\n")
    (root / "cache").mkdir()
    for name in ("cache/broken.yaml", "broken.yaml"):
        (root / name).write_text("a: b: c\n")

    assert [each.file for each in findings(root, programs=True)] == ["broken.yaml"]


def test_without_git_leftovers_of_builds_are_not_looked_at(root: Path) -> None:
    write(root)
    for name in ("distrobuilder/out/broken.yaml", ".venv/broken.yaml", ".github/broken.yaml"):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("a: b: c\n")

    assert [each.file for each in findings(root)] == [".github/broken.yaml"]
