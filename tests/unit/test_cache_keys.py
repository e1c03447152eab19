"""A part of the cache is restored where it is of use, and saved where something new is in it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from hakim_actions.artifact import ArtifactName
from hakim_actions.cli import main as cli
from hakim_actions.content import Sources
from hakim_actions.image.cachekeys import CacheKey, cache_keys

PHP = ArtifactName("php", "trixie", "amd64")
DEFINITION = b"packages: {sets: [{packages: [git]}, {variants: [php], packages: [php-cli]}]}"
RUN = {"GITHUB_RUN_ID": "17"}


def keys(
    name: ArtifactName = PHP,
    definition: bytes = DEFINITION,
    level: int = 6,
    env: Mapping[str, str] = RUN,
) -> Mapping[str, CacheKey]:
    sources = Sources.of([("hakim.yaml", definition)])
    return cache_keys([name], sources=sources, lock=None, level=level, env=env)


def restores(wanted: CacheKey, saved: CacheKey) -> bool:
    """Tell whether GitHub would take what was saved."""
    return any(saved.key.startswith(start) for start in (wanted.key, *wanted.restore))


NEXT = {"GITHUB_RUN_ID": "18"}
CHANGED_PHP = DEFINITION.replace(b"php-cli", b"php-fpm")
CHANGED_BASE = DEFINITION.replace(b"git", b"jq")
RUST = ArtifactName("rust", "trixie", "amd64")


@pytest.mark.parametrize(
    ("before", "layer", "pieces"),
    [
        (keys(), True, True),
        (keys(definition=CHANGED_PHP), True, True),
        (keys(definition=CHANGED_BASE), False, True),
        (keys(RUST), True, False),
        (keys(ArtifactName("php", "bookworm", "amd64")), False, False),
        (keys(ArtifactName("php", "trixie", "arm64")), False, False),
        (keys(level=1), True, False),
    ],
    ids=["same", "variant changed", "base changed", "variant", "release", "arch", "level"],
)
def test_a_run_restores_what_it_can_use(
    before: Mapping[str, CacheKey], layer: bool, pieces: bool
) -> None:
    now = keys(env=NEXT)

    assert restores(now["layer"], before["layer"]) is layer
    assert restores(now["pieces"], before["pieces"]) is pieces


def test_pieces_of_the_same_content_come_before_others() -> None:
    now = keys(env=NEXT)["pieces"]

    assert keys()["pieces"].key.startswith(now.restore[0])
    assert not keys(definition=CHANGED_PHP)["pieces"].key.startswith(now.restore[0])


def test_each_run_saves_under_a_key_of_its_own_that_github_takes() -> None:
    """Because an entry is never changed."""
    for part in ("layer", "pieces"):
        first, second = keys()[part], keys(env=NEXT)[part]
        assert first.key != second.key
        assert len(first.key) <= 512
        assert "," not in first.key


def run(*arguments: str, capsys: pytest.CaptureFixture[str], **env: str) -> dict[str, str]:
    assert cli.main(["cache", "keys", *arguments, "--json"], {**RUN, **env}) == 0
    found: dict[str, str] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_sets_the_outputs_of_the_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    found = run("--cache-dir", ".cache-x", capsys=capsys, GITHUB_OUTPUT=str(output))

    assert found["layer-path"] == ".cache-x/layers", "as typed: it has to be the same everywhere"
    assert found["pieces-key"].startswith("hakim-pieces-base-trixie-amd64-6-")
    assert found["pieces-key"].endswith("-17")
    assert len(found["pieces-restore-keys"].splitlines()) == 2
    written = output.read_text()
    for name, value in found.items():
        assert f"{name}<<" in written
        assert f"\n{value}\n" in written


def test_the_command_reads_its_options_from_the_environment_of_a_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAKIM_CACHE_KEYS_VARIANT", "php")
    monkeypatch.setenv("HAKIM_CACHE_KEYS_ARCH", "arm64")
    monkeypatch.setenv("HAKIM_CACHE_KEYS_COMPRESSION_LEVEL", "1")
    monkeypatch.setenv("HAKIM_CACHE_KEYS_RELEASE", "")

    assert run(capsys=capsys)["pieces-key"].startswith("hakim-pieces-php-trixie-arm64-1-")


def test_all_variants_of_one_job_share_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("--all", capsys=capsys)

    assert found["pieces-key"].startswith("hakim-pieces-all-trixie-amd64-6-")
    assert found["layer-key"] == run(capsys=capsys)["layer-key"]


def test_tools_are_saved_once_for_the_same_pins(capsys: pytest.CaptureFixture[str]) -> None:
    one = run(capsys=capsys)["tools-key"]

    assert run(capsys=capsys, GITHUB_RUN_ID="18")["tools-key"] == one
    assert run("--arch", "arm64", capsys=capsys)["tools-key"] != one


def test_unknown_names_are_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", "keys", "--variant", "phq", "--arch", "x86"], {}) == 2
    said = capsys.readouterr().err
    assert "Unknown variant 'phq'" in said
    assert "Unknown architecture 'x86'" in said
