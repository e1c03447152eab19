"""Which images need a build, as GitHub's matrix."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import Catalog, look_up_all
from hakim_actions.content import Sources
from hakim_actions.debian import architecture_named, release_named
from hakim_actions.errors import ConfigurationError

#: https://docs.github.com/actions/reference/actions-limits
MAX_ROWS: Final = 256
#: GitHub's own runners, native for each architecture.
RUNNERS: Final = {"amd64": "ubuntu-24.04", "arm64": "ubuntu-24.04-arm"}

#: What no image is made from. Anything that is neither here nor in ``distrobuilder/`` may change
#: every image, for all we know.
_HARMLESS_FOLDERS: Final = ("benchmarks/", "coder/", "docs/", "examples/", "tests/")
_HARMLESS_SUFFIXES: Final = (".md", "LICENSE", ".gitignore", ".editorconfig")
DEFINITION_FOLDER: Final = "distrobuilder/"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job of the matrix: an image, where it is built, and the key of what it is made from."""

    name: ArtifactName
    runner: str
    content_key: str

    def as_dict(self) -> dict[str, str]:
        """Return it as a workflow reads it."""
        return {
            "variant": self.name.variant,
            "release": self.name.release,
            "arch": self.name.arch,
            "runner": self.runner,
            "artifact": self.name.stem,
            "content-key": self.content_key,
        }


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Names that rows are limited to; an empty list lets all through."""

    variants: Sequence[str] = ()
    releases: Sequence[str] = ()
    arches: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The rows to build, and the base layers below them."""

    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, object]:
        """Return ``matrix``, ``layers``, ``count`` and ``any`` as a workflow reads them."""
        return {
            "matrix": {"include": [row.as_dict() for row in self.rows]},
            "layers": {"include": self._layers()},
            "count": len(self.rows),
            "any": bool(self.rows),
        }

    def _layers(self) -> list[dict[str, str]]:
        found = {(row.name.release, row.name.arch): row.runner for row in self.rows}
        return [
            {"release": release, "arch": arch, "runner": runner}
            for (release, arch), runner in found.items()
        ]


def all_rows(
    catalog: Catalog, sources: Sources, *, filters: Filters, runners: Mapping[str, str]
) -> list[Row]:
    """Return a row for every image of the catalog that *filters* let through.

    Raises ConfigurationError for a name in them that is not known.
    """
    _refuse_unknown(catalog, filters)
    return [
        Row(name=name, runner=runners[name.arch], content_key=sources.key(name))
        for name in _names(catalog)
        if name.variant in (filters.variants or [name.variant])
        and name.release in (filters.releases or [name.release])
        and name.arch in (filters.arches or [name.arch])
    ]


def changed(rows: Sequence[Row], *, before: Sources, paths: Iterable[str]) -> list[Row]:
    """Return those of *rows* that a change touches.

    *before* is the definition before the change, *paths* are all files that it touches.
    """
    if any(_unknown(path) for path in paths):
        return list(rows)
    return [row for row in rows if _key_before(before, row.name) != row.content_key]


def not_published(rows: Sequence[Row], published: Mapping[ArtifactName, str]) -> list[Row]:
    """Return those of *rows* whose content key is not the published one."""
    return [row for row in rows if published.get(row.name) != row.content_key]


def limited(rows: Sequence[Row]) -> Matrix:
    """Return the matrix of *rows*, or raise ConfigurationError when GitHub would refuse it."""
    if len(rows) > MAX_ROWS:
        msg = f"The matrix has {len(rows)} rows, GitHub runs at most {MAX_ROWS} jobs."
        raise ConfigurationError(
            msg, hint="Split it into several workflows with --variant, --release or --arch."
        )
    return Matrix(rows=tuple(rows))


def _names(catalog: Catalog) -> Iterable[ArtifactName]:
    for variant in catalog.variants.values():
        for release in variant.releases:
            for arch in variant.architectures:
                yield ArtifactName(variant.name, release, arch)


def _key_before(before: Sources, name: ArtifactName) -> str:
    try:
        return before.key(name)
    except ConfigurationError:
        return ""  # what could not be read then was not built from


def _unknown(path: str) -> bool:
    if path.startswith((DEFINITION_FOLDER, *_HARMLESS_FOLDERS)):
        return False
    return not path.endswith(_HARMLESS_SUFFIXES)


def _refuse_unknown(catalog: Catalog, filters: Filters) -> None:
    look_up_all(
        (look_up, name)
        for look_up, names in (
            (catalog.variant, filters.variants),
            (release_named, filters.releases),
            (architecture_named, filters.arches),
        )
        for name in names
    )
