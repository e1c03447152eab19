"""Which images exist: the variants of ``variants.yaml``, and where the project's files are."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import yaml

from hakim_actions.artifact import ArtifactName
from hakim_actions.debian import (
    ARCHITECTURES,
    RELEASES,
    architecture_named,
    release_named,
)
from hakim_actions.errors import ConfigurationError, did_you_mean

CATALOG_SCHEMA: Final = 1
#: Gates that a Coder template knows; a variant lists those that are open for it.
MODULES: Final = ("openchamber", "openclaw")
_VARIANT_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,19}")


@dataclass(frozen=True, kw_only=True)
class Project:
    """The files an image is made from, below *root*."""

    root: Path

    @property
    def definition(self) -> Path:
        """The plain distrobuilder definition."""
        return self.root / "distrobuilder/hakim.yaml"

    @property
    def variants(self) -> Path:
        """What people see of each variant."""
        return self.root / "distrobuilder/variants.yaml"

    @property
    def tools_lock(self) -> Path:
        """The pinned downloads."""
        return self.root / "distrobuilder/tools.lock"

    @property
    def output(self) -> Path:
        """Where build leaves artifacts, one folder a variant."""
        return self.root / "distrobuilder/out"

    @classmethod
    def find(cls, start: Path) -> Self:
        """Return the project that *start* is in; else the one this package is part of.

        A repository of its own with ``distrobuilder/hakim.yaml`` builds its own images; one
        without builds ours.
        """
        for folder in (start, *start.parents, Path(__file__).resolve().parents[2]):
            project = cls(root=folder)
            if project.definition.is_file() and project.variants.is_file():
                return project
        msg = f"No distrobuilder/hakim.yaml with a variants.yaml beside it in {start} or above."
        raise ConfigurationError(msg, hint="Run inside the repository that defines the images.")


@dataclass(frozen=True, kw_only=True)
class CommandCheck:
    """A command line that runs in the booted container as coder, in a login shell.

    It has to end with status 0 within *timeout* seconds, and the regular expression *expect* has
    to match somewhere in what it prints. *tool* is what of tools.lock it is about: without that
    tool there is no check. *releases* are those that it is made on; none means all.
    """

    name: str
    run: str
    expect: str = ""
    tool: str = ""
    releases: tuple[str, ...] = ()
    timeout: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A preset of the Coder templates: its name, and parameters other than image_variant."""

    name: str
    parameters: Mapping[str, str]
    default: bool = False


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant as ``variants.yaml`` describes it."""

    name: str
    title: str
    description: str
    icon: str
    preset: Preset
    modules: tuple[str, ...]
    releases: tuple[str, ...]
    architectures: tuple[str, ...]
    checks: tuple[CommandCheck, ...]


@dataclass(frozen=True)
class Catalog:
    """All variants, by name, in the order of the file."""

    variants: Mapping[str, Variant]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``variants.yaml``; raise ConfigurationError that lists every problem in it."""
        document = read_yaml(path)
        problems = list(_unknown(document, ("schema", "variants"), "the file"))
        if document.get("schema") != CATALOG_SCHEMA:
            problems.append(f"schema: expected {CATALOG_SCHEMA}, found {document.get('schema')!r}")
        entries = document.get("variants")
        if not isinstance(entries, dict) or not entries:
            entries = {}
            problems.append("variants: expected a table of variants, found none")
        variants = {}
        for name, entry in entries.items():
            reader = _Reader(str(name), entry, problems)
            variants[str(name)] = reader.variant()
        if problems:
            msg = f"{path} is not a valid catalog."
            raise ConfigurationError(msg, problems=problems)
        return cls(variants)

    def variant(self, name: str) -> Variant:
        """Return the variant called *name*, or raise ConfigurationError with the nearest one."""
        try:
            return self.variants[name]
        except KeyError:
            msg = f"Unknown variant '{name}'."
            raise ConfigurationError(msg, hint=did_you_mean(name, self.variants)) from None

    def of_release(self, release: str) -> list[str]:
        """Return the names of the variants that *release* has, in the order of the file.

        Raises ConfigurationError for an unknown release.
        """
        release_named(release)
        return [name for name, entry in self.variants.items() if release in entry.releases]

    def checks(
        self, variant: str, release: str, *, missing: Collection[str] = ()
    ) -> tuple[CommandCheck, ...]:
        """Return what *variant* has to prove when it runs: the checks of base, then its own.

        Those about a tool that is *missing* are left out.
        """
        names = ("base", variant) if variant != "base" and "base" in self.variants else (variant,)
        checks = (check for name in names for check in self.variant(name).checks)
        return tuple(
            check
            for check in checks
            if check.tool not in missing and release in (check.releases or (release,))
        )

    def target(self, variant: str, release: str, arch: str) -> ArtifactName:
        """Return the artifact of this combination; raise ConfigurationError if it has none.

        Every name that is wrong is in the error, not only the first.
        """
        look_up_all(((self.variant, variant), (release_named, release), (architecture_named, arch)))
        self._refuse_unbuildable(self.variant(variant), release, arch)
        return ArtifactName(variant, release, arch)

    def _refuse_unbuildable(self, variant: Variant, release: str, arch: str) -> None:
        for kind, value, allowed in (
            ("release", release, variant.releases),
            ("architecture", arch, variant.architectures),
        ):
            if value not in allowed:
                msg = f"Variant '{variant.name}' has no image for {kind} '{value}'."
                raise ConfigurationError(
                    msg, hint=f"variants.yaml lists {', '.join(allowed)} for it."
                )


