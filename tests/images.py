"""How tests of real images call the command line, and where they keep what is expensive."""

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
