"""The pages of this project as data: blocks of code, and what becomes of each in the tests.

Every block of shell is run by ``tests/integration/test_docs_run.py``, unless a comment right before
it says where else, or why not::

    <!-- run by tests/integration/test_promote_docs.py -->
    <!-- not run: needs a Proxmox node -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SHELL: Final = ("sh", "bash", "console")
_FOLDERS: Final = ("coder", "distrobuilder", "docs", "examples")
_LEFT_OUT: Final = {"out", ".terraform", "node_modules"}
_BLOCK: Final = re.compile(
    r"""
    ^(?P<indent>[ ]*)(?:<!--[ ](?P<mark>[^\n]*?)[ ]-->\n(?P=indent))?
    ```(?P<language>\w+)\n
    (?P<text>.*?)
    ^(?P=indent)```$
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: the page and its line, its language, its text, and the comment before it."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str:
        """Why it is not run, or nothing."""
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""

    @property
    def test(self) -> str:
        """The test that runs it, or nothing when it is the one of all pages."""
        return self.mark.removeprefix("run by ") if self.mark.startswith("run by ") else ""

    @property
    def script(self) -> str:
        """What is typed: of a console only the lines with a prompt, without the prompt."""
        if self.language != "console":
            return self.text
        lines = [line for line in self.text.splitlines() if line.startswith("$ ")]
        return "".join(f"{line.removeprefix('$ ')}\n" for line in lines)


def pages() -> list[Path]:
    """Return every page of the project, sorted."""
    found = list(ROOT.glob("*.md"))
    for folder in _FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(page for page in found if not _LEFT_OUT & set(page.relative_to(ROOT).parts))


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """Yield the blocks of *page* that are in one of *languages*."""
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        if match["language"] in languages:
            yield Block(
                page=str(page.relative_to(ROOT)),
                line=text.count("\n", 0, match.start("language")) + 1,
                language=match["language"],
                text=re.sub(rf"(?m)^{match['indent']}", "", match["text"]),
                mark=match["mark"] or "",
            )
