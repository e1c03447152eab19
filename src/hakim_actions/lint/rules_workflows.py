"""What every action and workflow has to have, wherever it runs."""

import re
from collections.abc import Iterable
from typing import Final

from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import Tree

#: A step or workflow of the same repository, an image by digest, or a repository by full commit.
_PINNED: Final = re.compile(
    r"(?:\./|\$/).*|docker://\S+@sha256:[0-9a-f]{64}|[\w.-]+/[\w./-]+@[0-9a-f]{40}"
)
#: These actions, which come with this very check, by the version that the docs tell people to use.
_OURS: Final = re.compile(r"hakim/actions(?:/[\w./-]+)?@v\d+(?:\.\d+)*")


def _workflows(tree: Tree) -> list[str]:
    return _readable(tree, ".github/workflows/*.yml", ".github/workflows/*.yaml")


def _readable(tree: Tree, *patterns: str) -> list[str]:
    return [name for name in tree.matching(*patterns) if tree.is_yaml(name)]


@rule(
    "uses-pinned",
    "Every 'uses' but our own is of the same repository, or pinned by its full commit",
    why="A tag can be moved to other code, which then runs with the rights of this repository.",
)
def uses_pinned(tree: Tree) -> Iterable[Problem]:
    """Yield every ``uses`` of actions and workflows that names a tag, a branch or nothing."""
    for name in (*_readable(tree, "action.yml", "action.yaml"), *_workflows(tree)):
        for node in tree.yaml(name).walk():
            uses = node.get("uses")
            if uses and not any(each.fullmatch(uses.text) for each in (_PINNED, _OURS)):
                yield Problem(
                    name,
                    uses.line,
                    f"uses: {uses.text}",
                    "a commit of 40 digits after '@', its tag in a comment",
                    "git ls-remote https://github.com/OWNER/REPOSITORY TAG prints the commit.",
                )


@rule(
    "jobs-time-out",
    "Every job has timeout-minutes",
    why="A job that hangs is ended only after six hours, and paid for.",
)
def jobs_time_out(tree: Tree) -> Iterable[Problem]:
    """Yield jobs without; one that calls a workflow may not have it."""
    for name in _workflows(tree):
        for key, job in tree.yaml(name).get("jobs").entries():
            if not job.get("uses") and not job.get("timeout-minutes"):
                yield Problem(
                    name,
                    key.line,
                    f"job '{key.text}' without timeout-minutes",
                    "timeout-minutes",
                    "Give it twice the minutes that it takes on a slow day.",
                )


@rule(
    "workflow-permissions",
    "Every workflow says at its top what its token may do",
    why="Without it the token may do all that the repository's settings allow.",
)
def workflow_permissions(tree: Tree) -> Iterable[Problem]:
    """Yield workflows that leave it to the settings."""
    for name in _workflows(tree):
        document = tree.yaml(name)
        if document and not document.get("permissions"):
            yield Problem(
                name,
                document.line,
                "no 'permissions' at the top",
                "permissions: {}, and in each job those that it needs",
                "Add 'permissions: {}' above 'jobs:'.",
            )
