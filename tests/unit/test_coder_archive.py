"""The archive that Coder gets: complete, plain, and always the same bytes."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from hakim_actions.coder.archive import LIMIT, Pack, pack
from hakim_actions.errors import ConfigurationError, TemplateError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shared = tmp_path / "modules/one"
    shared.mkdir(parents=True)
    (shared / "main.tf").write_text("# module\n")
    (shared / "one.tftest.hcl").write_text("# test\n")
    template = tmp_path / "templates/hakim"
    template.mkdir(parents=True)
    (template / "main.tf").write_text("# root\n")
    (template / ".terraform.lock.hcl").write_text("# lock\n")
    (template / "modules").symlink_to("../../modules")
    return template


def packed(folder: Path) -> Pack:
    return pack(folder, root=folder.parents[1])


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


def test_links_become_what_they_lead_to(folder: Path) -> None:
    names = [member.name for member in members(packed(folder).data)]
    assert names == [
        ".terraform.lock.hcl",
        "main.tf",
        "modules",
        "modules/one",
        "modules/one/main.tf",
    ]
    assert not any(member.issym() for member in members(packed(folder).data))


def test_plain_ustar_without_times_and_owners(folder: Path) -> None:
    data = packed(folder).data
    assert data[257:263] == b"ustar\0"
    assert b"PaxHeader" not in data
    for member in members(data):
        assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
        assert member.mode == (0o755 if member.isdir() else 0o644)


def test_same_files_are_the_same_bytes(folder: Path) -> None:
    first = packed(folder)
    os.utime(folder / "main.tf", (1, 1))
    (folder / "main.tf").chmod(0o600)
    assert packed(folder).sha256 == first.sha256
    (folder / "main.tf").write_text("# another\n")
    assert packed(folder).sha256 != first.sha256


def test_what_is_for_development_stays_here(folder: Path) -> None:
    (folder / ".terraform/providers").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "tests/a.tftest.hcl").write_text("")
    assert packed(folder).members == (".terraform.lock.hcl", "main.tf", "modules/one/main.tf")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (".env", "hidden"),
        ("terraform.tfstate", "state"),
        ("prod.tfstate.backup", "state"),
        ("terraform.tfvars", "variables"),
        ("prod.auto.tfvars.json", "variables"),
        ("ü.tf", "ASCII"),
        ("a" * 101, "100 characters"),
    ],
)
def test_what_coder_would_drop_is_refused(name: str, says: str, folder: Path) -> None:
    (folder / name).write_text("x")
    (folder / ".hidden").write_text("x")
    with pytest.raises(ConfigurationError) as caught:
        packed(folder)
    problems = "\n".join(caught.value.problems)
    assert f"{name}: " in problems
    assert says in problems
    assert ".hidden: " in problems, "every problem at once"


def test_link_that_leaves_the_project_is_refused(folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="cannot be packed") as caught:
        packed(folder)
    assert "leaves the project" in caught.value.problems[0]


def test_link_in_a_circle_is_refused(folder: Path) -> None:
    (folder / "again").symlink_to(".")
    with pytest.raises(ConfigurationError) as caught:
        packed(folder)
    assert "a link to a folder that it is in" in caught.value.problems[0]


def test_too_big_names_the_largest_file(folder: Path) -> None:
    (folder / "big.txt").write_bytes(b"x" * LIMIT)
    with pytest.raises(TemplateError, match=r"largest file is big\.txt"):
        packed(folder)


def test_overlay_replaces_a_file_and_only_that(folder: Path) -> None:
    (folder / "release.json").write_text("{}")
    data = pack(folder, root=folder.parents[1], overlay={"release.json": b"new"}).data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        stream = archive.extractfile("release.json")
        assert stream is not None
        assert stream.read() == b"new"
    with pytest.raises(ConfigurationError, match=r"no missing\.json"):
        pack(folder, root=folder.parents[1], overlay={"missing.json": b""})
