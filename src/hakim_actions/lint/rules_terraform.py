"""Terraform files have the form that `terraform fmt` gives them."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hakim_actions.lint.programs import needed, output_of
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import Tree

_HUNK: Final = re.compile(r"@@ -(\d+)")


@rule(
    "terraform-fmt",
    "Terraform files are formatted, and can be read",
    why="A file in its canonical form changes only where somebody changed it.",
)
def terraform_fmt(tree: Tree) -> Iterable[Problem]:
    """Yield the first line of each hunk that `terraform fmt` would change."""
    files = tree.matching("*.tf", "*.tfvars", "*.tftest.hcl")
    if not files:
        return
    program = needed(
        tree.env, "terraform", "tofu", install="https://developer.hashicorp.com/terraform/install"
    )
    argv = [program, "fmt", "-check", "-diff", "-no-color", *files]
    done = output_of(argv, env={**tree.env, "CHECKPOINT_DISABLE": "1"}, cwd=tree.root)
    mistakes = list(_mistakes(done.lines))
    yield from mistakes
    yield from _differences(done.lines)
    if done.returncode not in (0, 3) and not mistakes:
        yield Problem(files[0], 1, done.text, "what 'terraform fmt' can read", f"Run {program}.")


def _mistakes(lines: Sequence[str]) -> Iterator[Problem]:
    message = ""
    for line in lines:
        # The frame around an error is drawn only where there is a terminal.
        text = line.strip(" │╷╵")
        if text.startswith("Error: "):
            message = text.removeprefix("Error: ")
        place = re.match(r"on (\S+) line (\d+)", text)
        if place and message:
            yield Problem(
                place.group(1),
                int(place.group(2)),
                message,
                "Terraform's language",
                "'terraform validate' in that folder tells more.",
            )


def _differences(lines: Sequence[str]) -> Iterator[Problem]:
    file, number, told = "", 0, True
    for line in lines:
        if line.startswith("--- old/"):
            file = line.removeprefix("--- old/")
        elif hunk := _HUNK.match(line):
            number, told = int(hunk.group(1)), False
        elif file and not told and line[:1] in ("-", "+"):
            told = True
            yield Problem(
                file,
                number,
                repr(line[1:]),
                "the form that 'terraform fmt' gives it",
                f"Run: terraform fmt {file}",
            )
        else:
            number += 1
