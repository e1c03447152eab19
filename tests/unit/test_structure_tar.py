"""The reader against what GNU tar writes, and against damage of every kind."""

import io
import lzma
import os
import random
import subprocess
from pathlib import Path

import pytest
from rootfs import file, folder, rootfs_members, symlink, tar_bytes

from hakim_actions.image.rootfs import Rootfs, read_rootfs
from hakim_actions.image.tarreader import Kind
from hakim_actions.image.xzreader import ArchiveError, XzReader


def read(tar: bytes) -> Rootfs:
    return read_packed(lzma.compress(tar, preset=0))


def read_packed(data: bytes) -> Rootfs:
    return read_rootfs(XzReader(io.BytesIO(data), observe=lambda _: None))


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "oldgnu", "v7"])
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/passwd").write_text("root\n")
    (tree / "etc/same").hardlink_to(tree / "etc/passwd")
    (tree / "etc/soft").symlink_to("passwd")
    if form in {"gnu", "pax", "oldgnu"}:
        os.mkfifo(tree / "pipe")
        (tree / ("long-" * 30)).write_text("x")
    command = ["tar", f"--format={form}", "--sort=name", "-cf", "-", "-C", str(tree), "."]

    rootfs = read(subprocess.check_output(command))

    assert rootfs.members[""].kind is Kind.DIRECTORY
    assert rootfs.text("etc/passwd") == rootfs.text("etc/same") == rootfs.text("etc/soft")
    assert rootfs.text("etc/passwd") == "root\n"
    assert rootfs.members["etc/soft"].target == "passwd"
    expected = {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert rootfs.members.keys() == {"", *expected}


PAX_SPARSE = [["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")]


@pytest.mark.parametrize("form", [["--format=gnu"], *PAX_SPARSE], ids=" ".join)
def test_sparse_files_are_passed_over_in_every_form(tmp_path: Path, form: list[str]) -> None:
    with (tmp_path / "holes").open("wb") as stream:
        for hole in range(60):  # more than fit into the map of one header
            stream.seek(hole << 17)
            stream.write(b"data" * 2000)
    (tmp_path / "zz").write_text("the last")
    files = ["./holes", "./zz"]
    tar = subprocess.check_output(["tar", *form, "--sparse", "-cf", "-", "-C", tmp_path, *files])

    assert len(tar) < 4 << 20
    assert read(tar).members.keys() == {"holes", "zz"}


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("sbin/init", "usr/lib/systemd/systemd"),
        ("bin/../bin/bash", "usr/bin/bash"),
        ("../../etc/passwd", "etc/passwd"),
        ("loop", None),
        ("round/and/round", None),
        ("nowhere", None),
        ("up", "etc/passwd"),
    ],
)
def test_links_are_followed_inside_the_archive_only(path: str, leads_to: str | None) -> None:
    extra = [
        symlink("./loop", "loop"),
        symlink("./round", "round"),
        symlink("./up", "../../../../etc/passwd"),
    ]

    assert read(tar_bytes([*rootfs_members(), *extra])).resolve(path) == leads_to


def test_no_damage_to_a_tar_is_more_than_an_error() -> None:
    """Every outcome but a table of members or an ArchiveError is a bug."""
    noise = random.Random(20260101)
    good = tar_bytes([folder("./"), file("./a", "x" * 700), symlink("./b", "a" * 150)])
    refused = 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(noise.randrange(1, 4)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        start = noise.choice([0, 0, 512, 1024])
        repair_sum(data, start)
        try:
            read(bytes(data))
        except ArchiveError:
            refused += 1
    assert 100 < refused < 400


def repair_sum(data: bytearray, start: int) -> None:
    """Make the header at *start* valid again, so that its fields are looked at."""
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])


def test_no_damage_to_an_xz_goes_unnoticed() -> None:
    """The format has checksums over all of its parts, so any changed byte must be an error."""
    noise = random.Random(20260102)
    good = lzma.compress(tar_bytes(rootfs_members()), preset=0)
    assert read_packed(good).members

    for _ in range(200):
        data = bytearray(good)
        data[noise.randrange(len(data))] ^= noise.randrange(1, 256)
        with pytest.raises(ArchiveError):
            read_packed(bytes(data))
