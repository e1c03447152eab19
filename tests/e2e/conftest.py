"""Real images for the tests that need one: built once a run, by the command that people use."""

import os
from pathlib import Path
from typing import Any

import pytest
from images import Build, build_images


@pytest.fixture(scope="session")
def build_image() -> Build:
    """Return a function that builds an image with the cache, and returns what --json prints."""
    results: dict[tuple[str, ...], dict[str, Any]] = {}

    def build(variant: str, *options: str, again: bool = False) -> dict[str, Any]:
        key = (variant, *options)
        if key not in results or again:
            (results[key],) = build_images(
                *("--variant", variant, "--cached", "--compression-level", "1"), *options
            )
        return results[key]

    return build


@pytest.fixture(scope="session")
def base_artifact(build_image: Build) -> Path:
    """Return the golden base template of trixie, as ``make build`` makes it."""
    given = os.environ.get("HAKIM_TEST_ARTIFACT")
    return Path(given or build_image("base")["artifact"])
