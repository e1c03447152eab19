"""The docs name only variants that exist."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hakim_actions.debian import ARCHITECTURES, RELEASES
from hakim_actions.errors import did_you_mean
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import VARIANTS, Tree

#: Pages that tell of the past, and those that no reader sees.
_LEFT_OUT: Final = ("CHANGELOG.md", "docs/adr/", "tests/")
#: How a page says which variants it makes up: ``<!-- variants: go -->``.
_MADE_UP: Final = re.compile(r"<!-- variants: ([a-z0-9, ]+) -->")
_NAME: Final = r"([a-z][a-z0-9]*)\b"
_NAMING: Final = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\bhakim-{_NAME}-(?:{'|'.join(RELEASES)})-(?:{'|'.join(ARCHITECTURES)})\b",
        rf"(?:--variant|\bimage\.variant|\bVARIANT)(?:=| +){_NAME}",
        rf"\binstall_{_NAME[:-2]}_stack\b",
        rf"\btemplate_url_{_NAME}",
        rf"\bdistrobuilder/out/{_NAME}",
        rf"\bvariants: \[{_NAME}\]",
    )
)
_FIRST_CELL: Final = re.compile(r"^\|\s*[`*]*([A-Za-z0-9-]+)[`*]*\s*\|")


@rule(
    "docs-known-variants",
    "Docs name only variants that exist, or say that they make one up",
    why="People copy what they read; the command then ends with 'unknown variant'.",
)
def docs_known_variants(tree: Tree) -> Iterable[Problem]:
    """Yield names in artifacts, options, paths, functions and variant tables of any page."""
    for page in tree.matching("*.md"):
        if page.startswith(_LEFT_OUT):
            continue
        made_up = " ".join(_MADE_UP.findall(tree.text(page))).replace(",", " ").split()
        known = (*tree.variants, *made_up)
        for name, line in _named(tree.text(page)):
            if name not in known:
                yield Problem(
                    page,
                    line,
                    f"variant '{name}'",
                    f"a variant of {VARIANTS}",
                    f"{did_you_mean(name, tree.variants)} A page that makes one up says "
                    f"<!-- variants: {name} -->.",
                )


def _named(text: str) -> Iterator[tuple[str, int]]:
    """Yield every variant that the page names, and the line; one name once a line."""
    # Whether the line before was a row of a table, and whether that table lists variants.
    in_table = of_variants = False
    for number, line in enumerate(text.split("\n"), start=1):
        names = [match.group(1) for pattern in _NAMING for match in pattern.finditer(line)]
        cell = _FIRST_CELL.match(line)
        if line.startswith("|") and not in_table:
            of_variants = cell is not None and cell.group(1).lower() == "variant"
        elif of_variants and cell and not set(cell.group(1)) <= {"-"}:
            names.append(cell.group(1).lower())
        in_table = line.startswith("|")
        of_variants = of_variants and in_table
        yield from ((name, number) for name in dict.fromkeys(names) if name != "map")
