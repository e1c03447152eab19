"""The folder target: complete or not there, and servable by any web server."""

import os
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import Made

from hakim_actions.artifact import SUMS_NAME, parse_sums
from hakim_actions.cli.main import main
from hakim_actions.system import files
from hakim_actions.system.files import sha256_file

TAG = "v1.2.0"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return publications.write_all(tmp_path / "out", "base", "php")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "served"


def publish(out: Path, place: Path, *options: str) -> int:
    return main(["publish", str(out), "--to", str(place), *options], {})


def test_a_release_is_a_folder_that_checks_itself(out: Path, place: Path) -> None:
    assert publish(out, place) == 0
    release = place / TAG
    sums = parse_sums((release / SUMS_NAME).read_text(), source="it")
    assert {name: sha256_file(release / name) for name in sums} == sums
    assert len(sums) == 9
    assert "## Images" in (release / "RELEASE.md").read_text()
    assert (place / "latest").readlink() == Path(TAG)
    assert TAG in (place / "index.html").read_text()


def test_everybody_may_read_it(out: Path, place: Path) -> None:
    publish(out, place)
    assert {path.stat().st_mode & 0o777 for path in (place / TAG).iterdir()} == {0o644}


def test_it_is_the_default_after_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "distrobuilder").mkdir()
    for name in ("hakim.yaml", "variants.yaml"):
        (tmp_path / "distrobuilder" / name).touch()
    publications.write_all(tmp_path / "distrobuilder/out")
    monkeypatch.chdir(tmp_path)
    assert main(["publish"], {}) == 0
    assert (tmp_path / "dist/releases" / TAG / "index.json").is_file()
    assert f"{TAG} is published: dist/releases/{TAG}" in capsys.readouterr().out


def test_again_is_fine_and_says_so(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(out, place)
    before = (place / TAG).stat().st_mtime_ns
    assert publish(out, place) == 0
    assert "was published already" in capsys.readouterr().out
    assert (place / TAG).stat().st_mtime_ns == before


def test_other_content_under_a_published_version_is_refused(
    tmp_path: Path, out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(out, place)
    other = publications.write_all(tmp_path / "other", base=Made(archive=b"other"))
    assert publish(other, place, "--replace-draft") == 6
    assert f"{TAG} is already published" in capsys.readouterr().err
    assert parse_sums((place / TAG / SUMS_NAME).read_text(), source="it")


def test_a_published_release_that_rotted_is_noticed(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(out, place)
    archive = place / TAG / "hakim-base-trixie-amd64.tar.xz"
    archive.write_bytes(b"r" * archive.stat().st_size)
    assert publish(out, place) == 6
    assert "hakim-base-trixie-amd64.tar.xz" in capsys.readouterr().err


def test_latest_is_the_newest_full_release(tmp_path: Path, place: Path) -> None:
    for version, latest in [
        ("v1.0.0", "v1.0.0"),
        ("v2.0.0", "v2.0.0"),
        ("v1.1.0", "v2.0.0"),
        ("v3.0.0-rc.1", "v2.0.0"),
    ]:
        out = publications.write_all(tmp_path / version, base=Made(version=version))
        assert publish(out, place) == 0
        assert str((place / "latest").readlink()) == latest


def test_notes_tell_what_changed_since_the_release_before(tmp_path: Path, place: Path) -> None:
    for version, packages in (("v1.0.0", {"bash": "5.1"}), ("v1.1.0", {"bash": "5.2"})):
        made = Made(version=version, packages=packages)
        publish(publications.write_all(tmp_path / version, base=made), place)
    assert (
        "| package | `bash` | 5.1 | 5.2 | upgraded |" in (place / "v1.1.0/RELEASE.md").read_text()
    )


def test_a_dry_run_writes_nothing(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(out, place, "--dry-run") == 0
    assert not place.exists()
    assert "send     hakim-base-trixie-amd64.tar.xz" in capsys.readouterr().out


def test_an_unfinished_release_is_completed(out: Path, place: Path) -> None:
    publish(out, place)
    partial = place / f".{TAG}.partial"
    (place / TAG).rename(partial)
    (partial / ".publication").write_text(sha256_file(partial / SUMS_NAME))
    (partial / "hakim-base-trixie-amd64.tar.xz").write_text("half")
    (partial / ".index.json.x1").write_text("left by a kill")
    kept = (partial / "hakim-php-trixie-amd64.tar.xz").stat().st_ino
    assert publish(out, place) == 0
    assert (place / TAG / "hakim-php-trixie-amd64.tar.xz").stat().st_ino == kept
    assert len(list((place / TAG).iterdir())) == 11


def test_an_unfinished_release_of_other_files_is_only_replaced_on_request(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = place / f".{TAG}.partial"
    partial.mkdir(parents=True)
    (partial / ".publication").write_text("0" * 64)
    assert publish(out, place) == 6
    assert "--replace-draft" in capsys.readouterr().err
    assert publish(out, place, "--replace-draft") == 0
    assert not partial.exists()


def test_no_room(
    out: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _path: 10)
    assert publish(out, place) == 6
    assert "has room for 10 bytes" in capsys.readouterr().err
    assert not (place / TAG).exists()


def test_a_read_only_place(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where the folder should be stops root as well."""
    (tmp_path / "file").touch()
    assert publish(out, tmp_path / "file/served") == 2
    assert "--to: cannot write" in capsys.readouterr().err


def test_a_second_publisher_is_told_who_is_first(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir()
    with files.locked(place / ".lock", purpose="x"):
        assert publish(out, place) != 0
    assert f"process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("tag", ["../up", "latest", "a/b", ".hidden"])
def test_a_version_that_is_no_folder(out: Path, place: Path, tag: str) -> None:
    assert publish(out, place, "--tag", tag) == 2
    assert not place.exists()


def test_json_is_the_only_thing_on_stdout(
    out: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json  # noqa: PLC0415

    assert publish(out, place, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == TAG
    assert document["changed"] is True
