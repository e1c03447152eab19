"""Root comes through sudo, with a reason and the configuration, and gives files back."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from hakim_actions.cli import elevate
from hakim_actions.errors import ConfigurationError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what would have been started in the place of this process."""
    calls: list[Any] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "argv", ["hakim-actions", "build", "php", "$(id)"])
    return calls


def with_sudo(folder: Path) -> str:
    sudo = folder / "sudo"
    sudo.write_text("#!/bin/sh\n")
    sudo.chmod(sudo.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def test_root_stays_as_it_is(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    elevate.become_root("to test", env={})

    assert not started


def test_others_start_over_through_sudo_and_are_told_why(
    started: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {
        "PATH": with_sudo(tmp_path),
        "HAKIM_BUILD_MIRROR": "http://m",
        "GITHUB_OUTPUT": "/o",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/evil",
    }

    elevate.become_root("to bootstrap Debian", env=env)

    ((program, command, _),) = started
    assert program == str(tmp_path / "sudo")
    assert command[1] == "--preserve-env=GITHUB_OUTPUT,HAKIM_BUILD_MIRROR"
    assert command[2:] == [
        "--",
        sys.executable,
        "-I",
        "-m",
        "hakim_actions",
        "build",
        "php",
        "$(id)",
    ]
    assert "Root is needed to bootstrap Debian" in capsys.readouterr().err


def test_without_sudo_the_user_is_told_what_to_do(started: list[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Root is needed to test") as caught:
        elevate.become_root("to test", env={"PATH": str(tmp_path)})

    assert "install sudo" in caught.value.hint
    assert not started


def test_files_go_back_to_who_called_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "artifact").touch()
    owners: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(
        os, "chown", lambda path, uid, gid, **_: owners.update({Path(path).name: (uid, gid)})
    )

    elevate.give_back(tmp_path, env={"SUDO_UID": "1000", "SUDO_GID": "1001"})
    assert owners == {tmp_path.name: (1000, 1001), "artifact": (1000, 1001)}

    owners.clear()
    elevate.give_back(tmp_path, env={})
    assert not owners
