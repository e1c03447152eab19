"""The twin is the same tar, and verify finds out when it is not."""

import hashlib
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rootfs import make_rootfs_tar

from hakim_actions.artifact import SUMS_NAME, ArtifactName, format_sums
from hakim_actions.errors import BuildError
from hakim_actions.image import rules_archive, zstd
from hakim_actions.image.verify import verify_paths

NAME = ArtifactName("base", "trixie", "amd64")
RAW = os.urandom(1000) * 5000

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")


def pack(folder: Path, raw: bytes) -> Path:
    """Write *raw* as an archive of two streams, and its twin; return the twin."""
    archive, twin = folder / NAME.archive, folder / NAME.twin
    half = len(raw) // 2
    archive.write_bytes(
        b"".join(lzma.compress(part, preset=0) for part in (raw[:half], raw[half:]))
    )
    zstd.pack_twin(archive, twin, raw_bytes=len(raw), env=os.environ)
    return twin


def test_the_twin_unpacks_to_the_bytes_of_the_archive(tmp_path: Path) -> None:
    twin = pack(tmp_path, RAW)

    unpacked = subprocess.run(["zstd", "-dc", twin], check=True, capture_output=True).stdout
    assert unpacked == RAW
    with twin.open("rb") as stream:
        assert zstd.raw_sha256(stream, limit=len(RAW)) == hashlib.sha256(RAW).hexdigest()


def test_the_bytes_do_not_depend_on_the_processors_of_the_machine(tmp_path: Path) -> None:
    raw = os.urandom(1 << 16) * 400  # more than one job of zstd
    several = pack(tmp_path, raw).read_bytes()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert pack(tmp_path, raw).read_bytes() == several
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],
        lambda data: data + b"more",
        lambda _: lzma.compress(RAW + b"more", preset=0),
    ],
    ids=["cut off", "garbage behind", "another size than was told"],
)
def test_no_twin_of_what_is_not_whole(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    archive = tmp_path / NAME.archive
    archive.write_bytes(damage(lzma.compress(RAW, preset=0)))
    with pytest.raises(BuildError, match="could not be made"):
        zstd.pack_twin(archive, tmp_path / NAME.twin, raw_bytes=len(RAW), env=os.environ)


def test_what_unpacks_to_more_than_the_archive_is_not_read_to_its_end(tmp_path: Path) -> None:
    twin = pack(tmp_path, b"\0" * (8 << 20))
    with twin.open("rb") as stream, pytest.raises(zstd.UnusableTwinError, match="more than"):
        zstd.raw_sha256(stream, limit=1 << 20)


class TestVerify:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An artifact of archive and twin, which is all that is looked at here."""
        monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
        monkeypatch.setattr(rules_archive, "MIN_RAW", 0)
        folder = tmp_path / "base"
        folder.mkdir()
        pack(folder, make_rootfs_tar(tmp_path / "rootfs.tar").read_bytes())
        return folder

    def broken(self, folder: Path, *, checksums_only: bool = False) -> dict[str, str]:
        sums = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("hakim-*")}
        (folder / SUMS_NAME).write_text(format_sums(sums))
        report = verify_paths([folder], checksums_only=checksums_only)
        return {failure.rule: failure.found for failure in report.failures}

    def test_a_twin_is_listed_and_the_same(self, folder: Path) -> None:
        assert self.broken(folder) == {}

    def test_a_twin_with_other_content_is_found(self, folder: Path) -> None:
        raw = lzma.decompress((folder / NAME.archive).read_bytes())
        other = subprocess.run(["zstd", "-c"], input=raw[:-1], capture_output=True, check=True)
        (folder / NAME.twin).write_bytes(other.stdout)
        assert "sha256" in self.broken(folder)["twin-same"]
        assert self.broken(folder, checksums_only=True) == {}

    def test_a_twin_that_is_longer_is_found(self, folder: Path) -> None:
        twin = folder / NAME.twin
        twin.write_bytes(twin.read_bytes() * 2)
        assert "more than" in self.broken(folder)["twin-same"]

    def test_a_twin_that_is_cut_off_is_found(self, folder: Path) -> None:
        twin = folder / NAME.twin
        twin.write_bytes(twin.read_bytes()[:-5])
        assert self.broken(folder) == {"twin-same": "the compressed data is damaged or no zstd"}

    def test_without_zstd_it_is_told_that_nothing_was_compared(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
        assert self.broken(folder) == {"twin-same": "The program 'zstd' was not found."}

    def test_a_twin_that_is_not_listed_is_found(self, folder: Path) -> None:
        twin = (folder / NAME.twin).rename(folder.parent / "away")
        self.broken(folder)
        twin.rename(folder / NAME.twin)
        rules = {failure.rule for failure in verify_paths([folder]).failures}
        assert rules == {"sums-complete"}
