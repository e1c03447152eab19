"""YAML as a tree whose every node knows its line: what a finding needs and plain data lacks."""

from collections.abc import Iterator
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class Node:
    """A node, or nothing (false), so that a path can be followed without asking at every step."""

    raw: yaml.Node | None = None

    def __bool__(self) -> bool:
        """Tell whether there is anything here."""
        return self.raw is not None

    @property
    def line(self) -> int:
        """The line on which it starts, from 1."""
        return self.raw.start_mark.line + 1 if self.raw is not None else 1

    @property
    def content_line(self) -> int:
        """The line of the first line of a text, which for a block is the one after its '|'."""
        block = isinstance(self.raw, yaml.ScalarNode) and self.raw.style in ("|", ">")
        return self.line + block

    @property
    def text(self) -> str:
        """The text of a scalar as it is written: ``on`` and ``yes`` stay words."""
        return str(self.raw.value) if isinstance(self.raw, yaml.ScalarNode) else ""

    @property
    def is_scalar(self) -> bool:
        """Tell a text, number or word from a table or a list."""
        return isinstance(self.raw, yaml.ScalarNode)

    @property
    def is_table(self) -> bool:
        """Tell whether it has keys."""
        return isinstance(self.raw, yaml.MappingNode)

    def entries(self) -> list[tuple["Node", "Node"]]:
        """Return keys and values of a table; of anything else, none."""
        if not isinstance(self.raw, yaml.MappingNode):
            return []
        return [(Node(key), Node(value)) for key, value in self.raw.value]

    def items(self) -> list["Node"]:
        """Return the items of a list; of anything else, none."""
        if not isinstance(self.raw, yaml.SequenceNode):
            return []
        return [Node(item) for item in self.raw.value]

    def get(self, *path: str) -> "Node":
        """Return what stands under the keys of *path*, one in the other."""
        node = self
        for step in path:
            node = next((value for key, value in node.entries() if key.text == step), Node())
        return node

    def names(self) -> list[str]:
        """Return the keys of a table as texts."""
        return [key.text for key, _ in self.entries()]

    def walk(self) -> Iterator["Node"]:
        """Yield this node and all below it, each once however often an alias names it."""
        seen: set[int] = set()
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if not node or id(node.raw) in seen:
                continue
            seen.add(id(node.raw))
            yield node
            below = [*node.items(), *(part for entry in node.entries() for part in entry)]
            waiting.extend(reversed(below))


@dataclass(frozen=True)
class YamlMistake:
    """What the parser says, and the line where it says it."""

    line: int
    message: str


def parse(text: str) -> list[Node] | YamlMistake:
    """Return the documents in *text*, or where it stops being YAML."""
    try:
        found = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        return YamlMistake(mark.line + 1 if mark else 1, reason)
    except yaml.YAMLError as error:
        return YamlMistake(1, str(error).splitlines()[0])
    return [Node(raw) for raw in found]
