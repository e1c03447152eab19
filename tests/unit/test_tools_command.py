"""`hakim-actions tools` shows every pin, and writes only what it was asked to write."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakim_actions.cli.main import main
from hakim_actions.errors import ConfigurationError
from hakim_actions.image.toolsupdate import parse_mirrors

PIN = f"sha512-{'A' * 86}=="
NEW = f"sha512-{'B' * 85}A=="
LOCK = f"""schema: 1
tools:
  bun:
    version: 1.3.0 # keep
    kind: npm
    variants: [js]
    any:
      package: bun
      integrity: {PIN}
    put: {{bun: /usr/local/bin/bun}}
  hex:
    version: 2.0.0
    kind: npm
    variants: [js]
    any: {{package: hex, unpinned: nobody has it}}
    put: {{.: /opt/hex}}
"""
#: npm as it answers `npm view NAME@RANGE version dist.integrity --json`.
NPM = f"""
case $2 in
  bun@^1) echo '[{{"version": "1.9.0", "dist.integrity": "{PIN}"}},
    {{"version": "1.10.0", "dist.integrity": "{NEW}"}},
    {{"version": "1.11.0-beta.1", "dist.integrity": "{PIN}"}}]' ;;
  *) echo "npm error code E404" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def lock(
    tmp_path: Path, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    program("npm", NPM)
    folder = tmp_path / "project/distrobuilder"
    folder.mkdir(parents=True)
    (folder / "hakim.yaml").touch()
    (folder / "variants.yaml").touch()
    (folder / "tools.lock").write_text(LOCK)
    monkeypatch.chdir(folder)
    return folder / "tools.lock"


def run(*arguments: str) -> int:
    return main(["tools", *arguments], dict(os.environ))


def test_list_shows_pins_and_what_has_none(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0

    said = capsys.readouterr().out
    assert f"any: bun 1.3.0 (npm), {PIN}" in said
    assert "any: hex 2.0.0 (npm), NO PIN: nobody has it" in said


def test_update_pins_the_newest_release(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("update", "bun") == 0

    assert f"bun (any): 1.3.0 -> 1.10.0, {PIN} -> {NEW}" in capsys.readouterr().out
    expected = LOCK.replace("1.3.0", "1.10.0").replace(PIN, NEW)
    assert lock.read_text() == expected


def test_a_dry_run_changes_nothing(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("update", "bun", "--dry-run", "--json") == 0

    assert json.loads(capsys.readouterr().out)[0]["version"] == "1.10.0"
    assert lock.read_text() == LOCK


def test_what_cannot_be_asked_is_an_error_after_the_rest_is_written(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("update") == 1

    assert "hex: hex@^2 from npm's registry could not be had" in capsys.readouterr().err
    assert "1.10.0" in lock.read_text()
    assert "unpinned: nobody has it" in lock.read_text()


def test_an_unknown_tool_is_a_mistake(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("update", "bum") == ConfigurationError.exit_code
    assert "Did you mean 'bun'?" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["https://a.example", "=https://b.example", "a=b", "https://a=b"])
def test_a_mirror_that_is_no_pair_of_urls_is_refused(pair: str) -> None:
    with pytest.raises(ConfigurationError, match="is not URL=MIRROR"):
        parse_mirrors([pair])
