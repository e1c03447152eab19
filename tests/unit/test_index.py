"""index.json: the documented schema, and what the reader refuses."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fakes import publications
from fakes.publications import COMMIT
from hypothesis import given, settings
from hypothesis import strategies as st

from hakim_actions.artifact import FileRecord
from hakim_actions.errors import VerificationError
from hakim_actions.index import Index, IndexEntry

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "docs/reference/index.schema.json").read_text(encoding="utf-8")
)
_names = st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True)
_versions = st.dictionaries(_names, st.text(min_size=1, max_size=8), max_size=4)


def _entry(variant: str, packages: dict[str, str], tools: dict[str, str]) -> IndexEntry:
    endings = {"archive": "", "metadata": ".meta", "manifest": ".json", "sbom": ".cdx"}
    files = {
        role: FileRecord(name=f"hakim-{variant}{ending}", size=1, sha256="0" * 64)
        for role, ending in endings.items()
    }
    return IndexEntry(
        variant=variant,
        release="trixie",
        arch="amd64",
        content_key="",
        files=files,
        packages=packages,
        tools=tools,
        missing=("bun",),
    )


entries = st.builds(_entry, _names, _versions, _versions)


@pytest.fixture
def written(tmp_path: Path) -> str:
    return publications.publication(tmp_path, "base", "php").index.to_json()


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_is_written_is_as_documented(written: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(written))


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=4, unique_by=lambda entry: entry.variant))
def test_any_index_is_as_documented_and_reads_back(made: list[IndexEntry]) -> None:
    index = Index(version="v1.0.0", commit=COMMIT, epoch=1, entries=tuple(made))
    text = index.to_json()
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(text))
    assert Index.from_json(text, source="it").to_json() == text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["entries", 0, "files", "archive", "sha256"], "0"),
        (["entries", 0, "files", "archive", "name"], "../etc/passwd"),
        (["entries", 0, "image"], "ghcr.io/acme/hakim-base:latest"),
        (["entries", 0, "surprise"], 1),
        (["schema"], 2),
        (["version"], "../up"),
        (["entries"], []),
    ],
    ids=lambda value: "/".join(map(str, value)) if isinstance(value, list) else "",
)
def test_the_schema_refuses(written: str, path: list[Any], value: object) -> None:
    document = json.loads(written)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"entries": None},
        {"surprise": 1},
        {"entries": [{}]},
    ],
    ids=["another schema", "no entries", "unknown field", "empty entry"],
)
def test_the_reader_names_the_file_it_refuses(written: str, change: dict[str, object]) -> None:
    with pytest.raises(VerificationError, match=r"^the release's index"):
        Index.from_json(json.dumps(json.loads(written) | change), source="the release's index")


def test_a_path_in_the_index_is_refused(written: str) -> None:
    text = written.replace(
        '"hakim-base-trixie-amd64.tar.xz"', '"../hakim-base-trixie-amd64.tar.xz"'
    )
    with pytest.raises(VerificationError, match="is a path"):
        Index.from_json(text, source="it")
