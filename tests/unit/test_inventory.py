"""The inventory reads from a tar alone what dpkg would say in the running image."""

import io
import os
from pathlib import Path

import pytest
from rootfs import (
    EPOCH,
    Package,
    default_packages,
    dpkg_database,
    file,
    folder,
    make_rootfs_tar,
    symlink,
    write_tar,
)

from hakim_actions.errors import BuildError
from hakim_actions.image.inventory import Inventory
from hakim_actions.image.pack import pack_tar


def _inventory(folder_: Path, *packages: Package, arch: str = "amd64") -> Inventory:
    members = [folder("./"), *(symlink(f"./{n}", f"usr/{n}") for n in ("bin", "sbin", "lib"))]
    write_tar(folder_ / "rootfs.tar", [*members, *dpkg_database(packages, arch)])
    return Inventory.of_tar(folder_ / "rootfs.tar")


def test_installed_packages_and_their_versions(tmp_path: Path) -> None:
    inventory = _inventory(
        tmp_path,
        Package(name="zsh", version="5.9-4"),
        Package(name="git", version="1:2.47.3-0+deb13u1"),
        Package(name="gone", version="1", status="deinstall ok config-files"),
        Package(name="broken", version="1", status="install ok half-installed"),
        Package(name="tzdata", version="2025b-4", arch="all"),
    )
    assert list(inventory.packages.items()) == [
        ("git", "1:2.47.3-0+deb13u1"),
        ("tzdata", "2025b-4"),
        ("zsh", "5.9-4"),
    ]


@pytest.mark.parametrize(("native", "foreign"), [("amd64", "i386"), ("arm64", "armhf")])
def test_a_foreign_package_is_named_with_its_architecture(
    tmp_path: Path, native: str, foreign: str
) -> None:
    packages = [
        Package(name="libc6", version="2.41-12", same=True),
        Package(name="bash", version="5"),
        Package(name="libc6", version="2.41-12", same=True, arch=foreign),
    ]
    inventory = _inventory(tmp_path, *packages, arch=native)
    assert set(inventory.packages) == {"libc6", "bash", f"libc6:{foreign}"}


def test_owners_are_found_where_the_tar_has_the_file(tmp_path: Path) -> None:
    inventory = _inventory(
        tmp_path,
        Package(name="bash", version="5", files=["/bin/bash", "/usr/share/doc/bash/copyright"]),
        Package(
            name="openssh-server",
            version="1",
            files=["/lib/systemd/system/ssh.service"],
            conffiles=["/etc/ssh/sshd_config"],
        ),
        Package(name="libc6", version="2", files=["/lib/ld.so"], same=True),
    )
    assert inventory.owners[b"usr/bin/bash"] == "bash"
    assert inventory.owners[b"usr/share/doc/bash/copyright"] == "bash"
    assert inventory.owners[b"usr/lib/systemd/system/ssh.service"] == "openssh-server"
    assert inventory.owners[b"etc/ssh/sshd_config"] == "openssh-server"
    assert inventory.owners[b"usr/lib/ld.so"] == "libc6:amd64"
    assert b"bin/bash" not in inventory.owners


def test_a_path_of_two_packages_belongs_to_the_first_by_name(tmp_path: Path) -> None:
    both = [Package(name=name, version="1", files=["/usr/share/x"]) for name in ("zzz", "aaa")]
    assert _inventory(tmp_path, *both).owners[b"usr/share/x"] == "aaa"


def test_names_of_files_are_bytes(tmp_path: Path) -> None:
    members = [
        file("./var/lib/dpkg/info/odd.list", b"/usr/share/na\xefve\n/usr/share/a b\n"),
        file("./var/lib/dpkg/status", b"\xff\xfe not text"),
    ]
    write_tar(tmp_path / "rootfs.tar", members)
    inventory = Inventory.of_tar(tmp_path / "rootfs.tar")
    assert inventory.owners == {b"usr/share/na\xefve": "odd", b"usr/share/a b": "odd"}
    assert inventory.packages == {}


def test_a_packed_image_says_the_same_as_its_tar(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    pack_tar(source, tmp_path / "image.tar.xz", epoch=EPOCH)
    with (tmp_path / "image.tar.xz").open("rb") as stream:
        packed = Inventory.of_xz(stream, source="image.tar.xz")
    assert packed == Inventory.of_tar(source)
    assert set(packed.packages) == {package.name for package in default_packages()}


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    pack_tar(source, tmp_path / "image.tar.xz", epoch=EPOCH)
    half = (tmp_path / "image.tar.xz").read_bytes()[:-2000]
    with pytest.raises(BuildError, match=r"image\.tar\.xz"):
        Inventory.of_xz(io.BytesIO(half), source="image.tar.xz")


def test_a_database_that_is_no_file_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "rootfs.tar", [symlink("./var/lib/dpkg/status", "/etc/shadow")])
    with pytest.raises(BuildError, match=r"\./var/lib/dpkg/status"):
        Inventory.of_tar(tmp_path / "rootfs.tar")


def test_only_headers_and_the_database_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = file("./usr/bin/large", bytes(8 << 20))
    source = make_rootfs_tar(tmp_path / "rootfs.tar", extra=[large])
    pread, lengths = os.pread, []

    def counting(handle: int, length: int, offset: int) -> bytes:
        lengths.append(length)
        return pread(handle, length, offset)

    monkeypatch.setattr(os, "pread", counting)
    Inventory.of_tar(source)
    assert sum(lengths) < 1 << 20
