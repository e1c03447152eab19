"""Several images in one run: base first, one layer for all, and a failure stays its own."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hakim_actions.image import many, xzstreams
from hakim_actions.system import files

Run = Callable[..., tuple[int, str, list[str]]]

VARIANTS = ("base", "php", "dotnet", "js", "rust", "elixir")
OPTIONS = ("--out", "out", "--cache-dir", "cache", "--compression-level", "0")


@pytest.fixture
def build(run: Run) -> Run:
    """Return a function that runs build and returns exit code, output and distrobuilder's calls."""
    return lambda *arguments: run("build", *arguments, *OPTIONS)


ON_LAYER = [f"{variant} on a layer" for variant in VARIANTS[1:]]


def test_all_variants_stand_on_one_layer_made_in_this_build(build: Run, tmp_path: Path) -> None:
    code, said, calls = build("--all")

    assert code == 0
    assert calls[0] == "base"
    assert sorted(calls[1:]) == sorted(ON_LAYER)
    for variant in VARIANTS:
        assert f"hakim-{variant}-trixie-amd64 " in said
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["work"]
    assert list((tmp_path / "cache/work").iterdir()) == []


def test_from_scratch_bootstraps_every_variant(build: Run) -> None:
    _, _, calls = build("--all", "--from-scratch")

    assert sorted(calls) == sorted(VARIANTS)


def test_a_cached_layer_is_used_by_the_next_build(build: Run) -> None:
    assert build("--variant", "elixir", "--cached")[2] == ["base", "elixir on a layer"]
    assert build("--variant", "php", "--cached")[2] == ["php on a layer"]
    assert build("--variant", "base", "--cached")[2] == ["base on a layer"]


def test_without_cached_nothing_is_read_from_the_cache(build: Run) -> None:
    build("--variant", "base", "--cached")

    assert build("--variant", "php")[2] == ["php"]


def test_a_layer_that_is_too_old_is_made_anew(build: Run) -> None:
    build("--variant", "php", "--cached")

    assert build("--variant", "php", "--cached", "--max-layer-age", "0")[2] == [
        "base",
        "php on a layer",
    ]


def test_a_cached_rebuild_gives_the_same_bytes(build: Run, tmp_path: Path) -> None:
    archive = tmp_path / "out/php/hakim-php-trixie-amd64.tar.xz"
    build("php", "--cached")
    first = archive.read_bytes()
    build("php", "--cached")

    assert archive.read_bytes() == first


def test_a_cache_that_can_only_be_read_is_used_and_said(
    build: Run, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Root writes everywhere, so what a read-only disk answers is stood in for."""
    build("php", "--cached")
    refusal = OSError(errno.EROFS, os.strerror(errno.EROFS))
    cache = str(tmp_path / "cache")

    def refused(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            place = options.get("dir") or arguments[0]
            if str(place).startswith(cache):
                raise refusal
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(os, "utime", refused(os.utime))
    monkeypatch.setattr(tempfile, "TemporaryFile", refused(tempfile.TemporaryFile))

    code, said, calls = run("build", "php", "--cached", *OPTIONS, "--work-dir", "work")

    assert code == 0, said
    assert calls == ["php on a layer"]
    assert f"cannot write to {cache}: Read-only file system." in said
    assert not list((tmp_path / "work").iterdir())


def streams_decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets the bytes of each stream that verifying decodes, one by one."""
    monkeypatch.setattr(many, "workers", lambda *_, **__: 1)
    decode = xzstreams.Unpacking._decode
    decoded: list[bytes] = []

    def noted(self: xzstreams.Unpacking) -> Iterator[bytes]:
        decoded.append(self._packed.getvalue())
        return decode(self)

    monkeypatch.setattr(xzstreams.Unpacking, "_decode", noted)
    return decoded


def test_verifying_decodes_what_several_images_share_once(
    build: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = streams_decoded(monkeypatch)

    assert build("--all")[0] == 0

    assert len(decoded) == len(set(decoded))


def test_a_disk_that_is_nearly_full_keeps_nothing_unpacked(
    build: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = streams_decoded(monkeypatch)
    monkeypatch.setattr(files, "free_bytes", lambda _: 20_000_000_000)

    assert build("--all")[0] == 0

    assert len(decoded) > len(set(decoded))


def test_one_failure_stops_only_itself(build: Run, build_programs: Path, tmp_path: Path) -> None:
    (build_programs / "refuse-dotnet").touch()

    code, said, _ = build("--all")

    assert code == 4
    assert "hakim-dotnet-trixie-amd64    FAILED: distrobuilder could not build" in said
    built = {path.name for path in (tmp_path / "out").rglob("*.tar.xz") if "meta" not in path.name}
    assert built == {f"hakim-{v}-trixie-amd64.tar.xz" for v in VARIANTS if v != "dotnet"}


def test_the_failure_of_a_single_image_is_its_own_error(build: Run, build_programs: Path) -> None:
    (build_programs / "refuse-php").touch()

    code, said, _ = build("php")

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
    build: Run, arguments: tuple[str, ...], said: str
) -> None:
    code, output, calls = build(*arguments)

    assert code == 2
    assert said in output
    assert not calls
