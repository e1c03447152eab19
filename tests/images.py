"""How tests of real images call the command line, and where they keep what is expensive."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
CACHE: Final = ROOT / ".cache/build"

#: Tools whose sources are the vendors' own sites, which not every network reaches. Where one is
#: reached it is installed and checked all the same.
ALLOW_MISSING: Final = (
    "cargo-nextest",
    "code-server",
    "coder",
    "dotnet",
    "hex",
    "laravel",
    "lazyvim",
    "neovim",
    "openchamber",
    "phx-new",
)

#: Builds a variant with options; returns what ``build --json`` prints of it.
Build = Callable[..., dict[str, Any]]


def hakim(*arguments: str) -> list[str]:
    """Return the command line of ``hakim-actions`` in this environment."""
    return [sys.executable, "-I", "-m", "hakim_actions", *arguments]


def stdout_of(*arguments: str) -> str:
    """Run ``hakim-actions`` with *arguments*, prove that it ended well, return what it prints."""
    done = subprocess.run(
        hakim(*arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, f"hakim-actions {' '.join(arguments)} ended with {done.returncode}"
    return done.stdout


def build_images(*options: str) -> list[dict[str, Any]]:
    """Build images with *options* beside those that all tests need; return what it prints."""
    images: list[dict[str, Any]] = json.loads(
        stdout_of(
            *("build", "--json", "--cache-dir", str(CACHE)),
            *("--allow-missing", ",".join(ALLOW_MISSING), *options),
        )
    )
    return images
