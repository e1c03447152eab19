"""Files are whole or not there; a lock says who holds it."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hakim_actions.errors import ConfigurationError
from hakim_actions.system import files

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "x"

    with files.replacing(target) as stream:
        stream.write(b"new")
        assert not target.exists()

    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")

    def fill_the_disk() -> None:
        with files.replacing(target) as stream:
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        fill_the_disk()

    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert target.read_text() == "old"


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")

    assert files.sha256_file(tmp_path / "x") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_folder_that_cannot_be_written_is_named_with_its_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match=r"--out: cannot write to .*file/out"):
        files.writable_folder(tmp_path / "file/out", option="--out")


def test_free_space_is_that_of_the_nearest_parent(tmp_path: Path) -> None:
    assert files.free_bytes(tmp_path / "not/yet/there") == pytest.approx(
        files.free_bytes(tmp_path), rel=0.1
    )


def test_the_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    with files.locked(lock, purpose="A build of x"):
        program = (
            "import pathlib; from hakim_actions.system import files\n"
            f"with files.locked(pathlib.Path({str(lock)!r}), purpose='A build of x'): pass"
        )
        second = subprocess.run(
            (sys.executable, "-c", program),
            env={"PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )

    assert second.returncode != 0
    assert f"A build of x is already running: process {os.getpid()} holds" in second.stderr


def test_a_lock_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with files.locked(tmp_path / "lock", purpose="x"):
            pass