def look_up_all(wanted: Iterable[tuple[Callable[[str], object], str]]) -> None:
    """Look up each name; raise one ConfigurationError with what all the failing ones say."""
    errors = []
    for look_up, name in wanted:
        try:
            look_up(name)
        except ConfigurationError as error:
            errors.append(error)
    if errors:
        message = " ".join(error.message for error in errors)
        raise ConfigurationError(message, hint=" ".join(error.hint for error in errors))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML table; raise ConfigurationError with line and column of what is wrong in it."""
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        msg = f"{path}{where}: {error.problem}."
        raise ConfigurationError(msg, hint="Correct the YAML there and run again.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"{path} cannot be read: {error}."
        raise ConfigurationError(msg) from None
    if not isinstance(document, dict):
        msg = f"{path}: expected a table, found {type(document).__name__}."
        raise ConfigurationError(msg)
    return document


class _UniqueKeyLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that stands twice; YAML forbids it, PyYAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT002 - PyYAML's
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


class _Reader:
    """Reads one variant and adds every problem in it to *problems*."""

    def __init__(self, name: str, entry: Any, problems: list[str]) -> None:
        self._name = name
        self._problems = problems
        self._entry: dict[str, Any] = entry if isinstance(entry, dict) else {}
        if not _VARIANT_NAME.fullmatch(name):
            self._problem("", "expected up to 20 lower-case letters and digits, a letter first")
        known = tuple(f.name for f in fields(Variant) if f.name != "name")
        problems.extend(_unknown(self._entry, known, f"variant '{name}'"))

    def variant(self) -> Variant:
        return Variant(
            name=self._name,
            title=self._text("title"),
            description=self._text("description"),
            icon=self._text("icon"),
            preset=self._preset(),
            modules=self._choices("modules", MODULES, empty=True),
            releases=self._choices("releases", RELEASES),
            architectures=self._choices("architectures", ARCHITECTURES),
            checks=self._checks(),
        )

    def _problem(self, key: str, expectation: str) -> None:
        where = f"variant '{self._name}'" + (f", {key}" if key else "")
        self._problems.append(f"{where}: {expectation}")

    def _text(self, key: str) -> str:
        value = self._entry.get(key)
        if isinstance(value, str) and value.strip():
            return value
        self._problem(key, f"expected a text, found {value!r}")
        return ""

    def _choices(
        self, key: str, known: Sequence[str] | Mapping[str, object], *, empty: bool = False
    ) -> tuple[str, ...]:
        value = self._entry.get(key)
        if not isinstance(value, list) or not (value or empty):
            self._problem(key, f"expected a list out of {', '.join(known)}, found {value!r}")
            return ()
        for item in value:
            if item not in known:
                self._problem(key, f"unknown '{item}'. {did_you_mean(str(item), known)}")
        return tuple(str(item) for item in value)

    def _preset(self) -> Preset:
        value = self._entry.get("preset")
        parameters = value.get("parameters", {}) if isinstance(value, dict) else None
        if (
            not isinstance(value, dict)
            or not isinstance(value.get("name"), str)
            or not isinstance(parameters, dict)
            or not all(isinstance(item, str) and item for item in parameters.values())
        ):
            self._problem("preset", "expected a name, and parameters that are texts")
            return Preset(name="", parameters={})
        self._problems.extend(
            _unknown(value, ("name", "default", "parameters"), f"preset of '{self._name}'")
        )
        return Preset(
            name=value["name"], parameters=parameters, default=value.get("default") is True
        )

    def _checks(self) -> tuple[CommandCheck, ...]:
        value = self._entry.get("checks")
        if not isinstance(value, list):
            self._problem("checks", f"expected a list, found {value!r}")
            return ()
        return tuple(self._check(number, item) for number, item in enumerate(value, start=1))

    def _check(self, number: int, item: Any) -> CommandCheck:
        texts = {"name", "run", "expect"}
        entry = dict(item) if isinstance(item, dict) else {}
        releases = entry.pop("releases", [])
        if (
            set(entry) - {"tool"} != texts
            or not all(isinstance(text, str) and text for text in entry.values())
            or not isinstance(releases, list)
        ):
            self._problem(f"check {number}", "expected name, run and expect, all texts")
            return CommandCheck(name="", run="")
        for release in releases:
            if release not in RELEASES:
                hint = did_you_mean(str(release), RELEASES)
                self._problem(f"check {number}", f"unknown release '{release}'. {hint}")
        try:
            re.compile(entry["expect"])
        except re.error as error:
            self._problem(f"check {number}", f"expect is not a regular expression: {error}")
        return CommandCheck(**entry, releases=tuple(releases))


def _unknown(document: Mapping[Any, Any], known: Sequence[str], where: str) -> Sequence[str]:
    return [
        f"{where}: unknown key '{key}'. {did_you_mean(str(key), known)}"
        for key in document
        if key not in known
    ]
