"""The files of a project as the rules see them."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Self

from hakim_actions.catalog import Project
from hakim_actions.errors import HakimError
from hakim_actions.lint.document import Node, YamlMistake, parse
from hakim_actions.system import process

DEFINITION: Final = "distrobuilder/hakim.yaml"
VARIANTS: Final = "distrobuilder/variants.yaml"
TOOLS_LOCK: Final = "distrobuilder/tools.lock"
ACTION_SCRIPTS: Final = "distrobuilder/scripts/actions"

#: Where there is no git to say what is ours: folders that builds and tools leave behind.
_LEFT_BEHIND: Final = {"__pycache__", "node_modules", "out", "dist"}
_SHOWN_THOUGH_HIDDEN: Final = {".github", ".ci"}


class RuleSkippedError(HakimError):
    """A rule could not be checked here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """All files below *root* that belong to the project, by their path from there, sorted.

    *env* is the environment for programs that rules run.
    """

    root: Path
    env: Mapping[str, str]
    files: tuple[str, ...]
    _texts: dict[str, str] = field(default_factory=dict, repr=False)
    _documents: dict[str, list[Node] | YamlMistake] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, project: Project, *, env: Mapping[str, str]) -> Self:
        """Return the tree of *project*: what git tracks or would track, else all but leftovers."""
        child = _with_our_programs(process.child_environment(env))
        listed = _from_git(project.root, child) or _from_disk(project.root)
        # What is there although git does not list it still makes the image.
        listed |= {
            name for name in (DEFINITION, VARIANTS, TOOLS_LOCK) if (project.root / name).is_file()
        }
        return cls(root=project.root, env=child, files=tuple(sorted(listed)))

    def text(self, name: str) -> str:
        """Return the content of the file, ready for splitting into lines."""
        if name not in self._texts:
            raw = (self.root / name).read_bytes()
            self._texts[name] = raw.decode(errors="replace")
        return self._texts[name]

    def documents(self, name: str) -> list[Node] | YamlMistake:
        """Return the YAML documents in the file, or its mistake; all rules share one reading."""
        if name not in self._documents:
            self._documents[name] = parse(self.text(name))
        return self._documents[name]

    def is_yaml(self, name: str) -> bool:
        """Tell whether the file is there and can be read."""
        return name in self.files and not isinstance(self.documents(name), YamlMistake)

    def yaml(self, name: str) -> Node:
        """Return the first document in the file; nothing if there is none, or no such file.

        Skips the rule that asks when it is no YAML: what follows from that mistake is no finding.
        """
        if name not in self.files:
            return Node()
        documents = self.documents(name)
        if isinstance(documents, YamlMistake):
            msg = f"{name} is not YAML, see yaml-syntax"
            raise RuleSkippedError(msg)
        return documents[0] if documents else Node()

    def matching(self, *patterns: str) -> list[str]:
        """Return the files that one of *patterns* fits, compared from the end of the path."""
        paths = [(name, PurePosixPath(name)) for name in self.files]
        return [name for name, path in paths if any(path.match(each) for each in patterns)]

    def below(self, folder: str, *patterns: str) -> list[str]:
        """Return the files of :meth:`matching` that are in *folder*."""
        return [name for name in self.matching(*patterns) if name.startswith(f"{folder}/")]

    @property
    def yaml_files(self) -> list[str]:
        """All files that are YAML by their name."""
        return [name for name in self.files if name.endswith((".yaml", ".yml")) or _is_lock(name)]

    @property
    def variants(self) -> Sequence[str]:
        """The names of all variants in variants.yaml, right or wrong otherwise.

        Skips the rule that asks when there is none: then every name would be wrong.
        """
        names = tuple(dict.fromkeys(self.yaml(VARIANTS).get("variants").names()))
        if not names:
            msg = f"{VARIANTS} has no variants, see catalog-valid"
            raise RuleSkippedError(msg)
        return names


def _is_lock(name: str) -> bool:
    return name == TOOLS_LOCK


def _with_our_programs(env: dict[str, str]) -> dict[str, str]:
    """Put the programs that are installed beside this Python (shellcheck) before all others."""
    ours = str(Path(sys.executable).parent)
    return {**env, "PATH": f"{ours}:{env['PATH']}"}


def _from_git(root: Path, env: Mapping[str, str]) -> set[str]:
    """Return what git tracks or would track; nothing where there is no git or no work tree."""
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    command: list[process.StrPath] = ["git", "-c", f"safe.directory={root}", "-C", root, *listing]
    try:
        names = process.run(command, env=env).stdout.split("\0")
    except process.ProcessError:
        return set()
    return {name for name in names if name and _is_ours(root / name)}


def _from_disk(root: Path) -> set[str]:
    found = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in _LEFT_BEHIND
            and (not name.startswith(".") or name in _SHOWN_THOUGH_HIDDEN)
        ]
        found |= {Path(folder, name) for name in names}
    return {path.relative_to(root).as_posix() for path in found if _is_ours(path)}


def _is_ours(path: Path) -> bool:
    """Leave out links: what they lead to is looked at in its own place."""
    return path.is_file() and not path.is_symlink()
