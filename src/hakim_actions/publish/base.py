"""What every target shares: the files of a release, the plan, the result, and how one is found.

A target is a module of this package that defines ``open_target``; its name on the command line is
the module's. Adding one is adding a file under ``targets/``.
"""

import importlib
import io
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Literal, Protocol

from hakim_actions.artifact import SUMS_NAME
from hakim_actions.errors import PublishError
from hakim_actions.index import Index
from hakim_actions.publish import targets
from hakim_actions.system.progress import Progress

#: Where ``publish`` goes when nothing else is said: a folder, below the current one.
DEFAULT_TARGET: Final = "directory"
DEFAULT_FOLDER: Final = "dist/releases"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of a release: from disk, or from memory where *path* is None."""

    name: str
    size: int
    sha256: str
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self.data) if self.path is None else self.path.open("rb")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Everything a release consists of, proven to agree: the index and all files with checksums.

    ``assets`` includes ``index.json`` and ``sha256sums.txt`` and is sorted by name.
    """

    index: Index
    assets: tuple[Asset, ...]

    @property
    def version(self) -> str:
        """The tag."""
        return self.index.version

    @cached_property
    def by_name(self) -> Mapping[str, Asset]:
        """The assets by their names."""
        return {asset.name: asset for asset in self.assets}

    @property
    def digest(self) -> str:
        """The sha256 of ``sha256sums.txt``: equal only when every file is equal."""
        return self.by_name[SUMS_NAME].sha256


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to publish. *to* is the place in the words of the target; *deadline* is in seconds.

    The deadline is for one file, or for one call that moves none; ``parallel`` counts transfers.
    """

    to: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    auth_file: Path | None = None
    replace_draft: bool = False
    deadline: float = 1800.0
    parallel: int = 4


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing a target will do; ``size`` is what is sent, in bytes."""

    action: Literal["make", "send", "keep", "delete", "publish"]
    name: str
    size: int = 0
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a target found and will do, before anything is changed; no steps: nothing to do."""

    destination: str
    steps: tuple[Step, ...]

    @property
    def to_send(self) -> int:
        """Bytes that will travel."""
        return sum(step.size for step in self.steps if step.action == "send")


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where the release is. *images* are OCI references by artifact stem, with digest."""

    url: str
    changed: bool
    images: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """A place that takes releases; every method may raise ConfigurationError or PublishError."""

    def previous(self, version: str) -> Index | None:
        """Return the index of the newest release before *version*, to tell what changed."""
        ...

    def base_url(self, version: str) -> str:
        """Return where the files of *version* will be, with a final slash, for the notes."""
        ...

    def generated_notes(self, publication: Publication) -> str:
        """Return what the place itself has to say about the release (Markdown), or nothing."""
        ...

    def plan(self, publication: Publication) -> Plan:
        """Read what is there and say what :meth:`publish` would do; changes nothing."""
        ...

    def publish(self, publication: Publication, *, notes: str, progress: Progress) -> Published:
        """Make the release complete, or leave it unpublished; a finished one is left alone."""
        ...


def target_names() -> tuple[str, ...]:
    """Return the names of all targets, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(targets.__path__)))


def open_target(name: str, settings: Settings) -> Target:
    """Import the target called *name* and connect it; the first check of what was typed."""
    module = importlib.import_module(f"{targets.__name__}.{name}")
    target: Target = module.open_target(settings)
    return target


def other_content(version: str, place: str, *, differs: str) -> PublishError:
    """Return the refusal to touch a finished release that holds something else."""
    return PublishError(
        f"{version} is already published in {place} with other content ({differs}).",
        hint="A published release is never changed. Publish under a new version.",
    )
