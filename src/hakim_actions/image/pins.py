"""What tools.lock says once it is read: tools, their sources, and the checksums that pin them."""

import base64
import binascii
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from hakim_actions.artifact import ArtifactName

#: The source of a tool that is the same file on every architecture.
ANY: Final = "any"
ALL: Final = "all"
ALL_BUT_BASE: Final = "all-but-base"


@dataclass(frozen=True)
class Digest:
    """A checksum: *algorithm* is ``sha256`` or ``sha512``, *value* is in hex digits."""

    algorithm: str
    value: str

    @classmethod
    def of_integrity(cls, text: str) -> Self | None:
        """Read npm's form, ``sha512-<base64>`` (https://www.w3.org/TR/SRI/); None if it is not."""
        algorithm, _, encoded = text.partition("-")
        try:
            value = base64.b64decode(encoded, validate=True).hex()
        except binascii.Error:
            return None
        wanted = {"sha256": 64, "sha512": 128}.get(algorithm)
        return cls(algorithm, value) if len(value) == wanted else None

    @property
    def file_name(self) -> str:
        """The name of a file in the cache with this content."""
        return f"{self.algorithm}-{self.value}"

    def __str__(self) -> str:
        """Return it as the lock has it: sha256 in hex digits, sha512 as npm writes it."""
        if self.algorithm == "sha256":
            return f"sha256 {self.value}"
        return f"sha512-{base64.b64encode(bytes.fromhex(self.value)).decode()}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a tool comes from on one architecture.

    *location* is the URL, the name of the package, or the URL of an apt repository. *unpinned* is
    the reason why there is no *digest* yet: such a tool is never installed, see ``tools update``.
    """

    kind: str
    version: str
    location: str
    digest: Digest | None = None
    unpinned: str = ""
    lockfile: str = ""
    platform: str = ""
    key: str = ""
    fingerprint: str = ""
    suite: str = ""
    components: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the source as people name it."""
        if self.kind in {"npm", "pypi"}:
            return f"{self.location} {self.version} ({self.kind})"
        return self.location


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool.

    *put* maps a path in its archive (``.`` for all of it), without the first *strip* folders, to
    where it goes; *links* maps the path of a symbolic link to its target; *omit* are patterns
    (as of :mod:`fnmatch`) of what is left out. ``{version}`` and ``{package}`` stand for those of
    the source.
    """

    name: str
    version: str
    kind: str
    variants: str | tuple[str, ...]
    sources: Mapping[str, Source]
    strip: int = 0
    put: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    omit: tuple[str, ...] = ()

    def is_for(self, variant: str) -> bool:
        """Tell whether images of *variant* have this tool."""
        if isinstance(self.variants, tuple):
            return variant in self.variants
        return self.variants == ALL or variant != "base"

    def source(self, arch: str) -> Source | None:
        """Return the source for *arch*, None where there is none."""
        return self.sources.get(arch) or self.sources.get(ANY)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one image gets: tools with the source for its architecture, None where there is none.

    *folder* is that of the lock, which ``lockfile`` is relative to.
    """

    name: ArtifactName
    folder: Path
    tools: tuple[tuple[Tool, Source | None], ...]


def placed(tool: Tool, source: Source) -> Tool:
    """Return *tool* with the version and the package of *source* filled into its paths."""

    def fill(table: Mapping[str, str]) -> dict[str, str]:
        return {fill_text(key): fill_text(value) for key, value in table.items()}

    def fill_text(text: str) -> str:
        return filled(text, source.version).replace("{package}", source.location)

    return dataclasses.replace(tool, put=fill(tool.put), links=fill(tool.links))


def filled(text: str, version: str) -> str:
    """Return *text* with the version in place of ``{version}``."""
    return text.replace("{version}", version)
