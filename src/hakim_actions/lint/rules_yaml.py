"""YAML is YAML: rules about every file of that kind."""

from collections.abc import Iterable

from hakim_actions.lint.document import YamlMistake
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import Tree


@rule(
    "yaml-syntax",
    "Every YAML file can be read",
    why="A workflow or definition that cannot be read is only noticed when somebody needs it.",
)
def syntax(tree: Tree) -> Iterable[Problem]:
    """Yield where the parser gives up."""
    for name in tree.yaml_files:
        documents = tree.documents(name)
        if isinstance(documents, YamlMistake):
            yield Problem(
                name,
                documents.line,
                documents.message,
                "YAML",
                "Look at the indentation, quotes and colons there and on the line before.",
            )


@rule(
    "yaml-unique-keys",
    "No key stands twice in a table",
    why="Most programs take the last one and forget the first without a word.",
)
def unique_keys(tree: Tree) -> Iterable[Problem]:
    """Yield every key that a table of any YAML file has already."""
    for name in tree.yaml_files:
        documents = tree.documents(name)
        for document in documents if isinstance(documents, list) else ():
            for node in document.walk():
                first: dict[str, int] = {}
                for key, _ in node.entries():
                    line = first.setdefault(key.text, key.line)
                    if line != key.line and key.is_scalar:
                        yield Problem(
                            name,
                            key.line,
                            f"'{key.text}' again",
                            f"one '{key.text}' in this table; the first is in line {line}",
                            "Merge the two, or rename one.",
                        )
