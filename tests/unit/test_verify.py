"""Folders of artifacts, whole and broken, and what the command says about them."""

import hashlib
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rootfs import EPOCH, default_packages, make_rootfs_tar

from hakim_actions.artifact import SUMS_NAME, ArtifactName, FileRecord, Manifest, format_sums
from hakim_actions.cli.main import main
from hakim_actions.errors import VerificationError
from hakim_actions.image import rules_archive
from hakim_actions.image.pack import pack_tar
from hakim_actions.image.rules import CHECKS, RULES
from hakim_actions.image.verify import VerifyReport, verify_paths

NAME = ArtifactName("base", "trixie", "amd64")
PACKAGES = default_packages()


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives of these tests have some kilobytes."""
    monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
    monkeypatch.setattr(rules_archive, "MIN_RAW", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as build leaves it: archive, metadata, manifest, log and checksums."""
    return make_artifact(tmp_path / "base")


def make_artifact(path: Path, name: ArtifactName = NAME) -> Path:
    path.mkdir()
    tar = make_rootfs_tar(
        path.parent / "rootfs.tar", variant=name.variant, packages=PACKAGES, arch=name.arch
    )
    (path / name.archive).write_bytes(lzma.compress(tar.read_bytes(), preset=0))
    (path / name.metadata).write_bytes(lzma.compress(b"metadata", preset=0))
    (path / name.build_log).write_text("what distrobuilder said\n")
    write_manifest(path, name)
    write_sums(path)
    return path


def write_manifest(path: Path, name: ArtifactName = NAME, **different: object) -> None:
    records = [record(path / file) for file in (name.archive, name.metadata)]
    values: dict[str, Any] = {
        "variant": name.variant,
        "release": name.release,
        "arch": name.arch,
        "version": "1",
        "commit": "0" * 40,
        "epoch": 0,
        "distrobuilder": "3.3.1",
        "files": tuple(records),
        "packages": {package.name: package.version for package in PACKAGES},
    }
    manifest = Manifest(**{**values, **different})
    (path / name.manifest).write_text(manifest.to_json())


def record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_sums(path: Path) -> None:
    names = [p for p in path.iterdir() if p.name.startswith("hakim-") and p.suffix != ".log"]
    (path / SUMS_NAME).write_text(format_sums({p.name: record(p).sha256 for p in names}))


def told(report: VerifyReport) -> dict[str, str]:
    """Return what was found by rule; a rule that is told twice is joined."""
    found: dict[str, str] = {}
    for failure in report.failures:
        found[failure.rule] = f"{found.get(failure.rule, '')} {failure.file}: {failure.found}"
    return found


def test_a_whole_artifact_passes_and_every_listed_file_is_read(folder: Path) -> None:
    report = verify_paths([folder])

    assert report.failures == ()
    assert {file.path.name for file in report.checked} == {
        NAME.archive,
        NAME.metadata,
        NAME.manifest,
    }
    for file in report.checked:
        assert file.listed
        assert FileRecord(name=file.path.name, size=file.size, sha256=file.sha256) == record(
            file.path
        )


def test_a_tree_of_artifacts_is_verified_one_level_deep(tmp_path: Path) -> None:
    top = tmp_path / "out"
    top.mkdir()
    make_artifact(top / "base")
    make_artifact(top / "php", ArtifactName("php", "trixie", "amd64"))
    (top / ".work").mkdir()
    (top / ".work" / NAME.archive).write_bytes(b"half a build")

    report = verify_paths([top])

    assert report.failures == ()
    assert {file.path.parent.name for file in report.checked} == {"base", "php"}


def test_several_paths_are_told_together(tmp_path: Path) -> None:
    first, second = make_artifact(tmp_path / "a"), make_artifact(tmp_path / "b")
    (first / NAME.metadata).unlink()
    (second / SUMS_NAME).unlink()

    assert told(verify_paths([first, second])).keys() == {"sums-files-present", "sums-present"}


def test_what_pack_makes_is_a_good_artifact(folder: Path) -> None:
    report = pack_tar(folder.parent / "rootfs.tar", folder / NAME.archive, epoch=EPOCH, level=0)
    write_manifest(folder, unpacked_bytes=report.raw_bytes)
    write_sums(folder)

    assert verify_paths([folder]).failures == ()


def test_one_archive_is_compared_with_the_checksums_beside_it(folder: Path) -> None:
    report = verify_paths([folder / NAME.archive])

    assert report.failures == ()
    assert [file.listed for file in report.checked] == [True]


def test_one_archive_without_checksums_is_only_checked_for_what_it_is(folder: Path) -> None:
    (folder / SUMS_NAME).unlink()

    report = verify_paths([folder / NAME.archive])

    assert report.failures == ()
    assert [file.listed for file in report.checked] == [False]


def test_checksums_only_needs_checksums(folder: Path) -> None:
    (folder / SUMS_NAME).unlink()

    report = verify_paths([folder / NAME.archive], checksums_only=True)

    assert told(report).keys() == {"sums-present"}


