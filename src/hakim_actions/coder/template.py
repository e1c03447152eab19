"""The templates of the project: what is in each folder, and which variables it declares."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import ConfigurationError, did_you_mean

#: Where templates are, below the root of the project, and those that must be there.
FOLDER: Final = "coder/templates"
REQUIRED: Final = ("hakim", "hakim-proxmox")

#: https://pkg.go.dev/github.com/coder/coder/v2/codersdk#UsernameValid
_NAME: Final = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_VARIABLE: Final = re.compile(
    r'^variable\s+"(?P<name>[^"]+)"\s*\{(?P<body>.*?)^\}', re.MULTILINE | re.DOTALL
)
_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A Terraform variable that a template declares."""

    name: str
    required: bool
    sensitive: bool


@dataclass(frozen=True, kw_only=True)
class Template:
    """A folder with a template; its name is the template's in Coder."""

    folder: Path

    @property
    def name(self) -> str:
        """The name."""
        return self.folder.name

    def variables(self) -> dict[str, Variable]:
        """Return the variables that the folder's own files declare, by name."""
        return {
            variable.name: variable
            for path in sorted(self.folder.glob("*.tf"))
            for variable in _declared(path.read_text(encoding="utf-8"))
        }

    def front_matter(self) -> dict[str, str]:
        """Return what the README says about itself, as texts (display_name, description, icon)."""
        readme = self.folder / "README.md"
        match = (
            _FRONT_MATTER.match(readme.read_text(encoding="utf-8")) if readme.is_file() else None
        )
        lines = (line.partition(":") for line in (match[1].splitlines() if match else ()))
        return {key.strip(): value.strip().strip("\"'") for key, found, value in lines if found}


def find_root(start: Path) -> Path:
    """Return the project with templates that *start* is in; else the one of this package."""
    candidates = (start, *start.parents, Path(__file__).resolve().parents[3])
    return next((path for path in candidates if (path / FOLDER).is_dir()), start)


def discover(root: Path) -> list[Template]:
    """Return the templates below *root*, sorted; ConfigurationError if a required one misses."""
    folders = (root / FOLDER).iterdir() if (root / FOLDER).is_dir() else ()
    found = [Template(folder=path) for path in sorted(folders) if any(path.glob("*.tf"))]
    names = {template.name for template in found}
    problems = [f"{FOLDER}/{name} is missing" for name in REQUIRED if name not in names]
    problems += [
        f"{FOLDER}/{name} cannot be the name of a template"
        for name in sorted(names)
        if not _NAME.fullmatch(name) or len(name) > 32 or name in {"new", "create"}
    ]
    if problems:
        msg = f"The templates in {root / FOLDER} are not complete."
        raise ConfigurationError(
            msg,
            hint="Each template is a folder with .tf files and a name of letters, digits and '-'.",
            problems=problems,
        )
    return found


def named(templates: Sequence[Template], names: Sequence[str]) -> list[Template]:
    """Return those of *templates* that are called *names*, or all when there are none."""
    known = {template.name: template for template in templates}
    problems = [
        f"'{name}': no such template. {did_you_mean(name, known)}"
        for name in names
        if name not in known
    ]
    if problems:
        msg = "Not every template that was named exists."
        raise ConfigurationError(msg, problems=problems)
    return [known[name] for name in dict.fromkeys(names)] if names else list(templates)


def _declared(text: str) -> Iterator[Variable]:
    # `terraform fmt`, which validate-templates insists on, puts the closing brace in column one.
    for match in _VARIABLE.finditer(text):
        body = match["body"]
        yield Variable(
            name=match["name"],
            required=re.search(r"^\s*default\s*=", body, re.MULTILINE) is None,
            sensitive=re.search(r"^\s*sensitive\s*=\s*true\b", body, re.MULTILINE) is not None,
        )
