"""The package sets of hakim.yaml: names, repetitions, order, what is installed in one go."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hakim_actions.debian import ARCHITECTURES, RELEASES
from hakim_actions.lint.document import Node
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import DEFINITION, Tree

#: https://www.debian.org/doc/debian-policy/ch-controlfields.html#source, and what apt takes after
#: a name: an architecture, a version, a suite.
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+~:-]+|/[a-z0-9-]+)?")


@dataclass(frozen=True)
class _Set:
    """A set of hakim.yaml, with the filters that say which images it is for; none: all of them."""

    node: Node

    @property
    def packages(self) -> list[Node]:
        return self.node.get("packages").items()

    @property
    def kind(self) -> tuple[str, bool]:
        """What is done with the packages: the action, and whether before all other sets."""
        return self.node.get("action").text, self.node.get("early").text.lower() == "true"

    @property
    def flags(self) -> list[str]:
        return [flag.text for flag in self.node.get("flags").items()]

    @property
    def of_variants(self) -> bool:
        return bool(self.node.get("variants").items())

    def fits(self, key: str, value: str) -> bool:
        wanted = [item.text for item in self.node.get(key).items()]
        return not wanted or value in wanted

    def meets(self, other: "_Set", tree: Tree) -> bool:
        """Tell whether both are installed in one image."""
        axes = {"variants": tree.variants, "releases": RELEASES, "architectures": ARCHITECTURES}
        return self.kind == other.kind and all(
            any(self.fits(key, value) and other.fits(key, value) for value in known)
            for key, known in axes.items()
        )


def _sets(tree: Tree) -> list[_Set]:
    return [_Set(node) for node in tree.yaml(DEFINITION).get("packages", "sets").items()]


@rule(
    "package-names",
    "Packages have names that Debian could give",
    why="apt would stop the build after minutes; here it takes a second.",
)
def package_names(tree: Tree) -> Iterable[Problem]:
    """Yield names against the syntax of Debian's policy."""
    for package in (package for each in _sets(tree) for package in each.packages):
        if not _PACKAGE.fullmatch(package.text):
            yield Problem(
                DEFINITION,
                package.line,
                f"package '{package.text}'" if package.is_scalar else "a table or list",
                "lower-case letters, digits, '+', '-' and '.', such as libstdc++6",
                "One package a line, by the name that 'apt-cache search' prints.",
            )


@rule(
    "packages-once",
    "No package stands twice for one image",
    why="Who removes one of the two believes that the package is gone.",
)
def packages_once(tree: Tree) -> Iterable[Problem]:
    """Yield packages that an earlier line installs in at least one of the same images."""
    seen: list[tuple[_Set, Node]] = []
    for each in _sets(tree):
        for package in each.packages:
            first = next(
                (node for other, node in seen if _same(package, node) and each.meets(other, tree)),
                None,
            )
            if first is not None:
                yield Problem(
                    DEFINITION,
                    package.line,
                    f"'{package.text}' again",
                    f"each package once per image; line {first.line} has it already",
                    "Keep the one whose filters reach all images that need it.",
                )
            seen.append((each, package))


def _same(one: Node, other: Node) -> bool:
    return one.is_scalar and one.text == other.text


@rule(
    "packages-sorted",
    "Packages are in alphabetical order between blank lines and comments",
    why="A sorted list shows at once whether a package is there, and merges without conflicts.",
)
def packages_sorted(tree: Tree) -> Iterable[Problem]:
    """Yield the first package of each block that should stand further up."""
    for each in _sets(tree):
        for block in _blocks(each.packages):
            for before, package in pairwise(block):
                if package.text < before.text:
                    yield Problem(
                        DEFINITION,
                        package.line,
                        f"'{package.text}' after '{before.text}'",
                        "alphabetical order inside the block",
                        "Move it up, or start a block of its own with a blank line.",
                    )
                    break


def _blocks(packages: list[Node]) -> Iterator[list[Node]]:
    """Cut *packages* where a line that is none stands between two."""
    block: list[Node] = []
    for package in packages:
        if block and package.line > block[-1].line + 1:
            yield block
            block = []
        block.append(package)
    yield block


@rule(
    "variant-packages-apart",
    "Package sets of variants come last, and their flags are not those of the other sets",
    why="distrobuilder installs neighbours with the same flags in one go; together with the base, "
    "packages of a variant get other user ids than on a base layer.",
)
def variant_packages_apart(tree: Tree) -> Iterable[Problem]:
    """Yield sets of variants that distrobuilder installs together with others, or before them."""
    late = [each for each in _sets(tree) if each.packages and each.kind == ("install", False)]
    common = [each for each in late if not each.of_variants]
    flags_of_common = [each.flags for each in common]
    last_of_common = max((each.node.line for each in common), default=0)
    for each in (each for each in late if each.of_variants):
        if each.flags in flags_of_common:
            yield Problem(
                DEFINITION,
                each.node.line,
                f"a set of a variant with flags: [{', '.join(each.flags)}], as other sets have",
                "flags that no set for all variants has",
                "Add 'flags: [--no-install-recommends]', which is what apt does here anyway.",
            )
        if each.node.line < last_of_common:
            yield Problem(
                DEFINITION,
                each.node.line,
                "a set of a variant above a set for all variants",
                "sets of variants below all others",
                "Move it to the end of the sets.",
            )
