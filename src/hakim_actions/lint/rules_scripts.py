"""Shell scripts, and those that stand inside hakim.yaml."""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hakim_actions.lint.programs import needed, output_of
from hakim_actions.lint.rules import Problem, rule
from hakim_actions.lint.tree import DEFINITION, RuleSkippedError, Tree
from hakim_actions.system import process

_SHEBANG: Final = re.compile(r"#!\s*(?:/usr)?/bin/(?:env\s+)?(?:ba)?sh\b")
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}|\{%.*?%\}")


@dataclass(frozen=True)
class _Script:
    """A script on disk, and where people find it: *file*, and how many lines stand before it."""

    path: Path
    file: str
    before: int = 0


@rule(
    "bash-syntax",
    "bash can read every script, and every action in hakim.yaml",
    why="bash reads line by line: the mistake shows when the build has come that far.",
)
def bash_syntax(tree: Tree) -> Iterable[Problem]:
    """Yield what `bash -n` says."""
    bash = needed(tree.env, "bash", install="apt-get install bash")
    with _scripts(tree) as scripts:
        for script in scripts:
            done = output_of([bash, "-n", script.path], env=tree.env)
            if done.returncode != 0:
                said = re.search(r"line (\d+): (.*)", done.text)
                yield Problem(
                    script.file,
                    script.before + int(said.group(1) if said else 1),
                    said.group(2) if said else done.text,
                    "a script that 'bash -n' accepts",
                    "Look for a missing quote, 'fi', 'done' or '}' above that line.",
                )


@rule(
    "shellcheck",
    "shellcheck finds nothing in any script, nor in any action in hakim.yaml",
    why="Most of what it finds fails only on the day a value has a space in it.",
)
def shellcheck(tree: Tree) -> Iterable[Problem]:
    """Yield what shellcheck says."""
    program = needed(tree.env, "shellcheck", install="apt-get install shellcheck")
    with _scripts(tree) as scripts:
        if not scripts:
            return
        options = ("--format=json1", "--external-sources", "--source-path=SCRIPTDIR")
        argv: list[process.StrPath] = [program, *options]
        argv += [script.path for script in scripts]
        done = process.run(argv, env=tree.env, check=False, cwd=tree.root)
        if not done.stdout.strip():
            msg = f"{program} ended with status {done.returncode}; 0.7 or newer is needed"
            raise RuleSkippedError(msg)
        by_path = {str(script.path): script for script in scripts}
        for comment in json.loads(done.stdout)["comments"]:
            yield _complaint(comment, by_path)


def _complaint(comment: Mapping[str, Any], by_path: Mapping[str, _Script]) -> Problem:
    script = by_path[comment["file"]]
    code = f"SC{comment['code']}"
    return Problem(
        script.file,
        script.before + comment["line"],
        f"{code}: {comment['message']}",
        "a script that shellcheck accepts",
        f"https://www.shellcheck.net/wiki/{code} explains it.",
    )


@contextmanager
def _scripts(tree: Tree) -> Iterator[list[_Script]]:
    """Yield all scripts; the actions of hakim.yaml as files that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hakim-lint-") as folder:
        found = [_Script(tree.root / name, name) for name in tree.files if _is_shell(tree, name)]
        for number, action in enumerate(tree.yaml(DEFINITION).get("actions").items()):
            text = action.get("action")
            if _SHEBANG.match(text.text):
                path = Path(folder, f"action-{number}.sh")
                # What distrobuilder fills in stands for a word.
                path.write_text(_TEMPLATE.sub("word", text.text), encoding="utf-8")
                found.append(_Script(path, DEFINITION, text.content_line - 1))
        yield found


def _is_shell(tree: Tree, name: str) -> bool:
    if name.endswith(".sh"):
        return True
    return "." not in Path(name).name and bool(_SHEBANG.match(tree.text(name)))
