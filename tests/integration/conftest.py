"""The command line with builds that take no time: no root, no Debian, no LXC behind it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from conftest import FakeProgram
from rootfs import make_rootfs_tar

from hakim_actions.artifact import Archive
from hakim_actions.cli import elevate
from hakim_actions.cli import main as cli
from hakim_actions.image import build as build_module
from hakim_actions.image import mirror, preflight, rules_archive, tmpfs, tools
from hakim_actions.image.toolslock import Lock
from hakim_actions.system import process

#: Writes down how it was called, and leaves the root file system of the variant it was asked for.
_DISTROBUILDER: Final = """
    here=$(dirname "$0")
    [[ $1 == --version ]] && { echo 3.3.1; exit; }
    [[ $1 == validate ]] && exit
    variant=$(printf '%s\\n' "$@" | sed -n 's/^image.variant=//p')
    layer=$(printf '%s\\n' "$@" | sed -n 's/^source.url=file:\\/\\///p')
    echo "$variant ${layer:+on a layer}" >> "$here/calls"
    [[ -z $layer || -s $layer ]] || { echo "E: no layer at $layer"; exit 1; }
    [[ ! -e $here/refuse-$variant ]] || { echo "E: refused $variant"; exit 1; }
    cp "$here/$variant.tar" "$3/rootfs.tar"
    [[ ! -e $here/next-$variant.tar ]] || mv "$here/next-$variant.tar" "$here/$variant.tar"
    echo meta | xz > "$3/meta.tar.xz"
"""
ARCHIVE: Final = Archive(
    mirror="http://m.test/debian",
    security="http://m.test/debian-security",
    date=1_761_998_400,
    digests={"trixie": "1"},
)

#: Runs the command line; returns exit code, output and distrobuilder's calls.
Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def build_programs(program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a distrobuilder that makes small images.

    A file ``refuse-<variant>`` in it makes the variant fail; ``next-<variant>.tar`` takes the
    place of the root file system after the first build.
    """
    folder = program("distrobuilder", _DISTROBUILDER).parent
    program("setpriv", 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"')
    for variant in ("base", "php", "dotnet", "js", "rust", "elixir"):
        make_rootfs_tar(folder / f"{variant}.tar", variant=variant)
    monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
    monkeypatch.setattr(rules_archive, "MIN_RAW", 0)
    monkeypatch.setattr(elevate, "become_root", lambda *_, **__: None)
    monkeypatch.setattr(preflight, "check_build", lambda **_: None)
    monkeypatch.setattr(tmpfs, "room", lambda *_, **__: 0)  # only root mounts
    monkeypatch.setattr(mirror, "read_archive", lambda *_, **__: ARCHIVE)

    # What tools there are and how they are fetched is tested elsewhere.
    monkeypatch.setattr(tools, "load", lambda path: Lock(path=path, tools={}))
    monkeypatch.setattr(tools, "check_allowed", lambda *_: None)

    class Report:
        checks = ()
        boot_seconds = 1.5

    def boot(*_: Any, unpacked: process.Source, **__: Any) -> Report:
        unpacked(lambda _data: None)
        return Report()

    monkeypatch.setattr(build_module, "boot_test", boot)
    return folder


@pytest.fixture
def run(
    build_programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs a command in *tmp_path*, with relative folders, as people do."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        calls = build_programs / "calls"
        calls.unlink(missing_ok=True)
        code = cli.main(list(arguments), {"PATH": os.environ["PATH"]})
        called = calls.read_text().splitlines() if calls.exists() else []
        captured = capsys.readouterr()
        return code, captured.out + captured.err, [line.strip() for line in called]

    return run
