"""From the folders of all jobs to one release: every way in which it can be incomplete."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import COMMIT, Made

from hakim_actions.artifact import SUMS_NAME, ArtifactName, parse_sums
from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.index import INDEX_NAME, Index
from hakim_actions.publish.consolidate import consolidate, expected_names, with_index, write
from hakim_actions.system.files import sha256_file

ARCHIVE = "hakim-base-trixie-amd64.tar.xz"
MATRIX = [ArtifactName("base", "trixie", "amd64"), ArtifactName("php", "trixie", "amd64")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return publications.write_all(tmp_path / "out", "base", "php")


def refusal(*folders: Path, expected: list[ArtifactName] | None = None) -> str:
    with pytest.raises(VerificationError) as caught:
        consolidate(folders, expected=expected or ())
    return caught.value.message


class TestWhatBelongsTogether:
    def test_every_file_but_the_logs_is_an_asset(self, out: Path) -> None:
        release = consolidate([out], expected=MATRIX)
        assert len(release.assets) == 2 * 4 + 2
        assert not [asset for asset in release.assets if asset.name.endswith(".log")]
        assert release.version == "v1.2.0"
        assert release.index.commit == COMMIT

    def test_a_twin_is_an_asset_and_in_the_index(self, out: Path) -> None:
        name = publications.add_twin(out, Made()).name
        release = consolidate([out], expected=MATRIX)
        assert name in release.by_name
        base, php = release.index.entries
        assert base.files["twin"].name == name
        assert "twin" not in php.files

    def test_the_checksums_prove_every_file_and_the_index(self, out: Path) -> None:
        release = consolidate([out])
        sums = parse_sums(release.by_name[SUMS_NAME].data.decode(), source="the sums")
        assert sums == {it.name: it.sha256 for it in release.assets if it.name != SUMS_NAME}

    @pytest.mark.parametrize("shape", ["one folder a job", "all in one", "nested"])
    def test_whatever_folders_downloads_make(self, tmp_path: Path, shape: str) -> None:
        """As upload-artifact left them: a folder a job, or build's own out folder."""
        folders = {
            "one folder a job": ["a/hakim base (1)", "b"],
            "all in one": ["a", "a"],
            "nested": ["x/y/z", "x/y"],
        }[shape]
        for folder, variant in zip(folders, ("base", "php"), strict=True):
            publications.write(tmp_path / folder, Made(variant=variant))
        assert [it.variant for it in consolidate([tmp_path]).index.entries] == ["base", "php"]

    def test_several_releases_of_a_variant_share_a_folder(self, tmp_path: Path) -> None:
        for release in ("trixie", "bookworm"):
            publications.write(tmp_path, Made(release=release))
        assert len(consolidate([tmp_path]).index.entries) == 2

    def test_it_is_the_same_from_any_order_of_folders(self, tmp_path: Path) -> None:
        publications.write(tmp_path / "one", Made())
        publications.write(tmp_path / "two", Made(variant="php"))
        forward = consolidate([tmp_path / "one", tmp_path / "two"])
        backward = consolidate([tmp_path / "two", tmp_path / "one", tmp_path / "two"])
        assert forward.digest == backward.digest

    def test_the_tag_wins_over_the_manifests(self, out: Path) -> None:
        assert consolidate([out], version="v9.0.0").version == "v9.0.0"

    def test_hidden_folders_are_not_looked_into(self, out: Path) -> None:
        (out / ".cache").mkdir()
        (out / ".cache" / ARCHIVE).write_text("half")
        assert len(consolidate([out]).index.entries) == 2


class TestWrittenDown:
    def test_a_written_release_is_recognised(self, out: Path) -> None:
        first = consolidate([out], version="v2.0.0")
        write(first, out)
        again = consolidate([out])
        assert again.version == "v2.0.0"
        assert again.digest == first.digest

    def test_also_when_all_its_files_lie_in_one_folder(self, out: Path, tmp_path: Path) -> None:
        flat = tmp_path / "flat"
        flat.mkdir()
        release = consolidate([out])
        for asset in release.assets:
            with asset.open() as stream:
                (flat / asset.name).write_bytes(stream.read())
        assert consolidate([flat]).digest == release.digest

    def test_the_images_of_a_registry_stay_in_the_index(self, out: Path) -> None:
        release = consolidate([out])
        document = json.loads(release.index.to_json())
        image = f"ghcr.io/acme/hakim-base@sha256:{'a' * 64}"
        document["entries"][0]["image"] = image
        index = Index.from_json(json.dumps(document), source="it")
        write(with_index(release, index), out)
        assert consolidate([out]).index.entries[0].image == image

    def test_an_index_of_other_artifacts_is_refused(self, out: Path) -> None:
        write(consolidate([out]), out)
        publications.write(out, Made(variant="rust"))
        assert "does not describe the artifacts beside it" in refusal(out)

    def test_an_index_that_was_changed_is_refused(self, out: Path) -> None:
        write(consolidate([out]), out)
        index = out / INDEX_NAME
        index.write_text(index.read_text().replace(COMMIT, "f" * 40))
        assert f"{index} is missing or not the one" in refusal(out)


