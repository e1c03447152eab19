"""The names, checksums and manifest of an artifact: the contract between all commands.

Pure: nothing here touches more than a text it is given.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from hakim_actions.errors import ConfigurationError, VerificationError

SUMS_NAME: Final = "sha256sums.txt"
MANIFEST_SCHEMA: Final = 1

_NAME = re.compile(
    r"hakim-(?P<variant>[a-z][a-z0-9]*)-(?P<release>[a-z]+)-(?P<arch>[a-z0-9]+)"
    r"(?:_(?P<version>[A-Za-z0-9][A-Za-z0-9.-]*))?\.tar\.xz"
)
_SUM_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<name>.+)")


@dataclass(frozen=True, order=True)
class ArtifactName:
    """``hakim-<variant>-<release>-<arch>``, and the file names that follow from it.

    A *version* is only there for templates that are kept side by side in a storage
    (``hakim-<variant>-<release>-<arch>_<version>.tar.xz``).
    """

    variant: str
    release: str
    arch: str
    version: str = ""

    @property
    def stem(self) -> str:
        """The name without any ending."""
        suffix = f"_{self.version}" if self.version else ""
        return f"hakim-{self.variant}-{self.release}-{self.arch}{suffix}"

    @property
    def base(self) -> Self:
        """The base image of the same release and architecture, which every image builds on."""
        return type(self)("base", self.release, self.arch)

    @property
    def archive(self) -> str:
        """The root file system as ``pct create`` takes it."""
        return f"{self.stem}.tar.xz"

    @property
    def metadata(self) -> str:
        """LXC's metadata archive, which distrobuilder makes beside the rootfs."""
        return f"{self.stem}.meta.tar.xz"

    @property
    def twin(self) -> str:
        """The same tar packed with zstd; only where a build was asked for it."""
        return f"{self.stem}.tar.zst"

    @property
    def manifest(self) -> str:
        """What is in the image and how it was made (JSON)."""
        return f"{self.stem}.manifest.json"

    @property
    def sbom(self) -> str:
        """The software bill of materials (CycloneDX, JSON)."""
        return f"{self.stem}.cdx.json"

    @property
    def build_log(self) -> str:
        """Everything distrobuilder printed; never part of a release."""
        return f"{self.stem}.build.log"

    @classmethod
    def parse(cls, file_name: str) -> Self:
        """Read the name of an archive; raise ConfigurationError when it is not one of ours."""
        match = _NAME.fullmatch(file_name)
        if match is None:
            msg = f"'{file_name}' is not the name of a template."
            raise ConfigurationError(
                msg, hint="Expected hakim-<variant>-<release>-<arch>.tar.xz, as build writes it."
            )
        return cls(match["variant"], match["release"], match["arch"], match["version"] or "")


def is_base_name(name: str) -> bool:
    """Tell whether *name* names a file in the very folder, so that no path can leave it."""
    return name not in {"", ".", ".."} and not any(c in name for c in "/\\\0\n\r")


def format_sums(sums: Mapping[str, str]) -> str:
    """Write ``{base name: sha256}`` as GNU ``sha256sum`` does, sorted by name."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def parse_sums(text: str, *, source: str) -> dict[str, str]:
    """Read a checksum file; *source* names it in errors.

    Raises VerificationError for a line that is not ``<64 hex digits>  <base name>``, for a name
    that is a path (it could point anywhere), and for a name that stands twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            msg = (
                f"{source}, line {number}: expected '<sha256>  <file name>', found {line[:120]!r}."
            )
            raise VerificationError(msg, hint="Make the file with build, or with sha256sum.")
        name = match["name"]
        if not is_base_name(name):
            msg = f"{source}, line {number}: {name!r} is a path, only base names are allowed."
            raise VerificationError(msg, hint="A path could name a file outside this folder.")
        if name in sums:
            msg = f"{source}, line {number}: '{name}' is listed twice."
            raise VerificationError(msg, hint="Keep the line that is true and remove the other.")
        sums[name] = match["sha256"]
    if not sums:
        msg = f"{source} lists no file."
        raise VerificationError(msg, hint="An empty checksum file proves nothing; build again.")
    return sums


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of an artifact: base name, size in bytes, sha256 as 64 hex digits."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something that was proven about an image, and when it was measured, how long it took."""

    name: str
    detail: str = ""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A Debian archive at a moment: the sha256 of each suite's signed InRelease file.

    As long as the digests stay, every package of the archive is the same. ``mirror`` and
    ``security`` are the URLs it was read from, ``date`` is the youngest that an InRelease names,
    in seconds since 1970.
    """

    mirror: str
    security: str
    date: int
    digests: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is in an image, from what it was made, how long it took, and what was proven.

    ``epoch`` is the time of the commit (seconds since 1970), ``content_key`` the hash of everything
    that the image was made from, ``phases`` are seconds by name, ``boot_seconds`` those until the
    booted image was up. ``packages`` maps Debian packages (``name:arch`` where foreign) to
    versions, ``archive`` is where they came from, ``tools`` maps what did not come from Debian to
    versions, ``missing`` names tools that the image should have and has not
    (``--allow-missing``). ``level`` is the preset of xz, ``unpacked_bytes`` the size of the tar
    without xz, ``largest`` the installed size in bytes of the packages that take most.
    ``cache`` tells what did not have to be made: ``layer`` (``hit``, ``made`` or empty), ``pieces``
    and ``pieces_reused``; nothing where there was no cache.
    """

    variant: str
    release: str
    arch: str
    version: str
    commit: str
    epoch: int
    distrobuilder: str
    files: tuple[FileRecord, ...]
    packages: Mapping[str, str]
    content_key: str = ""
    archive: Archive | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    level: int = 6
    unpacked_bytes: int = 0
    largest: Mapping[str, int] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    boot_seconds: float = 0
    cache: Mapping[str, str | int] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    schema: int = MANIFEST_SCHEMA

    @property
    def name(self) -> ArtifactName:
        """The artifact this manifest belongs to."""
        return ArtifactName(self.variant, self.release, self.arch)

    def to_json(self) -> str:
        """Return the manifest as indented JSON with a final newline."""
        document = {"schema": self.schema, "name": self.name.stem, **asdict(self)}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """Read a manifest; *source* names it in the VerificationError of a bad one."""
        try:
            document: dict[str, Any] = json.loads(text)
            schema = document["schema"]
            if schema != MANIFEST_SCHEMA:
                msg = f"{source} has schema {schema!r}, this version reads {MANIFEST_SCHEMA}."
                raise VerificationError(msg, hint="Use the hakim-actions that built the image.")
            del document["name"]
            document["files"] = tuple(FileRecord(**record) for record in document["files"])
            if document.get("archive"):
                document["archive"] = Archive(**document["archive"])
            document["missing"] = tuple(document["missing"])
            document["checks"] = tuple(Check(**check) for check in document["checks"])
            return cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{source} is not a manifest: {error}."
            raise VerificationError(
                msg, hint="Build the image again; it writes a new one."
            ) from None
