"""Several images in one run: base first, one layer for all, and a failure stays its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeProgram
from rootfs import make_rootfs_tar

from hakim_actions.cli import elevate
from hakim_actions.cli import main as cli
from hakim_actions.image import build as build_module
from hakim_actions.image import mirror, preflight, rules_archive, tools
from hakim_actions.image.mirror import Archive

#: Writes down how it was called, and leaves the root file system of the variant it was asked for.
DISTROBUILDER = """
    here=$(dirname "$0")
    [[ $1 == --version ]] && { echo 3.3.1; exit; }
    [[ $1 == validate ]] && exit
    variant=$(printf '%s\\n' "$@" | sed -n 's/^image.variant=//p')
    layer=$(printf '%s\\n' "$@" | sed -n 's/^source.url=file:\\/\\///p')
    echo "$variant ${layer:+on a layer}" >> "$here/calls"
    [[ -z $layer || -s $layer ]] || { echo "E: no layer at $layer"; exit 1; }
    [[ ! -e $here/refuse-$variant ]] || { echo "E: refused $variant"; exit 1; }
    cp "$here/$variant.tar" "$3/rootfs.tar"
    echo meta | xz > "$3/meta.tar.xz"
"""
VARIANTS = ("base", "php", "dotnet", "js", "rust", "elixir")


@pytest.fixture
def programs(program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = program("distrobuilder", DISTROBUILDER).parent
    program("setpriv", 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"')
    for variant in VARIANTS:
        make_rootfs_tar(folder / f"{variant}.tar", variant=variant)
    monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
    monkeypatch.setattr(rules_archive, "MIN_RAW", 0)
    monkeypatch.setattr(elevate, "become_root", lambda *_, **__: None)
    monkeypatch.setattr(preflight, "check_build", lambda **_: None)
    monkeypatch.setattr(
        mirror, "read_archive", lambda *_, **__: Archive(mirror="m", digests={"trixie": "1"})
    )

    # What tools there are and how they are fetched is tested elsewhere.
    monkeypatch.setattr(tools, "load", lambda _: None)
    monkeypatch.setattr(tools, "check_allowed", lambda *_: None)

    class Report:
        checks = ()

    def boot(*_: Any, **__: Any) -> Report:
        return Report()

    monkeypatch.setattr(build_module, "boot_test", boot)
    return folder


Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def run(
    programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs build and returns exit code, output and distrobuilder's calls.

    It runs in *tmp_path* with relative folders, as people do.
    """
    monkeypatch.chdir(tmp_path)

    def build(*arguments: str) -> tuple[int, str, list[str]]:
        calls = programs / "calls"
        calls.unlink(missing_ok=True)
        code = cli.main(
            [
                "build",
                *arguments,
                *("--out", "out", "--cache-dir", "cache"),
                *("--compression-level", "0"),
            ],
            {"PATH": os.environ["PATH"]},
        )
        called = calls.read_text().splitlines() if calls.exists() else []
        captured = capsys.readouterr()
        return code, captured.out + captured.err, [line.strip() for line in called]

    return build


ON_LAYER = [f"{variant} on a layer" for variant in VARIANTS[1:]]


def test_all_variants_stand_on_one_layer_made_in_this_run(run: Run, tmp_path: Path) -> None:
    code, said, calls = run("--all")

    assert code == 0
    assert calls[0] == "base"
    assert sorted(calls[1:]) == sorted(ON_LAYER)
    for variant in VARIANTS:
        assert f"hakim-{variant}-trixie-amd64 " in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["work"]
    assert list((tmp_path / "cache/work").iterdir()) == []


def test_from_scratch_bootstraps_every_variant(run: Run) -> None:
    _, _, calls = run("--all", "--from-scratch")

    assert sorted(calls) == sorted(VARIANTS)


def test_a_cached_layer_is_used_by_the_next_run(run: Run) -> None:
    assert run("--variant", "elixir", "--cached")[2] == ["base", "elixir on a layer"]
    assert run("--variant", "php", "--cached")[2] == ["php on a layer"]
    assert run("--variant", "base", "--cached")[2] == ["base on a layer"]


def test_without_cached_nothing_is_read_from_the_cache(run: Run) -> None:
    run("--variant", "base", "--cached")

    assert run("--variant", "php")[2] == ["php"]


def test_a_layer_that_is_too_old_is_made_anew(run: Run) -> None:
    run("--variant", "php", "--cached")

    assert run("--variant", "php", "--cached", "--max-layer-age", "0")[2] == [
        "base",
        "php on a layer",
    ]


def test_a_cached_rebuild_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    archive = tmp_path / "out/php/hakim-php-trixie-amd64.tar.xz"
    run("php", "--cached")
    first = archive.read_bytes()
    run("php", "--cached")

    assert archive.read_bytes() == first


def test_one_failure_stops_only_itself(run: Run, programs: Path, tmp_path: Path) -> None:
    (programs / "refuse-dotnet").touch()

    code, said, _ = run("--all")

    assert code == 4
    assert "hakim-dotnet-trixie-amd64    FAILED: distrobuilder could not build" in said
    built = {path.name for path in (tmp_path / "out").rglob("*.tar.xz") if "meta" not in path.name}
    assert built == {f"hakim-{v}-trixie-amd64.tar.xz" for v in VARIANTS if v != "dotnet"}


def test_the_failure_of_a_single_image_is_its_own_error(run: Run, programs: Path) -> None:
    (programs / "refuse-php").touch()

    code, said, _ = run("php")

    assert code == 4
    assert "error: distrobuilder could not build hakim-php-trixie-amd64: E: refused php" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("php", "--variant", "php"), "Give a variant once"),
        (("php", "--all"), "Give a variant once"),
        (("--cached", "--from-scratch"), "exclude each other"),
        (("--variant", "phpp"), "Did you mean 'php'?"),
        (("--release", "trixy"), "Did you mean 'trixie'?"),
        (("--arch", "arm46"), "Did you mean 'arm64'?"),
        (("php", "--release", "bookworm"), "Variant 'php' has no image for release 'bookworm'"),
        (("--mirror", "http://m/a,b=c"), "--mirror: 'http://m/a,b=c' cannot be used"),
        (("--apt-proxy", "proxy:3142"), "--apt-proxy: 'proxy:3142' cannot be used"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    run: Run, arguments: tuple[str, ...], said: str
) -> None:
    code, output, calls = run(*arguments)

    assert code == 2
    assert said in output
    assert not calls