def _drop_line(sums: Path, name: str) -> None:
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if name not in line))


def _remove(out: Path) -> None:
    (out / "base" / ARCHIVE).unlink()


def _unlist(out: Path) -> None:
    sums = out / "base" / SUMS_NAME
    _drop_line(sums, ARCHIVE)


def _change(out: Path) -> None:
    (out / "base" / ARCHIVE).write_text("other")


def _link(out: Path) -> None:
    archive = out / "base" / ARCHIVE
    archive.rename(archive.with_name("elsewhere"))
    archive.symlink_to("elsewhere")


def _twice(out: Path) -> None:
    publications.write(out / "again", Made())


def _two_truths(out: Path) -> None:
    listing = out / "base" / SUMS_NAME
    (out / SUMS_NAME).write_text(f"{'0' * 64}  {ARCHIVE}\n")
    assert listing.exists()


def _other_commit(out: Path) -> None:
    publications.write(out, Made(variant="php", commit="f" * 40))


def _no_sbom(out: Path) -> None:
    name = "hakim-base-trixie-amd64.cdx.json"
    (out / "base" / name).unlink()
    sums = out / "base" / SUMS_NAME
    _drop_line(sums, name)


def _no_twin(out: Path) -> None:
    twin = publications.add_twin(out, Made())
    twin.unlink()
    _drop_line(out / "base" / SUMS_NAME, twin.name)


def _unexpected_twin(out: Path) -> None:
    publications.add_twin(out, Made(), told=False)


def _stray(out: Path) -> None:
    stray = out / "base/hakim-base-trixie-amd64.zip"
    stray.write_text("what is this")
    with (out / "base" / SUMS_NAME).open("a") as stream:
        stream.write(f"{sha256_file(stray)}  {stray.name}\n")


def _path_in_sums(out: Path) -> None:
    with (out / "base" / SUMS_NAME).open("a") as stream:
        stream.write(f"{'0' * 64}  ../../etc/passwd\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_remove, f"{ARCHIVE} is missing"),
        (_unlist, f"{ARCHIVE} is in no {SUMS_NAME}"),
        (_change, f"{ARCHIVE} changed after it was verified"),
        (_link, f"{ARCHIVE} is not a regular file"),
        (_twice, f"{ARCHIVE} is there twice"),
        (_two_truths, "it changed after it was verified"),
        (_other_commit, "the images come from 2 commits"),
        (_no_sbom, "hakim-base-trixie-amd64.cdx.json is missing"),
        (_no_twin, "hakim-base-trixie-amd64.tar.zst is missing"),
        (_unexpected_twin, "hakim-base-trixie-amd64.tar.zst belongs to no manifest"),
        (_stray, "hakim-base-trixie-amd64.zip belongs to no manifest"),
        (_path_in_sums, "is a path"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_is_damaged_is_named(out: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(out)
    assert said in refusal(out)


def test_merged_downloads_are_explained(out: Path) -> None:
    """All jobs in one folder: the last sha256sums.txt has overwritten the others."""
    for path in (out / "base").iterdir():
        if path.name != SUMS_NAME:
            path.rename(out / "php" / path.name)
    with pytest.raises(VerificationError) as caught:
        consolidate([out / "php"])
    assert "merge-multiple" in caught.value.hint


def test_all_problems_are_named_at_once(out: Path) -> None:
    _remove(out)
    (out / "php/hakim-php-trixie-amd64.cdx.json").write_text("changed")
    message = refusal(out)
    assert "2 problems" in message
    assert "hakim-php-trixie-amd64.cdx.json changed" in message


class TestTheMatrix:
    def test_what_is_missing_and_what_nobody_asked_for(self, out: Path) -> None:
        wanted = [ArtifactName("base", "trixie", "amd64"), ArtifactName("rust", "trixie", "arm64")]
        message = refusal(out, expected=wanted)
        assert "hakim-rust-trixie-arm64 is missing: the matrix asks for it" in message
        assert "hakim-php-trixie-amd64 is not in the matrix" in message

    def test_is_read_as_matrix_prints_it(self) -> None:
        row = {"variant": "base", "release": "trixie", "arch": "amd64", "runner": "ubuntu-24.04"}
        text = json.dumps({"include": [row], "count": 1})
        assert expected_names(text, source="it") == (MATRIX[0],)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"include": [{}]}', '{"include": 1}'])
    def test_what_is_no_matrix(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="--expect is not a matrix"):
            expected_names(text, source="--expect")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "No artifact in" in refusal(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        consolidate([tmp_path / "none"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder(out: Path) -> None:
    (out / "base").chmod(0)
    try:
        with pytest.raises(ConfigurationError, match="Unable to read"):
            consolidate([out])
    finally:
        (out / "base").chmod(0o755)
