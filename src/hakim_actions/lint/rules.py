"""The rules of lint: each with an id, what holds when it is kept, and the reason it is there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from hakim_actions.lint.tree import Tree


class Problem(NamedTuple):
    """What a check saw at a line of a file (both as people count), and what it wanted to see."""

    file: str
    line: int
    found: str
    expected: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Something that must hold; *id* is kebab-case and never changes its meaning."""

    id: str
    title: str
    why: str
    check: Callable[[Tree], Iterable[Problem]]


#: Every rule by its id, in the order in which they are checked.
RULES: Final[dict[str, Rule]] = {}


def rule(
    rule_id: str, title: str, *, why: str
) -> Callable[[Callable[[Tree], Iterable[Problem]]], Callable[[Tree], Iterable[Problem]]]:
    """Register the decorated check, which yields a problem per failure, as a rule."""
    if rule_id in RULES:
        msg = f"the rule '{rule_id}' is defined twice"
        raise ValueError(msg)

    def register(check: Callable[[Tree], Iterable[Problem]]) -> Callable[[Tree], Iterable[Problem]]:
        RULES[rule_id] = Rule(id=rule_id, title=title, why=why, check=check)
        return check

    return register
