"""What a promotion target is: a few stores, each a flat folder of templates."""

import enum
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from hakim_actions.promote.endpoint import Endpoint, Token
from hakim_actions.promote.source import Template
from hakim_actions.promote.state import Stored
from hakim_actions.system.http import Deadline

#: Each is a module of this package with ``connect(settings) -> Target``.
TARGETS: Final = ("proxmox", "directory")

#: Gives the bytes of a template as a proven file of this machine.
Obtain = Callable[[Template], Path]
#: Is told the file and how many of its bytes were sent.
OnBytes = Callable[[Template, int], None]


class Way(enum.StrEnum):
    """How the bytes of a template get into a store."""

    FETCH = "node fetches"
    UPLOAD = "upload"
    COPY = "copy"


class Proof(enum.StrEnum):
    """What is known about a file in a store."""

    SHA256 = "sha256"
    SIZE = "size only"


@dataclass(frozen=True, kw_only=True)
class Landed:
    """A file that arrived: as the store lists it, and what is known about its content."""

    stored: Stored
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chose: where to (*endpoint*, *token*, *storage*, *nodes*; or *folder*).

    ``deadline`` bounds the whole run; ``parallel`` is how many nodes are worked on at a time.
    """

    endpoint: Endpoint | None = None
    token: Token | None = None
    storage: str = ""
    nodes: tuple[str, ...] = ()
    folder: Path | None = None
    parallel: int = 4
    deadline: Deadline = field(default_factory=lambda: Deadline(7200))


class Store(Protocol):
    """One physical place. Every method raises HakimError; none leaves half a file as a good one."""

    @property
    def label(self) -> str:
        """What the user calls it; also its name in the state file."""
        ...

    @property
    def keeps_versions(self) -> bool:
        """Whether a second name for the same content costs nothing here."""
        ...

    def fits(self, template: Template) -> bool:
        """Whether the containers made from here can run *template*."""
        ...

    def room(self) -> int | None:
        """Bytes that are free, None when nobody can tell."""
        ...

    def way(self, template: Template) -> tuple[Way, str]:
        """How *template* would get here, and why so."""
        ...

    def listing(self) -> dict[str, Stored]:
        """Return what is there, by name."""
        ...

    def prove(self, file: str, template: Template) -> bool | None:
        """Compare the content of *file* with *template*; None when that cannot be done here."""
        ...

    def bring(self, template: Template, file: str, *, obtain: Obtain, on_bytes: OnBytes) -> Landed:
        """Put *template* under the name *file*, which nobody uses yet."""
        ...

    def swap(
        self, template: Template, file: str, *, staged: str, obtain: Obtain, on_bytes: OnBytes
    ) -> Landed:
        """Put *template*, which is here as *staged*, under the name *file* that is in use."""
        ...

    def remove(self, file: str) -> None:
        """Delete *file*."""
        ...

    def identifier(self, file: str) -> str:
        """Return what a container or a Coder template names *file* by."""
        ...


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a target looks like now: its stores, remarks, and what stands in the way."""

    stores: Sequence[Store]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Target(Protocol):
    """A place templates are promoted to."""

    @property
    def name(self) -> str:
        """How the user knows it: an address or a path."""
        ...

    def survey(self, templates: Sequence[Template], *, prune: bool = False) -> Survey:
        """Look, without writing; with *prune* also ask for the right to delete."""
        ...

    def stop(self) -> None:
        """Make all work under way end soon, with Cancelled."""
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


def connect(name: str, settings: Settings) -> Target:
    """Return the target called *name*; nothing is sent yet."""
    module = importlib.import_module(f"hakim_actions.promote.{name}")
    target: Target = module.connect(settings)
    return target
