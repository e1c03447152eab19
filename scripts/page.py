"""What the scripts that write reference pages share: a page is written, or only told stale."""  # noqa: INP001 - a script imports it from its own folder

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def cell(text: str) -> str:
    """Return *text* as the cell of a Markdown table: one line, nothing that ends it or is HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write_or_check(name: str, text: str, *, script: str) -> int:
    """Write the page *name*, or with ``--check`` only tell whether it is fresh; return the code."""
    page = ROOT / name
    if sys.argv[1:] == ["--check"]:
        if page.is_file() and page.read_text("utf-8") == text:
            return 0
        sys.stderr.write(f"{name} is stale: run {script}\n")
        return 1
    page.write_text(text, "utf-8")
    return 0
