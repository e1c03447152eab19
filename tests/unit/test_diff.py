"""What changed: versions as dpkg orders them, packages, tools, sizes, and how it is printed."""

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import Made
from hypothesis import given, settings
from hypothesis import strategies as st

from hakim_actions.artifact import ArtifactName
from hakim_actions.cli.main import main
from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.publish import diff, dpkg, notes
from hakim_actions.publish.consolidate import consolidate
from hakim_actions.publish.diff import Change, Snapshot

STATUS = """\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.22.21

Package: bash
Status: install ok installed
Architecture: amd64
Version: {bash}
Description: a shell
 Version: not a field

Package: libc6
Status: install ok installed
Architecture: i386
Version: 2.41-12

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""


def snapshot(
    packages: dict[str, str], tools: dict[str, str] | None = None, size: int = 1
) -> Snapshot:
    name = ArtifactName("base", "trixie", "amd64")
    return Snapshot(name=name, size=size, packages=packages, tools=tools or {})


def changes(old: dict[str, str], new: dict[str, str]) -> tuple[Change, ...]:
    difference = diff.compare([snapshot(old)], [snapshot(new)], names=("old", "new"))
    return difference.images[0].packages


class TestVersions:
    @pytest.mark.parametrize(
        ("older", "newer"),
        [
            ("1.0~rc1", "1.0"),
            ("1.0-1", "1.0-1+b1"),
            ("1.9", "1.10"),
            ("9", "1:1"),
            ("2.41-12", "2.41-12+deb13u1"),
            ("1.0-1~bpo12+1", "1.0-1"),
            ("1.0a", "1.0+"),
            ("1.0", "1.0-1"),
            ("0~", "0"),
            ("1-0~", "1"),
        ],
    )
    def test_order(self, older: str, newer: str) -> None:
        assert dpkg.sort_key(older) < dpkg.sort_key(newer)

    @pytest.mark.parametrize(("one", "other"), [("1.0", "1.0-0"), ("0:1", "1"), ("1.01", "1.1")])
    def test_the_same_version_written_twice(self, one: str, other: str) -> None:
        assert dpkg.sort_key(one) == dpkg.sort_key(other)

    @pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed")
    @settings(max_examples=60)
    @given(*[st.from_regex(r"[0-9][0-9a-b.+~]{0,5}(-[0-9a-b.+~]{1,3})?", fullmatch=True)] * 2)
    def test_dpkg_itself_agrees(self, one: str, other: str) -> None:
        argv = ["dpkg", "--compare-versions", one, "lt", other]
        is_less = subprocess.run(argv, check=False, capture_output=True).returncode == 0
        assert (dpkg.sort_key(one) < dpkg.sort_key(other)) == is_less


class TestCompare:
    def test_every_kind_of_change_sorted_by_name(self) -> None:
        found = changes(
            {"a": "1", "b": "1", "c": "2", "same": "1"}, {"b": "2", "c": "1", "d": "1", "same": "1"}
        )
        assert [(it.name, it.kind) for it in found] == [
            ("a", "removed"),
            ("b", "upgraded"),
            ("c", "downgraded"),
            ("d", "added"),
        ]

    def test_tools_have_no_order_so_they_change(self) -> None:
        old, new = snapshot({}, {"bun": "1.2", "composer": "2"}), snapshot({}, {"bun": "1.3"})
        (image,) = diff.compare([old], [new], names=("", "")).images
        assert [(it.name, it.kind) for it in image.tools] == [
            ("bun", "changed"),
            ("composer", "removed"),
        ]

    def test_tools_that_cannot_be_known_are_not_called_removed(self) -> None:
        archive = Snapshot(
            name=ArtifactName("base", "trixie", "amd64"), size=1, packages={}, tools=None
        )
        (image,) = diff.compare([snapshot({}, {"bun": "1"})], [archive], names=("", "")).images
        assert image.tools == ()

    def test_images_come_and_go(self, tmp_path: Path) -> None:
        old = publications.publication(tmp_path / "old", "base", "php").index
        new = publications.publication(tmp_path / "new", "base", "rust").index
        difference = diff.compare(diff.of_index(old), diff.of_index(new), names=("1", "2"))
        gone = {image.name: image.new_size for image in difference.images if image.new_size is None}
        come = [image.name for image in difference.images if image.old_size is None]
        assert list(gone) == ["hakim-php-trixie-amd64"]
        assert come == ["hakim-rust-trixie-amd64"]

    @settings(deadline=None)
    @given(*[st.dictionaries(st.sampled_from("abcde"), st.sampled_from("123"))] * 2)
    def test_the_changes_lead_from_old_to_new(
        self, old: dict[str, str], new: dict[str, str]
    ) -> None:
        made = dict(old)
        for change in changes(old, new):
            assert made.get(change.name, "") == change.old
            if change.new:
                made[change.name] = change.new
            else:
                del made[change.name]
        assert made == new


def archive(path: Path, bash: str, *, name: str = "./var/lib/dpkg/status") -> Path:
    with tarfile.open(path, "w:xz", preset=0) as stream:
        data = STATUS.format(bash=bash).encode()
        for number in range(3):
            stream.addfile(tarfile.TarInfo(f"./file{number}"))
        member = tarfile.TarInfo(name)
        member.size = len(data)
        stream.addfile(member, io.BytesIO(data))
    return path


class TestSources:
    def test_two_archives(self, tmp_path: Path) -> None:
        old = archive(tmp_path / "hakim-base-trixie-amd64.tar.xz", "5.2.37-2")
        new = archive(tmp_path / "other.tar.xz", "5.2.37-2+b5")
        _, before = diff.read(old)
        _, after = diff.read(new)
        assert before[0].packages == {
            "dpkg": "1.22.21",
            "bash": "5.2.37-2",
            "libc6:i386": "2.41-12",
        }
        (image,) = diff.compare(before, after, names=("", "")).images
        assert image.packages == (
            Change(name="bash", old="5.2.37-2", new="5.2.37-2+b5", kind="upgraded"),
        )

    def test_a_manifest_an_index_and_folders(self, tmp_path: Path) -> None:
        out = publications.write_all(tmp_path / "out", "base", "php")
        from_folder = diff.read(out)
        assert from_folder[0] == "v1.2.0"
        assert len(from_folder[1]) == 2
        (one,) = diff.read(out / "base/hakim-base-trixie-amd64.manifest.json")[1]
        assert one == from_folder[1][0]
        index = publications.publication(tmp_path / "more", "base", "php").index
        (tmp_path / "index.json").write_text(index.to_json())
        assert diff.read(tmp_path / "index.json") == from_folder
        assert diff.read(tmp_path) == from_folder, "a folder with an index is that index"

    @pytest.mark.parametrize("data", [b"", b"not an archive", b"\xfd7zXZ\x00 cut"])
    def test_a_broken_archive(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "broken.tar.xz"
        path.write_bytes(data)
        with pytest.raises(VerificationError, match=r"is not a readable \.tar\.xz"):
            diff.read(path)

    def test_an_archive_that_is_cut(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "cut.tar.xz", "1")
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(VerificationError):
            diff.read(path)

    def test_an_archive_without_a_package_database(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "odd.tar.xz", "1", name="./etc/status")
        with pytest.raises(VerificationError, match="has no var/lib/dpkg/status"):
            diff.read(path)

    @pytest.mark.parametrize("name", ["none", "none.tar.xz", "empty"])
    def test_what_is_not_there(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigurationError):
            diff.read(tmp_path / name)

    def test_what_is_no_manifest(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text("[1]")
        with pytest.raises(VerificationError, match="is not a manifest"):
            diff.read(tmp_path / "a.json")


class TestPrinted:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> list[str]:
        old = Made(version="v1.1.0", packages={"bash": "5.2.37-2", "nano": "8.4-1"})
        publications.write(tmp_path / "old", old)
        publications.write(tmp_path / "new", Made(archive=b"larger" * 1000))
        return [str(tmp_path / "old"), str(tmp_path / "new")]

    def test_as_text(self, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["diff", *folders], {}) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("v1.1.0 → v1.2.0\n")
        assert "  upgraded   package bash 5.2.37-2 → 5.2.37-2+b5\n" in printed
        assert "  removed    package nano 8.4-1\n" in printed
        assert "2 added, 1 removed, 1 upgraded, 6.0 kB (+6.0 kB)" in printed

    def test_as_markdown(self, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["diff", *folders, "--format", "markdown"], {}) == 0
        assert "| package | `bash` | 5.2.37-2 | 5.2.37-2+b5 | upgraded |" in capsys.readouterr().out

    @pytest.mark.parametrize("option", [["--json"], ["--format", "json"]], ids=" ".join)
    def test_as_json(
        self, folders: list[str], option: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["diff", *folders, *option], {}) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["images"][0]["packages"][0]["kind"] == "upgraded"

    def test_nothing_changed(self, folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["diff", folders[0], folders[0]], {}) == 0
        assert "no change" in capsys.readouterr().out

    def test_what_cannot_be_read_ends_with_its_exit_code(
        self, folders: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["diff", "nowhere", folders[0]], {}) == 2
        assert "Unable to read nowhere" in capsys.readouterr().err

    def test_notes_fit_into_a_release_whatever_changed(self, tmp_path: Path) -> None:
        many = {f"package-{number}": "1.0-1" for number in range(5000)}
        old = publications.publication(tmp_path / "old", version="v1.0.0").index
        made = Made(packages=many)
        new = consolidate([publications.write_all(tmp_path / "new", base=made)]).index
        difference = diff.compare(diff.of_index(old), diff.of_index(new), names=("1", "2"))
        text = notes.release_notes(new, base_url="https://x/", difference=difference)
        assert len(text) < notes.MAX_NOTES
        assert "5000 added" in text
        assert "package-77" not in text
