"""Names, checksum files and manifests hold what the other commands rely on."""

import dataclasses

import pytest

from hakim_actions.artifact import (
    ArtifactName,
    Check,
    FileRecord,
    Manifest,
    format_sums,
    parse_sums,
)
from hakim_actions.errors import ConfigurationError, VerificationError

SHA = "0123456789abcdef" * 4


def test_all_files_of_an_artifact_share_its_stem() -> None:
    name = ArtifactName("php", "trixie", "arm64")

    assert name.archive == "hakim-php-trixie-arm64.tar.xz"
    for file in (name.metadata, name.manifest, name.sbom, name.build_log):
        assert file.startswith("hakim-php-trixie-arm64.")


@pytest.mark.parametrize(
    "name",
    [
        ArtifactName("base", "trixie", "amd64"),
        ArtifactName("base", "trixie", "amd64", version="v1.2.0-rc.1"),
    ],
)
def test_a_name_survives_a_round_trip(name: ArtifactName) -> None:
    assert ArtifactName.parse(name.archive) == name


@pytest.mark.parametrize(
    "file_name",
    [
        "",
        "debian-13-standard_13.6-1_amd64.tar.zst",
        "hakim-base-trixie.tar.xz",
        "hakim-base-trixie-amd64.tar.gz",
        "hakim-base-trixie-amd64.meta.tar.xz",
        "hakim-Base-trixie-amd64.tar.xz",
        "../hakim-base-trixie-amd64.tar.xz",
        "hakim-base-trixie-amd64.tar.xz\n",
        "hakim-base-trixie-amd64_../x.tar.xz",
    ],
)
def test_a_foreign_name_is_refused(file_name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the name of a template"):
        ArtifactName.parse(file_name)


def test_sums_are_written_as_sha256sum_reads_them_and_sorted() -> None:
    assert format_sums({"b": SHA, "a": SHA}) == f"{SHA}  a\n{SHA}  b\n"


def test_sums_survive_a_round_trip() -> None:
    sums = {"hakim-base-trixie-amd64.tar.xz": SHA, "a b": SHA}

    assert parse_sums(format_sums(sums), source="sums") == sums


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lists no file"),
        ("hello\n", "line 1: expected"),
        (f"{SHA[:-1]}  a\n", "line 1: expected"),
        (f"{SHA.upper()}  a\n", "line 1: expected"),
        (f"{SHA}  a\n\n", "line 2: expected"),
        (f"{SHA}  ../a\n", "is a path"),
        (f"{SHA}  /etc/passwd\n", "is a path"),
        (f"{SHA}  ..\n", "is a path"),
        (f"{SHA}  a\\b\n", "is a path"),
        (f"{SHA}  a\n{SHA}  a\n", "line 2: 'a' is listed twice"),
    ],
)
def test_a_bad_checksum_file_is_refused_with_the_line(text: str, reason: str) -> None:
    with pytest.raises(VerificationError, match=reason):
        parse_sums(text, source="sums.txt")


MANIFEST = Manifest(
    variant="base",
    release="trixie",
    arch="amd64",
    version="v1.0.0",
    commit="abc",
    epoch=1,
    distrobuilder="3.3.1",
    files=(FileRecord(name="hakim-base-trixie-amd64.tar.xz", size=3, sha256=SHA),),
    packages={"bash": "5.2"},
    missing=("bun",),
    phases={"pack": 1.5},
    checks=(Check(name="boot", detail="running", seconds=1.0),),
)


def test_a_manifest_survives_a_round_trip() -> None:
    assert Manifest.from_json(MANIFEST.to_json(), source="m") == MANIFEST


def test_a_manifest_of_another_schema_is_refused() -> None:
    text = dataclasses.replace(MANIFEST, schema=99).to_json()

    with pytest.raises(VerificationError, match="m has schema 99, this version reads 1"):
        Manifest.from_json(text, source="m")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', "null"])
def test_what_is_no_manifest_is_refused_by_name(text: str) -> None:
    with pytest.raises(VerificationError, match=r"base\.manifest\.json is not a manifest"):
        Manifest.from_json(text, source="base.manifest.json")
