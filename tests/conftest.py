"""What every test shares: no way out to the real world but through what a test asks for."""

import os
import signal
import stat
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run, however slow the machine: a test needs no luck.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: the
# commands that tests interrupt would never notice.
signal.signal(signal.SIGINT, signal.default_int_handler)

FakeProgram = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the options, the tokens or the runner of whoever runs it."""
    for name in list(os.environ):
        if name.startswith(("HAKIM_", "GITHUB_", "RUNNER_", "CODER_", "PROXMOX_")) or name == "CI":
            monkeypatch.delenv(name)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProgram:
    """Return a function that puts a fake program, a shell script, first on PATH."""
    folder = tmp_path / "fake-programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text("#!/bin/bash\n" + textwrap.dedent(script))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make
