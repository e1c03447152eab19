"""Builds that use the cache: the second takes what the first left, and both say so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, list[str]]]
Build = Callable[..., dict[str, Any]]


@pytest.fixture
def build(run: Run) -> Build:
    """Return a function that builds an image with the cache and returns what it says of it."""

    def build(*arguments: str) -> dict[str, Any]:
        code, said, _ = run(
            *("build", "--json", "--cached", *arguments),
            *("--out", "out", "--cache-dir", "cache", "--compression-level", "0"),
        )
        assert code == 0, said
        (document,), _ = json.JSONDecoder().raw_decode(said)
        cache: dict[str, Any] = document["cache"]
        return cache

    return build


def test_the_second_build_takes_the_layer_and_all_pieces(build: Build) -> None:
    first, second = build("php"), build("php")

    assert (first["layer"], first["pieces_reused"], first["saved"]) == ("made", 0, 0)
    assert first["seconds"] > 0, "writing it took time, too"
    assert second["layer"] == "hit"
    assert second["layer_bytes"] > 0
    assert second["pieces_reused"] == second["pieces"] == first["pieces"]
    assert second["bytes_reused"] > second["layer_bytes"] / 2
    assert second["saved"] > 0


def test_a_base_image_leaves_the_layer_of_the_others(build: Build) -> None:
    assert build("base")["layer"] == "made"
    assert build("base")["layer"] == "hit"
    assert build("php")["layer"] == "hit"


def test_the_cache_is_brought_down_to_its_size_after_the_build(
    build: Build, tmp_path: Path
) -> None:
    build("php", "--cache-max", "0")

    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert all(path.name.startswith(".") for path in kept)
    assert build("php")["layer"] == "made"
