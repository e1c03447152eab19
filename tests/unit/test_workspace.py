"""What the builds of a run share ends with the run, or with the next one after a kill."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hakim_actions.image.workspace import run_folder

_RUN = """
import pathlib, sys, time
from hakim_actions.image.workspace import run_folder
with run_folder(pathlib.Path(sys.argv[1])) as own:
    (own / "file").touch()
    print(own, flush=True)
    time.sleep(60)
"""


def other_run(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a run that is under way, and return it with its folder."""
    child = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_run_leaves_nothing(tmp_path: Path) -> None:
    with run_folder(tmp_path) as own:
        (own / "file").touch()

    assert list(tmp_path.iterdir()) == []


def test_runs_in_two_containers_that_share_the_folder_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may be process 7, and each holds its folder while it lasts."""
    monkeypatch.setattr(os, "getpid", lambda: 7)

    with run_folder(tmp_path) as first, run_folder(tmp_path) as second:
        assert first != second
        assert first.exists()
        assert second.exists()


def test_only_folders_of_dead_runs_are_removed(tmp_path: Path) -> None:
    for name in ("run-dead", "run-live", "somebody-else"):
        (tmp_path / name / "rootfs").mkdir(parents=True)
    live = os.open(tmp_path / "run-live", os.O_RDONLY)
    fcntl.flock(live, fcntl.LOCK_EX)

    with run_folder(tmp_path) as own:
        assert own.stat().st_mode & 0o777 == 0o700
        left = {path.name for path in tmp_path.iterdir()}
    os.close(live)

    assert left == {"run-live", "somebody-else", own.name}
    assert not own.exists()


def test_a_link_that_looks_like_a_stale_folder_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "run-link").symlink_to(precious)

    with run_folder(work):
        pass

    assert precious.exists()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    child, left = other_run(tmp_path)
    child.kill()
    child.communicate()
    assert left.exists()

    with run_folder(tmp_path):
        assert not left.exists()

    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_keeps_its_folder(tmp_path: Path) -> None:
    child, busy = other_run(tmp_path)
    try:
        with run_folder(tmp_path):
            pass
        assert (busy / "file").exists()
    finally:
        child.kill()
        child.communicate()
