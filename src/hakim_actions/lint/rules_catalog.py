"""variants.yaml, and every place that names a variant, agree."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hakim_actions.catalog import Catalog
from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.lint.document import Node
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import ACTION_SCRIPTS, DEFINITION, TOOLS_LOCK, VARIANTS, Tree

#: The variant that all others stand on; what is its own stands in the sets of every image.
BASE: Final = "base"
#: What tools.lock says instead of a list.
_WORDS: Final = ("all", "all-but-base")
_TWICE: Final = "is there twice"
_SUBJECT: Final = re.compile(r"(?:variant|preset of) '([^']*)'(?:, ([a-z]+))?")
_STACK: Final = re.compile(
    r"^\s*(?:function\s+)?install_([A-Za-z0-9_-]+)_stack\s*\(\s*\)", re.MULTILINE
)


@rule(
    "catalog-valid",
    "variants.yaml says all that a variant needs, in keys and values that are known",
    why="The matrix, the Coder options and the boot test are made from it.",
)
def catalog_valid(tree: Tree) -> Iterable[Problem]:
    """Yield what the catalog itself refuses, at the line of the variant and key it is about."""
    variants = tree.yaml(VARIANTS)
    try:
        Catalog.load(tree.root / VARIANTS)
    except ConfigurationError as error:
        # A key that stands twice stops the catalog, and is told by a rule of its own.
        whole = () if _TWICE in error.message else (error.message,)
        for problem in error.problems or whole:
            found, _, hint = problem.partition(" Did you mean")
            yield Problem(
                VARIANTS,
                _line_of(problem, variants),
                found,
                "an entry like those of the other variants",
                f"Did you mean{hint}" if hint else "The head of the file explains each key.",
            )


def _line_of(problem: str, document: Node) -> int:
    subject = _SUBJECT.match(problem)
    if subject is None:
        said = re.search(r", line (\d+), column", problem)
        return int(said.group(1)) if said else document.get(problem.partition(":")[0]).line
    name, key = subject.groups()
    for variant, entry in document.get("variants").entries():
        if variant.text == name:
            misspelt = re.search(r"unknown key '([^']*)'", problem)
            wanted = (misspelt.group(1),) if misspelt else (key or "",)
            lines = [part.line for part, _ in entry.entries() if part.text in wanted]
            return lines[0] if lines else variant.line
    return document.line


@rule(
    "stack-functions-known",
    "Every function install_…_stack has the name of a variant in it",
    why="The function is called by the name of the variant; misspelt, it is never called.",
)
def stack_functions_known(tree: Tree) -> Iterable[Problem]:
    """Yield functions that no variant will call."""
    for script, name, line in stack_functions(tree):
        if name not in tree.variants:
            yield Problem(
                script,
                line,
                f"install_{name}_stack",
                "the name of a variant between install_ and _stack",
                did_you_mean(name, tree.variants),
            )


@rule(
    "tools-lock-variants",
    "tools.lock names only variants that exist",
    why="A tool for a misspelt variant is put into no image.",
)
def tools_lock_variants(tree: Tree) -> Iterable[Problem]:
    """Yield unknown names under any key ``variants``: in a list, or words for many of them."""
    document = tree.yaml(TOOLS_LOCK)
    words = [node.get("variants") for node in document.walk() if node.get("variants").is_scalar]
    named = [(name, tree.variants) for name in _lists_of(document, "variants")]
    for name, known in (*named, *((word, _WORDS) for word in words)):
        if name.text not in known:
            yield Problem(
                TOOLS_LOCK,
                name.line,
                f"variants: {name.text}",
                f"a list of variants of variants.yaml, or {' or '.join(_WORDS)}",
                did_you_mean(name.text, known),
            )


@rule(
    "variant-has-content",
    "Every variant but base brings something of its own, or says that it needs nothing",
    why="A variant in variants.yaml alone is a second base under a promising name.",
)
def variant_has_content(tree: Tree) -> Iterable[Problem]:
    """Yield variants that no set, file, action, tool or function belongs to."""
    own = {name.text for name in _lists_of(tree.yaml(DEFINITION), "variants")}
    own |= {name.text for name in _lists_of(tree.yaml(TOOLS_LOCK), "variants")}
    own |= {name for _, name, _ in stack_functions(tree)}
    for key, _ in tree.yaml(VARIANTS).get("variants").entries():
        if key.text not in {BASE, *own}:
            yield Problem(
                VARIANTS,
                key.line,
                f"'{key.text}' has nothing of its own",
                f"a package set with 'variants: [{key.text}]' in {DEFINITION}",
                f"Add the set, or a function install_{key.text}_stack in post-packages.sh; a set "
                "with 'packages: []' says that the variant needs nothing.",
            )


def stack_functions(tree: Tree) -> Iterator[tuple[str, str, int]]:
    """Yield script, variant and line of every function ``install_<variant>_stack``."""
    for script in tree.below(ACTION_SCRIPTS, "*.sh"):
        text = tree.text(script)
        for match in _STACK.finditer(text):
            yield script, match.group(1), text.count("\n", 0, match.start(1)) + 1


def _lists_of(document: Node, key: str) -> Iterator[Node]:
    """Yield the items of every list under *key*, wherever in *document* it stands."""
    for node in document.walk():
        yield from node.get(key).items()
