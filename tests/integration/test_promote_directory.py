"""Promotion into a folder: the template cache of the very node."""

import fcntl
import hashlib
import json
from pathlib import Path

import pytest
from fakes.promotions import BASE, publish

from hakim_actions.artifact import FileRecord, Manifest, format_sums
from hakim_actions.cli.main import main
from hakim_actions.promote import directory

CONTRACT = f"{BASE}.tar.xz"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def run(tmp_path: Path, command: str, *args: str | Path) -> int:
    argv = [command, *map(str, args), "--target", "directory", "--path", str(tmp_path / "cache")]
    return main([*argv, "--state", str(tmp_path / "state.json")], {"HOME": str(tmp_path)})


def built(folder: Path, variant: str, version: str = "v1") -> Path:
    """Leave a folder as build does: archive, manifest, sums."""
    home = folder / variant
    home.mkdir(parents=True)
    data = f"{variant} {version}".encode() * 1000
    name = f"hakim-{variant}-trixie-amd64"
    record = FileRecord(
        name=f"{name}.tar.xz", size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    (home / record.name).write_bytes(data)
    (home / "sha256sums.txt").write_text(format_sums({record.name: record.sha256}))
    manifest = Manifest(
        variant=variant, release="trixie", arch="amd64", version=version, commit="", epoch=0,
        distrobuilder="3.2", files=(record,), packages={},
    )  # fmt: skip
    (home / f"{name}.manifest.json").write_text(manifest.to_json())
    return home


def test_what_build_left_is_promoted_whole_or_by_variant(tmp_path: Path, cache: Path) -> None:
    for variant in ("base", "php"):
        built(tmp_path / "out", variant)
    assert run(tmp_path, "promote", "--from", tmp_path / "out" / "php") == 0
    assert {f.name for f in cache.glob("hakim-*")} == {
        "hakim-php-trixie-amd64.tar.xz", "hakim-php-trixie-amd64_v1.tar.xz",
    }  # fmt: skip
    assert run(tmp_path, "promote", "--from", tmp_path / "out") == 0
    assert (cache / CONTRACT).read_bytes() == (tmp_path / "out" / "base" / CONTRACT).read_bytes()


def test_a_second_run_changes_nothing(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = publish(tmp_path / "v1", "v1")
    run(tmp_path, "promote", "--from", folder)
    before = (cache / CONTRACT).stat()
    assert run(tmp_path, "promote", "--from", folder) == 0
    assert (cache / CONTRACT).stat() == before
    assert "Nothing to do" in capsys.readouterr().out


def test_damage_is_found_without_the_state_and_mended(tmp_path: Path, cache: Path) -> None:
    folder = publish(tmp_path / "v1", "v1")
    run(tmp_path, "promote", "--from", folder)
    good = (cache / CONTRACT).read_bytes()
    (cache / CONTRACT).unlink()
    (cache / CONTRACT).write_bytes(good[::-1])
    (tmp_path / "state.json").unlink()
    assert run(tmp_path, "promote", "--from", folder) == 0
    assert (cache / CONTRACT).read_bytes() == good


def test_a_reader_of_the_old_template_is_not_disturbed(tmp_path: Path, cache: Path) -> None:
    run(tmp_path, "promote", "--from", publish(tmp_path / "v1", "v1"))
    old = (cache / CONTRACT).read_bytes()
    with (cache / CONTRACT).open("rb") as reader:
        assert run(tmp_path, "promote", "--from", publish(tmp_path / "v2", "v2")) == 0
        assert reader.read() == old


def test_rollback_needs_no_source_and_prune_follows(tmp_path: Path, cache: Path) -> None:
    for version in ("v1", "v2"):
        run(tmp_path, "promote", "--from", publish(tmp_path / version, version))
    old = (cache / f"{BASE}_v1.tar.xz").read_bytes()
    (tmp_path / "v1").rename(tmp_path / "moved away")
    assert run(tmp_path, "rollback", "--yes") == 0
    assert (cache / CONTRACT).read_bytes() == old
    assert run(tmp_path, "prune", "--keep", "1", "--yes") == 0
    # v2 is the newest, v1 is what the contract name has now.
    assert (cache / f"{BASE}_v1.tar.xz").exists()
    assert (cache / f"{BASE}_v2.tar.xz").exists()


def test_a_swap_that_fails_keeps_the_old_and_names_the_new(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path, "promote", "--from", publish(tmp_path / "v1", "v1"))
    old = (cache / CONTRACT).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory, "_link", full)
    folder = publish(tmp_path / "v2", "v2")
    assert run(tmp_path, "promote", "--from", folder) == 7
    assert (cache / CONTRACT).read_bytes() == old
    assert f"{BASE}_v2.tar.xz" in capsys.readouterr().err
    monkeypatch.undo()
    assert run(tmp_path, "promote", "--from", folder) == 0
    assert list(cache.glob(".*")) == []


def test_a_folder_that_is_not_there_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "promote", "--from", publish(tmp_path / "v1", "v1")) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_second_promotion_at_the_same_time_is_refused(tmp_path: Path, cache: Path) -> None:
    assert cache.exists()
    with (tmp_path / "state.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(tmp_path, "promote", "--from", publish(tmp_path / "v1", "v1")) == 1


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ({"sha256sums.txt": None, "index.json": None}, 2),
        ({CONTRACT: None}, 5),
        ({"index.json": "{}"}, 5),
        ({"sha256sums.txt": "nonsense\n"}, 5),
    ],
    ids=["no index", "no archive", "broken index", "broken sums"],
)
def test_an_incomplete_source_is_refused(
    tmp_path: Path, cache: Path, damage: dict[str, str | None], code: int
) -> None:
    folder = publish(tmp_path / "v1", "v1")
    for name, text in damage.items():
        (folder / name).unlink() if text is None else (folder / name).write_text(text)
    assert run(tmp_path, "promote", "--from", folder) == code
    assert list(cache.iterdir()) == []


def test_builds_of_two_versions_are_not_mixed(tmp_path: Path, cache: Path) -> None:
    built(tmp_path / "out", "base", "v1")
    built(tmp_path / "out", "php", "v2")
    assert run(tmp_path, "promote", "--from", tmp_path / "out") == 2
    assert list(cache.iterdir()) == []


def test_a_broken_state_is_named_and_left_alone(tmp_path: Path, cache: Path) -> None:
    assert cache.exists()
    (tmp_path / "state.json").write_text(json.dumps({"schema": 99}))
    assert run(tmp_path, "promote", "--from", publish(tmp_path / "v1", "v1")) == 2
    assert json.loads((tmp_path / "state.json").read_text()) == {"schema": 99}
