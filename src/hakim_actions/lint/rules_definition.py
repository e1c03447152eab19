"""hakim.yaml is a definition that distrobuilder takes, and its filters fit something."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from hakim_actions.debian import ARCHITECTURES, RELEASES
from hakim_actions.errors import did_you_mean
from hakim_actions.lint.document import Node
from hakim_actions.lint.programs import needed, needs_root, output_of
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import ACTION_SCRIPTS, DEFINITION, Tree

_FILTERS: Final = "releases architectures variants types"
#: Which keys a table may have, by its path; what is not listed may have any. Source:
#: https://github.com/lxc/distrobuilder/blob/main/shared/definition.go
_KEYS: Final = {
    "": "image source targets files packages actions mappings environment",
    "image": "description distribution release architecture expiry variant name serial",
    "source": "downloader url keys keyserver variant suite same_as skip_verification components",
    "packages": "manager custom_manager update cleanup sets repositories",
    "packages.sets": f"packages action early flags {_FILTERS}",
    "packages.repositories": f"name url type key {_FILTERS}",
    "files": "generator path content name template templated mode gid uid pongo source " + _FILTERS,
    "actions": f"trigger action pongo {_FILTERS}",
    "mappings": "architectures architecture_map",
    "environment": "clear_defaults variables",
    "environment.variables": f"key value {_FILTERS}",
    "targets": "lxc incus",
    "targets.lxc": "create_message config",
    "targets.lxc.config": f"type before after content {_FILTERS}",
}


@rule(
    "definition-keys",
    "hakim.yaml has only keys that distrobuilder knows",
    why="distrobuilder refuses the whole definition for one unknown key.",
)
def definition_keys(tree: Tree) -> Iterable[Problem]:
    """Yield unknown keys with the nearest one that is known."""
    document = tree.yaml(DEFINITION)
    if not document.is_table:
        yield Problem(DEFINITION, 1, "no table", "a table", "distrobuilder/README.md has examples.")
    for path, keys in _KEYS.items():
        known = keys.split()
        place = document.get(*filter(None, path.split(".")))
        for table in (place, *place.items()):
            for key in (key for key, _ in table.entries() if key.text not in known):
                where = path or "the definition"
                yield Problem(
                    DEFINITION,
                    key.line,
                    f"'{key.text}' in {where}",
                    "a key that distrobuilder knows",
                    did_you_mean(key.text, known),
                )


@rule(
    "definition-valid",
    "distrobuilder itself accepts hakim.yaml",
    why="It is the program that will build from it.",
)
def definition_valid(tree: Tree) -> Iterable[Problem]:
    """Yield what `distrobuilder validate` says."""
    program = needed(tree.env, "distrobuilder", install="scripts/install-distrobuilder.sh")
    needs_root("distrobuilder")
    done = output_of([program, "validate", tree.root / DEFINITION], env=tree.env)
    if done.returncode == 0:
        return
    said = re.search(r'err="((?:[^"\\]|\\.)*)"', done.text)
    reason = said.group(1).replace("\\n", " ").replace('\\"', '"') if said else done.text
    line = re.search(r"\bline (\d+)", reason)
    yield Problem(
        DEFINITION,
        int(line.group(1)) if line else 1,
        " ".join(reason.split()),
        "what 'distrobuilder validate' accepts",
        "https://linuxcontainers.org/distrobuilder/docs/latest/ explains the sections.",
    )


@rule(
    "filters-known-variants",
    "Filters in hakim.yaml name variants of variants.yaml",
    why="Packages of a misspelt variant are installed in no image, and nothing fails.",
)
def filters_known_variants(tree: Tree) -> Iterable[Problem]:
    """Yield names that no variant has."""
    yield from _unknown(tree, "variants", tree.variants, "a variant of variants.yaml")


@rule(
    "filters-known-releases",
    "Filters in hakim.yaml name releases that are built",
    why="What is meant for a misspelt release is in no image, and nothing fails.",
)
def filters_known_releases(tree: Tree) -> Iterable[Problem]:
    """Yield names that no release has."""
    yield from _unknown(tree, "releases", RELEASES, "a Debian release that is built")


@rule(
    "filters-known-architectures",
    "Filters in hakim.yaml name architectures as Debian does",
    why="What is meant for a misspelt architecture is in no image, and nothing fails.",
)
def filters_known_architectures(tree: Tree) -> Iterable[Problem]:
    """Yield names that no architecture has."""
    yield from _unknown(tree, "architectures", ARCHITECTURES, "a Debian architecture")


def _unknown(tree: Tree, key: str, known: Collection[str], expected: str) -> Iterator[Problem]:
    """Yield the names under the filter *key* of any section that are not in *known*."""
    document = tree.yaml(DEFINITION)
    for name in (item for node in document.walk() for item in node.get(key).items()):
        if name.text not in known:
            yield Problem(
                DEFINITION,
                name.line,
                f"'{name.text}' in a filter",
                expected,
                did_you_mean(name.text, known),
            )


@rule(
    "embedded-post-unpack",
    "The post-unpack action is a copy of scripts/actions/post-unpack.sh",
    why="distrobuilder runs the copy, people read and check the script.",
)
def embedded_post_unpack(tree: Tree) -> Iterable[Problem]:
    """Yield the first line in which the two differ."""
    script = f"{ACTION_SCRIPTS}/post-unpack.sh"
    if script not in tree.files:
        return
    actions = tree.yaml(DEFINITION).get("actions")
    copies = [node for node in actions.items() if node.get("trigger").text == "post-unpack"]
    if not copies:
        yield Problem(
            DEFINITION,
            actions.line,
            "no action with the trigger post-unpack",
            f"a copy of {script}",
            "Add it under 'actions'.",
        )
    for copy in copies:
        yield from _first_difference(copy.get("action"), tree.text(script), script)


def _first_difference(copy: Node, script: str, name: str) -> Iterator[Problem]:
    here, there = copy.text.rstrip("\n").split("\n"), script.rstrip("\n").split("\n")
    if here == there:
        return
    pairs = zip([*here, ""], [*there, ""], strict=False)
    number = next((index for index, (ours, theirs) in enumerate(pairs) if ours != theirs), 0)
    yield Problem(
        DEFINITION,
        copy.content_line + number,
        repr(here[number]) if number < len(here) else "the end of the copy",
        repr(there[number]) if number < len(there) else "the end of the copy",
        f"{name} has the expected text in line {number + 1}: make both the same.",
    )
