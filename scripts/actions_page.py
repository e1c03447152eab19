#!/usr/bin/env python3
"""Write docs/reference/actions.md from every action.yml: scripts/actions_page.py [--check]."""

import sys
from collections.abc import Iterator
from typing import Any

import yaml
from page import ROOT, cell, write_or_check

PAGE = "docs/reference/actions.md"
#: In the order they are used.
ACTIONS = ("", "matrix", "build", "verify", "publish", "promote", "push-templates")
HEAD = """\
# The actions

<!-- Written by scripts/actions_page.py from the action.yml files; change those. -->

Every input is a text and optional; an empty one counts as not given. `true`, `yes`, `on` and `1`
switch something on, `false`, `no`, `off` and `0` off, in any case; another word is an error. No
input is ever run by a shell. A variable in the `env` of the step, the job or the runner reaches the
command, too; secrets are best given as inputs from `secrets`.
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(section(name) for name in ACTIONS)])


def section(name: str) -> str:
    """Return what the page says about one action."""
    document = yaml.safe_load((ROOT / name / "action.yml").read_text("utf-8"))
    address = "/".join(filter(None, ("hakim/actions", name)))
    lines = [f"## `{address}@v1`", "", document["description"].strip(), ""]
    lines += table("Input", document["inputs"], default=True)
    if document.get("outputs"):
        lines += ["", *table("Output", document["outputs"], default=False)]
    return "\n".join([*lines, ""])


def table(title: str, entries: dict[str, dict[str, Any]], *, default: bool) -> Iterator[str]:
    """Yield the lines of a table of inputs or outputs."""
    yield f"| {title} | |{' Default |' if default else ''}"
    yield f"| --- | --- |{' --- |' if default else ''}"
    for name, entry in entries.items():
        value = f" `{entry['default']}` |" if default and entry["default"] else ""
        yield f"| `{name}` | {cell(entry['description'])} |{value or (' |' if default else '')}"


def main() -> int:
    """Write the page, or with ``--check`` only tell whether it is fresh."""
    return write_or_check(PAGE, page(), script="scripts/actions_page.py")


if __name__ == "__main__":
    sys.exit(main())
