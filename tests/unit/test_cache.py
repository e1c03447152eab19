"""The cache stays within its size and loses first what was not used for longest."""

import json
import os
import time
from pathlib import Path

import pytest

from hakim_actions.cli import main as cli
from hakim_actions.image import cache


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a cache with three entries of 100 kB; the piece is the oldest."""
    for age, name in ((3, "pieces/aa/x.piece"), (2, "tools/y"), (1, "layers/z.tar")):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 102_400)
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "pieces/aa/.half").write_bytes(b"x" * 102_400)
    return tmp_path


def left(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_status_counts_each_part_without_locks_and_half_files(folder: Path) -> None:
    found = {part.name: (part.files, part.size) for part in cache.status(folder)}

    assert found == dict.fromkeys(("layers", "pieces", "tools"), (1, 102400)) | {"debs": (0, 0)}


def test_what_was_not_used_for_longest_goes_first(folder: Path) -> None:
    assert cache.prune(folder, max_bytes=150_000) == 2 * 102_400
    assert left(folder) == {"layers/z.tar"}


def test_a_cache_that_is_small_enough_is_left_alone(folder: Path) -> None:
    assert cache.prune(folder, max_bytes=10**6) == 0
    assert len(left(folder)) == 3


def test_a_layer_goes_as_a_whole_by_its_last_use(folder: Path) -> None:
    """Its checksum is as old as the layer; without it nobody uses the tar that is left."""
    checksum = folder / "layers/z.sha256"
    checksum.write_bytes(b"x" * 4096)
    os.utime(checksum, (1, 1))

    assert cache.prune(folder, max_bytes=150_000) == 2 * 102_400
    assert left(folder) == {"layers/z.tar", "layers/z.sha256"}
    assert cache.prune(folder, max_bytes=0) == 102_400 + 4096
    assert left(folder) == set()


def test_what_was_not_used_for_long_goes_although_there_is_room(folder: Path) -> None:
    os.utime(folder / "tools/y")

    assert cache.prune(folder, max_bytes=10**6, unused_for=3600) == 2 * 102_400
    assert left(folder) == {"tools/y"}


def test_all_folders_but_links_and_those_of_builds_under_way_can_be_given_away(
    folder: Path,
) -> None:
    (folder / "work/base").mkdir(parents=True)
    (folder / "layers/link").symlink_to("/")

    assert {path.relative_to(folder).as_posix() for path in cache.folders(folder)} == {
        ".",
        *("layers", "pieces", "pieces/aa", "tools"),
    }


def test_clear_removes_all_parts_and_nothing_else(folder: Path) -> None:
    (folder / "mine").touch()

    assert cache.clear(folder) == 3 * 102_400
    assert left(folder) == {"mine"}


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert all(part.files == 0 for part in cache.status(tmp_path / "none"))
    assert cache.prune(tmp_path / "none", max_bytes=0) == 0


def test_the_command_tells_machines_and_people(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cache", "status", "--cache-dir", str(folder), "--json"], {}) == 0
    assert json.loads(capsys.readouterr().out)["layers"] == {"files": 1, "size": 102_400}

    assert cli.main(["cache", "prune", "--cache-dir", str(folder), "--cache-max", "0"], {}) == 0
    assert capsys.readouterr().out == "Freed 307.2 kB.\n"


def test_the_command_counts_the_time_without_use_in_hours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_hours_ago = time.time() - 2 * 3600
    os.utime(folder / "tools/y", (two_hours_ago, two_hours_ago))
    prune = ["cache", "prune", "--cache-dir", str(folder), "--unused-for"]

    assert cli.main([*prune, "3"], {}) == 0
    assert left(folder) == {"tools/y"}
    assert cli.main([*prune, "1"], {}) == 0
    assert left(folder) == set()
