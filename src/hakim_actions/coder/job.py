"""One template on its way to Coder: what goes in, how it stands, and what became of it."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hakim_actions.coder.api import RemoteTemplate, Version
from hakim_actions.coder.archive import Pack
from hakim_actions.coder.template import Template

#: Stands before the fingerprint in the last line of a version's message.
FINGERPRINT: Final = "hakim-fingerprint: "


@dataclass(frozen=True, kw_only=True)
class Source:
    """A template that is to be pushed: packed, and with what the user said of its variables."""

    template: Template
    pack: Pack
    variables: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What the new versions are called, and what their message says."""

    name: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a template, or would; *size* in bytes of the archive with *sha256*.

    *action* is unchanged, pushed (and not activated), created, activated, or "would …".
    """

    name: str
    action: str
    version: str
    size: int
    sha256: str
    seconds: float = 0.0


@dataclass(kw_only=True)
class Job:
    """One template on its way."""

    source: Source
    remote: RemoteTemplate | None
    variables: Mapping[str, str] = field(repr=False)
    tags: Mapping[str, str]
    fingerprint: str
    active: Version | None
    version: Version | None = None
    activated: bool = False
    start: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """The template's name."""
        return self.source.template.name

    @property
    def unchanged(self) -> bool:
        """Whether the active version is made of the very same."""
        return (
            self.active is not None
            and self.active.status == "succeeded"
            and self.active.message.endswith(FINGERPRINT + self.fingerprint)
        )

    def result(self, action: str, version_name: str = "") -> Result:
        """Return what became of the template."""
        version = self.version or self.active
        return Result(
            name=self.name,
            action=action,
            version=version_name or (version.name if version else ""),
            size=self.source.pack.size,
            sha256=self.source.pack.sha256,
            seconds=round(time.monotonic() - self.start, 3),
        )


def fingerprint(source: Source, variables: Mapping[str, str], tags: Mapping[str, str]) -> str:
    """Return a hash of everything a version is made of.

    The message of a version is no secret, and values may be short: scrypt makes guessing them slow.
    """
    parts = [source.template.name, source.pack.sha256]
    parts += [f"{k}\0{v}" for table in (variables, tags) for k, v in sorted(table.items())]
    content = "\n".join(parts).encode()
    salt = source.pack.sha256.encode()
    return hashlib.scrypt(content, salt=salt, n=2**14, r=8, p=1, dklen=16).hex()
