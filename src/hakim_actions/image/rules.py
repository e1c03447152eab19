"""The rules that an artifact is held to: each with an id, a title and the reason it is there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hakim_actions.artifact import ArtifactName, Manifest
from hakim_actions.debian import Architecture, Release
from hakim_actions.image.dpkg import Package
from hakim_actions.image.rootfs import Rootfs

#: How many of several offending members a failure names.
_EXAMPLES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A rule that a file breaks: what was found, what was expected, and why that matters."""

    file: str
    rule: str
    found: str
    expected: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Something that must hold; *id* is kebab-case and never changes its meaning."""

    id: str
    title: str
    why: str

    def broken(self, file: object, *, found: str, expected: str) -> Failure:
        """Return the failure of *file*; nothing in it can confuse a terminal or a log."""
        return Failure(
            file=_printable(str(file)),
            rule=self.id,
            found=_printable(found),
            expected=_printable(expected),
            why=self.why,
        )


class Finding(NamedTuple):
    """What a check saw and what it wanted to see."""

    found: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the checks look at: an archive, what its name promises, and its manifest if any.

    *compressed* is the size of the archive in bytes; *packages* are those that dpkg knows, by name.
    """

    name: ArtifactName
    release: Release
    arch: Architecture
    rootfs: Rootfs
    packages: Mapping[str, Package]
    compressed: int
    manifest: Manifest | None = None


Check = Callable[[Image], Iterable[Finding]]

#: Every rule by its id.
RULES: Final[dict[str, Rule]] = {}

#: The check of each rule that looks at an image, in the order in which failures are told.
CHECKS: Final[dict[str, Check]] = {}


def define(rule_id: str, title: str, *, why: str) -> Rule:
    """Register a rule and return it."""
    if rule_id in RULES:
        msg = f"the rule '{rule_id}' is defined twice"
        raise ValueError(msg)
    RULES[rule_id] = Rule(id=rule_id, title=title, why=why)
    return RULES[rule_id]


def rule(rule_id: str, title: str, *, why: str) -> Callable[[Check], Check]:
    """Register a rule together with the decorated check, which yields a finding per failure."""
    define(rule_id, title, why=why)

    def register(check: Check) -> Check:
        CHECKS[rule_id] = check
        return check

    return register


def _printable(text: str) -> str:
    """Escape *text* unless all of it can be shown: names in an archive are any bytes."""
    return text if text.isprintable() else ascii(text)[1:-1]


def some(names: Sequence[str]) -> str:
    """Name the first few of *names* and say how many there are."""
    shown = ", ".join(names[:_EXAMPLES])
    if len(names) <= _EXAMPLES:
        return shown
    return f"{shown} and {len(names) - _EXAMPLES} more"
