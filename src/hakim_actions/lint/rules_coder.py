"""The Coder templates and variants.yaml agree."""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from hakim_actions.errors import did_you_mean
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import VARIANTS, Tree

#: What the parameter image_variant takes beside the variants: an image of the user's own.
CUSTOM: Final = "custom"
_COMMENT: Final = re.compile(r"^\s*(?:#|//).*$", re.MULTILINE)
_TEXT: Final = re.compile(r'"([^"$]*)"')
_COMPARED: Final = re.compile(r'variant(?:\.value)?\s*[!=]=\s*"([^"$]*)"')
_CONTAINED: Final = re.compile(r"contains\(\s*\[([^\]]*)\]\s*,\s*[\w.]*variant(?:\.value)?\s*\)")
_PARAMETER: Final = re.compile(r'"template_url_([a-z0-9]+)"')
_TABLE: Final = re.compile(r"^([ \t]*)variant_\w+\s*=\s*\{\n(.*?)^\1\}", re.MULTILINE | re.DOTALL)
_OPTIONS: Final = re.compile(
    r'^data "coder_parameter" "image_variant" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL
)
_VALUE: Final = re.compile(r'\bvalue\s*=\s*"([^"$]*)"')


@rule(
    "templates-have-variants",
    "The variants.yaml that a Coder template packs is the one of the images",
    why="The options of the template are made from it.",
)
def templates_have_variants(tree: Tree) -> Iterable[Problem]:
    """Yield templates that read a variants.yaml that is missing or another one."""
    for folder, file, line in _readers(tree):
        path = tree.root / folder / "variants.yaml"
        hint = f"Make {folder}/variants.yaml a link: ln -s ../../../{VARIANTS} {folder}/"
        if not path.is_file():
            found = "it reads variants.yaml, and there is none in its folder"
            yield Problem(file, line, found, f"a link to {VARIANTS}", hint)
        elif path.read_bytes() != (tree.root / VARIANTS).read_bytes():
            found = f"{folder}/variants.yaml differs"
            yield Problem(file, line, found, f"the content of {VARIANTS}", hint)


def _readers(tree: Tree) -> Iterator[tuple[str, str, int]]:
    """Yield folder, file and line of each template that reads variants.yaml."""
    for file in tree.matching("coder/templates/*/*.tf"):
        position = tree.text(file).find("variants.yaml")
        if position >= 0:
            yield str(PurePosixPath(file).parent), file, _line(tree.text(file), position)


@rule(
    "templates-known-variants",
    "Coder templates and modules name only variants that exist",
    why="A gate for a misspelt variant never opens, and nothing fails.",
)
def templates_known_variants(tree: Tree) -> Iterable[Problem]:
    """Yield names in comparisons, gates, tables, options and parameters that no variant has."""
    known = (*tree.variants, CUSTOM)
    for file, text in _sources(tree):
        for name, position in sorted(set(_named(text)), key=lambda each: each[1]):
            if name not in known:
                yield Problem(
                    file,
                    _line(text, position),
                    f"variant '{name}'",
                    f"a variant of {VARIANTS}, or '{CUSTOM}'",
                    did_you_mean(name, known),
                )


@rule(
    "templates-offer-all-variants",
    "A list of variants that is written into image_variant is complete",
    why="An image that is no option is built for nobody.",
)
def templates_offer_all_variants(tree: Tree) -> Iterable[Problem]:
    """Yield written lists of options that lack variants; generated ones lack none."""
    for file, text in _sources(tree):
        for block in _OPTIONS.finditer(text):
            offered = {match.group(1) for match in _VALUE.finditer(block.group(1))}
            missing = [name for name in tree.variants if name not in offered]
            if offered.intersection(tree.variants) and missing:
                yield Problem(
                    file,
                    _line(text, block.start()),
                    f"no option for {', '.join(missing)}",
                    f"an option for each variant of {VARIANTS}",
                    'Generate them: dynamic "option" with for_each over the variants.',
                )


def _sources(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield name and text of each Terraform file, its comments emptied but their lines kept."""
    for file in tree.below("coder", "*.tf"):
        yield file, _COMMENT.sub("", tree.text(file))


def _named(text: str) -> Iterator[tuple[str, int]]:
    """Yield every variant that *text* names, and where."""
    for pattern in (_COMPARED, _PARAMETER):
        for match in pattern.finditer(text):
            yield match.group(1), match.start(1)
    for pattern, group, part in ((_CONTAINED, 1, _TEXT), (_OPTIONS, 1, _VALUE)):
        for match in pattern.finditer(text):
            for name in part.finditer(match.group(group)):
                yield name.group(1), match.start(group) + name.start(1)
    for table in _TABLE.finditer(text):
        key = re.compile(rf'^{table.group(1)}  "?([\w-]+)"?\s*=', re.MULTILINE)
        for name in key.finditer(table.group(2)):
            yield name.group(1), table.start(2) + name.start(1)


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
