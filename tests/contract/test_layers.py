"""Imports go one way; the rules stand in pyproject.toml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src/hakim_actions").rglob("*.py"))


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        (Path(sys.executable).parent / "lint-imports", "--no-cache"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_entry_point_reads_the_environment(path: Path) -> None:
    if path.name == "__main__.py":
        return
    found = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr in {"environ", "getenv", "putenv", "environb"}
    ]

    assert not found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_children_are_started_by_one_module_without_a_shell(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    shells = [k for call in calls for k in call.keywords if k.arg == "shell"]
    starts = [
        call.lineno
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and (call.func.value.id, call.func.attr)
        in {("subprocess", "run"), ("subprocess", "Popen"), ("os", "system"), ("os", "popen")}
    ]

    assert not shells
    assert not starts or path.name == "process.py"