def test_checksums_only_does_not_look_inside(folder: Path) -> None:
    (folder / NAME.archive).write_bytes(b"anything")
    write_sums(folder)
    (folder / NAME.manifest).unlink()
    write_sums(folder)

    assert verify_paths([folder], checksums_only=True).failures == ()


Spoil = Callable[[Path], None]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def without(*names: str) -> Spoil:
    """Return what removes the files *names*."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def with_sums(change: Callable[[str], str]) -> Spoil:
    """Return what gives the checksum file another text."""

    def spoil(folder: Path) -> None:
        path = folder / SUMS_NAME
        path.write_text(change(path.read_text()))

    return spoil


def with_manifest(**different: Any) -> Spoil:
    """Return what writes another manifest, and checksums that agree with it."""

    def spoil(folder: Path) -> None:
        write_manifest(folder, **different)
        write_sums(folder)

    return spoil


def with_bytes(name: str, data: bytes) -> Spoil:
    """Return what writes the file *name*, leaving the checksums as they are."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return spoil


def with_wrong_twin(folder: Path) -> None:
    (folder / NAME.twin).write_bytes(b"no zstd")
    write_sums(folder)


def with_link(name: str, target: str) -> Spoil:
    """Return what replaces the file *name* by a symbolic link."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def with_pipe(folder: Path) -> None:
    (folder / NAME.archive).unlink()
    os.mkfifo(folder / NAME.archive)


def with_folder_as_sums(folder: Path) -> None:
    (folder / SUMS_NAME).unlink()
    (folder / SUMS_NAME).mkdir()


def with_unreadable_manifest(folder: Path) -> None:
    (folder / NAME.manifest).write_text("[]")
    write_sums(folder)


def only_something_else(folder: Path) -> None:
    without(NAME.archive, NAME.metadata, NAME.manifest)(folder)
    with_sums(lambda _: f"{'0' * 64}  index.json\n")(folder)


def with_damage(folder: Path) -> None:
    damage(folder / NAME.metadata)


WRONG_SIZE = FileRecord(name=NAME.archive, size=1, sha256="0" * 64)
VERSIONS = {package.name: package.version for package in PACKAGES}

#: What is done to a good folder, the rules it then breaks, and what must be found.
BROKEN: dict[str, tuple[Spoil, set[str], str]] = {
    "nothing there": (
        without(SUMS_NAME, NAME.archive, NAME.metadata, NAME.manifest),
        {"artifacts-present"},
        "neither",
    ),
    "only something else": (
        only_something_else,
        {"artifacts-present", "sums-files-present"},
        "no hakim-*.tar.xz",
    ),
    "no checksums": (without(SUMS_NAME), {"sums-present"}, "no such file"),
    "a damaged file": (with_damage, {"sums-match", "manifest-files"}, NAME.metadata),
    "a twin of something else": (with_wrong_twin, {"twin-same"}, NAME.twin),
    "a wrong checksum": (
        with_sums(lambda text: "0" * 64 + text[64:]),
        {"sums-match"},
        " bytes)",
    ),
    "an extra file": (
        with_bytes("hakim-php-trixie-amd64.cdx.json", b"{}"),
        {"sums-complete"},
        "hakim-php",
    ),
    "an archive that is not listed": (
        with_sums(lambda text: "".join(text.splitlines(keepends=True)[:2])),
        {"sums-complete"},
        f"{NAME.archive}: not listed",
    ),
    "a file that is gone": (without(NAME.metadata), {"sums-files-present"}, NAME.metadata),
    "a line that is no checksum": (
        with_sums(lambda text: text + "deadbeef  x\n"),
        {"sums-readable"},
        "line 4",
    ),
    "an empty checksum file": (with_sums(lambda _: ""), {"sums-readable"}, "lists no file"),
    "a path out of the folder": (
        with_sums(lambda text: text + f"{'0' * 64}  ../../etc/shadow\n"),
        {"sums-readable"},
        "../../etc/shadow",
    ),
    "a file listed twice": (
        with_sums(lambda text: text + text.splitlines()[0] + "\n"),
        {"sums-readable"},
        "twice",
    ),
    "checksums that are no text": (
        with_bytes(SUMS_NAME, b"\xff\xfe"),
        {"file-usable"},
        "no UTF-8",
    ),
    "checksums that are a folder": (with_folder_as_sums, {"file-usable"}, "not a regular file"),
    "a link out of the folder": (
        with_link(NAME.metadata, "/etc/passwd"),
        {"file-usable"},
        "/etc/passwd",
    ),
    "a dead link": (with_link(NAME.metadata, "nowhere"), {"file-usable"}, "nowhere"),
    "a pipe": (with_pipe, {"file-usable"}, "not a regular file"),
    "a manifest that is none": (
        with_unreadable_manifest,
        {"manifest-readable"},
        "not a manifest",
    ),
    "a manifest of another image": (
        with_manifest(variant="php"),
        {"manifest-name"},
        "hakim-php-trixie-amd64",
    ),
    "a manifest with another size": (
        with_manifest(files=(WRONG_SIZE,)),
        {"manifest-files"},
        "bytes and sha256",
    ),
    "a manifest without the archive": (
        with_manifest(files=()),
        {"manifest-files"},
        "not in the manifest",
    ),
    "a manifest with another unpacked size": (
        with_manifest(unpacked_bytes=1),
        {"manifest-unpacked-size"},
        " bytes",
    ),
    "a manifest with other packages": (
        with_manifest(packages={**VERSIONS, "dpkg": "1", "extra": "2"}),
        {"manifest-packages"},
        "dpkg (1, 1.22.21), extra (2, not installed)",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_breaks_its_rules_and_no_others(folder: Path, what: str) -> None:
    spoil, rules, found = BROKEN[what]
    spoil(folder)

    failures = told(verify_paths([folder]))

    assert failures.keys() == rules
    assert found in " ".join(failures.values())


def test_every_rule_about_files_has_a_folder_that_breaks_it() -> None:
    here = set().union(*(rules for _, rules, _ in BROKEN.values()))
    in_archives = {"artifact-name", "archive-readable", "not-the-metadata", "not-nested"}

    images = {rule for rule in CHECKS if not rule.startswith("manifest-")}
    assert here == RULES.keys() - images - in_archives


def test_a_damaged_archive_is_hashed_to_its_end_all_the_same(folder: Path) -> None:
    path = folder / NAME.archive
    path.write_bytes(path.read_bytes() + b"garbage" * 1_000_000)

    report = verify_paths([folder])

    assert told(report).keys() == {"archive-readable", "sums-match", "manifest-files"}
    assert record(path).sha256 in {file.sha256 for file in report.checked}


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / NAME.archive).rename(folder / "image-1")
    (folder / NAME.archive).symlink_to("image-1")

    assert verify_paths([folder]).failures == ()


def test_a_file_that_may_not_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = folder / NAME.archive
    real_open = os.open

    def open_unless_refused(path: Path, flags: int) -> int:
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, flags)

    monkeypatch.setattr("hakim_actions.image.openfile.os.open", open_unless_refused)

    failures = told(verify_paths([folder]))

    assert failures == {"file-usable": f" {refused}: Permission denied"}


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    failures = told(verify_paths([tmp_path / "hakim-base-trixie-amd64.tar.xz"]))

    assert "No such file" in failures["file-usable"]


def test_a_path_that_no_file_can_have_is_told_and_the_others_are_read(folder: Path) -> None:
    report = verify_paths([folder / ("x" * 300), folder])

    assert told(report).keys() == {"file-usable"}
    assert "too long" in told(report)["file-usable"]
    assert report.checked


def test_a_checksum_file_of_absurd_size_is_not_read(folder: Path) -> None:
    with (folder / SUMS_NAME).open("r+") as stream:
        stream.truncate(1 << 40)

    failures = told(verify_paths([folder]))

    assert failures.keys() == {"file-usable"}
    assert str(1 << 40) in failures["file-usable"]


def test_require_raises_the_first_failure_with_its_reason(folder: Path) -> None:
    verify_paths([folder]).require()
    damage(folder / NAME.metadata)

    with pytest.raises(VerificationError, match=r"meta\.tar\.xz") as caught:
        verify_paths([folder]).require()

    assert caught.value.exit_code == 5
    assert "sums-match" in caught.value.hint


def test_the_command_tells_a_good_artifact_with_exit_code_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(folder)], {}) == 0

    out = capsys.readouterr().out
    assert f"{record(folder / NAME.archive).sha256}  {folder / NAME.archive}" in out
    assert "Rules broken: none." in out


def test_the_command_repeats_what_was_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_manifest(missing=("bun", "openclaw"))(folder)

    assert main(["verify", str(folder)], {}) == 0

    assert "without bun, openclaw, as its manifest says" in capsys.readouterr().out


def test_the_help_shows_an_example_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "--help"], {}) == 0

    assert "\n    hakim-actions verify distrobuilder/out\n" in capsys.readouterr().out


def test_the_command_tells_every_failure_with_exit_code_5(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / NAME.metadata)
    (folder / "hakim-extra").touch()

    assert main(["verify", str(folder)], {}) == 5

    out = capsys.readouterr().out
    assert "FAILED sums-match" in out
    assert "FAILED sums-complete" in out
    assert "FAILED manifest-files" in out
    for word in ("found:", "expected:", "why:"):
        assert out.count(word) == 3


def test_the_command_speaks_json_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / SUMS_NAME).unlink()

    assert main(["verify", "--json", str(folder)], {"GITHUB_ACTIONS": "true"}) == 5

    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [failure["rule"] for failure in document["failures"]] == ["sums-present"]
    assert {file["path"] for file in document["checked"]} >= {str(folder / NAME.archive)}


def test_the_command_annotates_failures_in_a_workflow(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / SUMS_NAME).unlink()

    assert main(["verify", str(folder)], {"GITHUB_ACTIONS": "true"}) == 5

    assert "::error title=verify%3A sums-present::" in capsys.readouterr().out


def test_the_command_needs_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"], {}) == 2

    assert "PATH" in capsys.readouterr().err
