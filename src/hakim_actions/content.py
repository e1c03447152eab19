"""What an image is made from, as one hash: the same key means that a build would change nothing.

The key covers what goes into the image of one variant, release and architecture, and no more:
another variant's packages, tools or `install_…_stack` function do not change it. Both the matrix
(what needs a build?) and the build (may this layer be used?) ask here, so they cannot disagree.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import yaml

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import ConfigurationError

#: Raised by one when the same root file system is packed into other bytes than before.
PACKING: Final = 3

_DEFINITION: Final = "hakim.yaml"
_VARIANTS: Final = "variants.yaml"
_TOOLS: Final = "tools.lock"
#: Files of the folder that no image is made from.
_IGNORED: Final = re.compile(r"(?:.*\.md|scripts/build\.sh|out/.*|\..*)")
_STACK: Final = re.compile(
    r"^install_([a-z][a-z0-9]*)_stack\(\)\s*\{.*?^\}$", re.MULTILINE | re.DOTALL
)
_FILTERED: Final = ("files", "actions")


@dataclass(frozen=True)
class Sources:
    """The files of the ``distrobuilder/`` folder, by path in it, at some state of the project."""

    files: Mapping[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read *folder* as it is on disk."""
        found = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        return cls(
            {
                name: path.read_bytes()
                for name, path in found.items()
                if not _IGNORED.fullmatch(name)
            }
        )

    @classmethod
    def of(cls, files: Iterable[tuple[str, bytes]]) -> Self:
        """Take *files*, for example those of a commit, leaving out what no image is made from."""
        return cls({name: data for name, data in files if not _IGNORED.fullmatch(name)})

    def key(self, name: ArtifactName) -> str:
        """Return the content key of *name*: 64 hex digits.

        Raises ConfigurationError when the definition cannot be read.
        """
        known = {_DEFINITION, _VARIANTS, _TOOLS}
        parts: dict[str, Any] = {
            "packing": PACKING,
            "name": name.stem,
            _DEFINITION: self._definition(name),
            "checks": self._variant(name).get("checks"),
            _TOOLS: self._tools(name),
        }
        for path in self.files.keys() - known:
            parts[f"file {path}"] = hashlib.sha256(self._without_others(path, name)).hexdigest()
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def packages(self, name: ArtifactName) -> frozenset[str]:
        """Return the names of the packages that the definition installs in the image *name*."""
        sets = (self._definition(name).get("packages") or {}).get("sets") or ()
        return frozenset(str(package) for part in sets for package in part.get("packages") or ())

    @cached_property
    def _documents(self) -> Mapping[str, dict[str, Any]]:
        """The YAML files, read once: a matrix asks for hundreds of keys."""
        return {path: self._read_yaml(path) for path in (_DEFINITION, _VARIANTS, _TOOLS)}

    def _read_yaml(self, path: str) -> dict[str, Any]:
        try:
            document = yaml.safe_load(self.files.get(path, b"{}")) or {}
        except yaml.YAMLError as error:
            msg = f"{path} is not valid YAML: {error}"
            raise ConfigurationError(msg, hint="'hakim-actions lint' shows the line.") from None
        return document if isinstance(document, dict) else {}

    def _variant(self, name: ArtifactName) -> dict[str, Any]:
        entry = (self._documents[_VARIANTS].get("variants") or {}).get(name.variant)
        return entry if isinstance(entry, dict) else {}

    def _definition(self, name: ArtifactName) -> dict[str, Any]:
        """Return the definition with only those filtered parts that apply to *name*."""
        document = dict(self._documents[_DEFINITION])
        for key in _FILTERED:
            document[key] = _applying(document.get(key), name)
        packages = document.get("packages")
        if isinstance(packages, dict):
            document["packages"] = {**packages, "sets": _applying(packages.get("sets"), name)}
        return document

    def _tools(self, name: ArtifactName) -> dict[str, Any]:
        tools = self._documents[_TOOLS].get("tools") or {}
        return {tool: pin for tool, pin in tools.items() if _concerns(pin, name.variant)}

    def _without_others(self, path: str, name: ArtifactName) -> bytes:
        """Return the content of *path*; of a script, without the stacks of other variants."""
        data = self.files[path]
        if not path.endswith(".sh"):
            return data
        text = data.decode(errors="surrogateescape")
        kept = _STACK.sub(lambda match: match[0] if match[1] == name.variant else "", text)
        return kept.encode(errors="surrogateescape")


def _applying(parts: Any, name: ArtifactName) -> list[Any]:
    """Return those of *parts* whose filters let *name* through (an absent filter does)."""
    filters = (
        ("variants", name.variant),
        ("releases", name.release),
        ("architectures", name.arch),
    )
    return [
        part
        for part in parts or ()
        if all(value in (part.get(key) or [value]) for key, value in filters)
    ]


def _concerns(pin: Any, variant: str) -> bool:
    """Tell whether a tool is for *variant*; one that does not say so clearly is for all."""
    variants = pin.get("variants") if isinstance(pin, dict) else None
    if variants == "all-but-base":
        return variant != "base"
    return not isinstance(variants, list) or variant in variants
