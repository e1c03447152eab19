"""What is packed can be read by everything that people and Proxmox unpack templates with."""

import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from rootfs import (
    CAP_NET_RAW,
    EPOCH,
    file,
    folder,
    hard_link,
    make_rootfs_tar,
    read_tar,
    symlink,
)

from hakim_actions.image import order
from hakim_actions.image.pack import pack_tar

LONG = "usr/share/" + "/".join(["d" * 150] * 3) + "/" + "f" * 200
ODD = os.fsdecode(b"usr/share/caf\xc3\xa9 \xff")
CONTENT = {
    LONG: b"long",
    ODD: b"odd",
    "usr/share/big": bytes(range(256)) * 5000,
    "usr/share/hard": b"same",
    "usr/share/linked": b"same",
}


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of many pieces, with a file cut over several of them."""
    monkeypatch.setattr(order, "PIECE_SIZE", 1 << 18)
    source = make_rootfs_tar(
        tmp_path / "rootfs.tar",
        extra=[
            folder("./usr/share/" + "d" * 150),
            file(f"./{LONG}", b"long", xattrs={"user.note": b"\xff"}),
            file(f"./{ODD}", b"odd"),
            file("./usr/share/big", CONTENT["usr/share/big"]),
            file("./usr/share/linked", b"same", xattrs={"security.capability": CAP_NET_RAW}),
            hard_link("./usr/share/hard", "./usr/share/linked"),
            symlink("./usr/share/symbolic", LONG),
        ],
    )
    pack_tar(source, tmp_path / "image.tar.xz", epoch=EPOCH)
    return tmp_path / "image.tar.xz"


def _extracted(folder_: Path) -> dict[str, bytes]:
    return {name: (folder_ / name).read_bytes() for name in CONTENT}


def _unpack(image: Path, *command: str) -> Path:
    target = image.parent / "unpacked"
    target.mkdir()
    # The right to set capabilities and owners is not what is tested here.
    subprocess.run([*command], cwd=target, check=True, capture_output=True)
    assert (target / "usr/share/hard").samefile(target / "usr/share/linked")
    assert (target / "usr/share/symbolic").readlink() == Path(LONG)
    return target


def test_xz_finds_every_stream_whole(image: Path) -> None:
    subprocess.run([_program("xz"), "-t", str(image)], check=True)
    listing = subprocess.run(
        [_program("xz"), "--robot", "--list", str(image)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    totals = next(line.split("\t") for line in listing if line.startswith("totals"))
    assert int(totals[1]) > 5
    assert totals[6] == "CRC64"


def test_xz_decompresses_it_with_threads(image: Path) -> None:
    plain = subprocess.run(
        [_program("xz"), "-T0", "-dc", str(image)], check=True, capture_output=True
    ).stdout
    assert plain == lzma.decompress(image.read_bytes())


def test_python_reads_it(image: Path) -> None:
    members = {member.name.removeprefix("./"): member for member in read_tar(image)}
    assert {name: members[name].data for name in CONTENT if name != "usr/share/linked"} == {
        name: data for name, data in CONTENT.items() if name != "usr/share/linked"
    }
    assert members["usr/share/hard"].xattrs == {"security.capability": CAP_NET_RAW}


def test_gnu_tar_reads_it_as_proxmox_does(image: Path) -> None:
    options = ["--numeric-owner", "--no-same-owner", "--skip-old-files", "--exclude=./dev/*"]
    target = _unpack(image, _program("tar"), *options, "-xJf", str(image))
    assert _extracted(target) == CONTENT


def test_libarchive_reads_it(image: Path) -> None:
    target = _unpack(image, _program("bsdtar"), "--no-same-owner", "-xf", str(image))
    assert _extracted(target) == CONTENT


def test_busybox_reads_it(image: Path) -> None:
    target = _unpack(image, _program("busybox"), "tar", "-x", "-o", "-J", "-f", str(image))
    assert _extracted(target) == CONTENT
