"""``index.json``: what a release holds, where each file is, and with which sha256.

The next step of the chain (promote, push-templates, site) reads nothing else of a release.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from hakim_actions.artifact import ArtifactName, FileRecord, is_base_name
from hakim_actions.errors import VerificationError

INDEX_NAME: Final = "index.json"
INDEX_SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One image: its archive and the files beside it, and what was installed.

    ``files`` maps a role (``archive metadata manifest sbom``, and where it was made ``twin``) to a
    file; ``image`` is the OCI reference with digest where one was pushed.
    """

    variant: str
    release: str
    arch: str
    content_key: str
    files: Mapping[str, FileRecord]
    packages: Mapping[str, str]
    tools: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    image: str = ""

    @property
    def name(self) -> ArtifactName:
        """The artifact's name."""
        return ArtifactName(self.variant, self.release, self.arch)

    @property
    def archive(self) -> FileRecord:
        """The root file system."""
        return self.files["archive"]


@dataclass(frozen=True, kw_only=True)
class Index:
    """A release: *version* (its tag), *commit*, time of the commit, and its images.

    ``base_url`` is where the files are, without the name and with a final slash; empty when they
    lie beside the index.
    """

    version: str
    commit: str
    epoch: int
    entries: tuple[IndexEntry, ...]
    base_url: str = ""
    schema: int = INDEX_SCHEMA

    def to_json(self) -> str:
        """Return the index as indented JSON with a final newline, entries sorted by name."""
        document = asdict(self)
        document["entries"] = [asdict(entry) for entry in sorted(self.entries, key=_by_name)]
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """Read an index; raise VerificationError, naming *source*, when it is not a valid one."""
        try:
            document: dict[str, Any] = json.loads(text)
            if document["schema"] != INDEX_SCHEMA:
                msg = f"{source} has schema {document['schema']!r}, expected {INDEX_SCHEMA}."
                raise VerificationError(msg, hint="Use the hakim-actions that made the release.")
            document["entries"] = tuple(_entry(entry) for entry in document["entries"])
            return cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{source} is not a release index: {error}."
            raise VerificationError(msg, hint="Expected the index.json of a release.") from None


def _by_name(entry: IndexEntry) -> ArtifactName:
    return entry.name


def _entry(document: dict[str, Any]) -> IndexEntry:
    files = {role: FileRecord(**record) for role, record in document["files"].items()}
    for record in files.values():
        if not is_base_name(record.name):
            msg = f"{record.name!r} is a path"
            raise ValueError(msg)
    if "archive" not in files:
        msg = "an entry has no archive"
        raise ValueError(msg)
    return IndexEntry(**{**document, "files": files, "missing": tuple(document.get("missing", ()))})
