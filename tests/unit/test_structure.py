"""Each rule about an image has an archive here that breaks it, and one that keeps all of them."""

import functools
import io
import lzma
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rootfs import (
    BOOTSTRAP_CRYPT,
    Member,
    Package,
    default_packages,
    device,
    file,
    folder,
    hard_link,
    make_rootfs_tar,
    rootfs_members,
    symlink,
    tar_bytes,
    write_tar,
)

from hakim_actions.image import rules_archive, xzreader
from hakim_actions.image.rules import CHECKS, Failure
from hakim_actions.image.verify import verify_paths

NAME = "hakim-base-trixie-amd64.tar.xz"


@pytest.fixture(autouse=True)
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives of these tests have some kilobytes."""
    monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
    monkeypatch.setattr(rules_archive, "MIN_RAW", 0)


def image(path: Path, **different: Any) -> Path:
    """Write an image and compress it in little time."""
    tar = make_rootfs_tar(path.with_name("rootfs.tar"), **different)
    path.write_bytes(lzma.compress(tar.read_bytes(), preset=0))
    return path


def failures(path: Path) -> tuple[Failure, ...]:
    return verify_paths([path]).failures


def rules(path: Path) -> set[str]:
    return {failure.rule for failure in failures(path)}


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An image that breaks one rule, in the words of make_rootfs_tar, and what must be found."""

    rule: str
    found: str
    name: str = NAME
    extra: tuple[Member, ...] = ()
    drop: tuple[str, ...] = ()
    change: Mapping[str, bytes | str | Mapping[str, Any]] = field(default_factory=dict)
    packages: list[Package] = field(default_factory=default_packages)
    also: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}"


def without(name: str) -> list[Package]:
    return [package for package in default_packages() if package.name != name]


PASSWD = "root:x:0:0:root:/root:/bin/bash\n"  # noqa: S105 - a file, not a secret
SHADOW = "root:{root}:20454:0:99999:7:::\ncoder:{coder}:20454:0:99999:7:::\n"
HASH = BOOTSTRAP_CRYPT

#: Of the password "other".
OTHER_CRYPT = (
    "$6$hakimtests$e3X6fBrfrE2gwY.QVFuzUr9mN2GELaCOZwunBN3U0B/IAoxbJdwGCllv"
    "lrnreb.sEHyv8DH6UBoDGGe60h8Zy/"
)

BROKEN = [
    Broken(
        rule="members-start-with-dot", found="etc/passwd-", extra=(file("etc/passwd-", "root\n"),)
    ),
    Broken(rule="members-stay-inside", found="./a/../../b", extra=(file("./a/../../b"),)),
    Broken(
        rule="members-stay-inside",
        found="/etc/motd",
        extra=(file("/etc/motd"),),
        also=frozenset({"members-start-with-dot"}),
    ),
    Broken(
        rule="members-stay-inside",
        found="opt/out/x behind a symbolic link",
        extra=(symlink("./opt/out", "/tmp"), file("./opt/out/x")),
    ),
    Broken(rule="members-unique", found="./etc/hosts", extra=(file("./etc/hosts", "other\n"),)),
    Broken(rule="members-unique", found=".//etc//hosts", extra=(file(".//etc//hosts"),)),
    Broken(
        rule="hard-links-after-targets",
        found="./opt/early",
        extra=(hard_link("./opt/early", "./opt/late"), file("./opt/late")),
    ),
    Broken(rule="no-device-nodes", found="dev/null", extra=(device("./dev/null", mode=0o666),)),
    Broken(rule="ids-below-65536", found="opt/x (65536:0)", extra=(file("./opt/x", uid=65536),)),
    Broken(rule="ids-below-65536", found="(0:3000000)", extra=(file("./opt/x", gid=3_000_000),)),
    Broken(rule="not-world-writable", found="(0666)", extra=(file("./opt/x", mode=0o666),)),
    Broken(rule="not-world-writable", found="tmp (0777)", change={"./tmp": {"mode": 0o777}}),
    Broken(
        rule="init-is-systemd",
        found="missing",
        drop=("./usr/lib/systemd/systemd",),
    ),
    Broken(
        rule="init-is-systemd",
        found="missing",
        change={"./usr/sbin/init": {"link": "init"}},
    ),
    Broken(
        rule="init-is-systemd",
        found="leads to /usr/bin/bash",
        change={"./usr/sbin/init": {"link": "/bin/bash"}},
    ),
    Broken(
        rule="init-is-systemd",
        found="0644",
        change={"./usr/lib/systemd/systemd": {"mode": 0o644}},
    ),
    Broken(
        rule="init-is-for-the-architecture",
        found="init is for amd64",
        name="hakim-base-trixie-arm64.tar.xz",
        packages=[
            Package(name=package.name, version=package.version, arch="arm64")
            for package in default_packages()
        ],
    ),
    Broken(
        rule="init-is-for-the-architecture",
        found="not a 64-bit ELF",
        change={"./usr/lib/systemd/systemd": b"#!/bin/sh\n"},
    ),
    Broken(rule="os-release-matches", found="missing", drop=("./usr/lib/os-release",)),
    Broken(
        rule="os-release-matches",
        found="VERSION_ID=12",
        change={"./usr/lib/os-release": "ID=debian\nVERSION_ID=12\nVERSION_CODENAME='trixie'\n"},
    ),
    Broken(rule="hakim-release-matches", found="missing", drop=("./etc/hakim-release",)),
    Broken(
        rule="hakim-release-matches",
        found="VARIANT=php",
        change={"./etc/hakim-release": "VARIANT=php\nRELEASE=trixie\n"},
    ),
    Broken(rule="packages-match", found="no package dpkg", packages=without("dpkg")),
    Broken(
        rule="packages-match",
        found="base-files 12.4",
        packages=[*without("base-files"), Package(name="base-files", version="12.4+deb12u12")],
    ),
    Broken(
        rule="packages-match",
        found="dpkg for i386",
        packages=[*without("dpkg"), Package(name="dpkg", version="1", arch="i386")],
    ),
    Broken(
        rule="packages-configured",
        found="half (half-configured)",
        packages=[
            *default_packages(),
            Package(name="half", version="1", status="install ok half-configured"),
        ],
    ),
    Broken(rule="ifupdown-installed", found="no package ifupdown", packages=without("ifupdown")),
    Broken(rule="ifupdown-installed", found="no /sbin/ifup", drop=("./usr/sbin/ifup",)),
    Broken(
        rule="ssh-server-installed",
        found="no package openssh-server",
        packages=without("openssh-server"),
    ),
    Broken(rule="eth0-by-dhcp", found="missing", drop=("./etc/network/interfaces",)),
    Broken(
        rule="eth0-by-dhcp",
        found="no line 'iface eth0 inet dhcp'",
        change={"./etc/network/interfaces": "auto eth0\n#iface eth0 inet dhcp\n"},
    ),
    Broken(
        rule="eth0-by-dhcp",
        found="nothing that starts eth0",
        change={"./etc/network/interfaces": "iface eth0 inet dhcp\n"},
    ),
    Broken(rule="lxc-generator", found="missing", drop=("./etc/systemd/system-generators/lxc",)),
    Broken(
        rule="lxc-generator",
        found="0644",
        change={"./etc/systemd/system-generators/lxc": {"mode": 0o644}},
    ),
    Broken(
        rule="locale-en-us",
        found="LANG=C.UTF-8",
        change={"./etc/default/locale": 'LANG="C.UTF-8"\n'},
    ),
    Broken(
        rule="locale-en-us",
        found="no en_US.utf8",
        drop=("./usr/lib/locale/locale-archive",),
    ),
    Broken(rule="user-coder", found="no user coder", change={"./etc/passwd": PASSWD}),
    Broken(
        rule="user-coder",
        found="1001:1001",
        change={"./etc/passwd": f"{PASSWD}coder:x:1001:1001::/home/coder:/bin/bash\n"},
    ),
    Broken(
        rule="user-coder",
        found="/bin/sh",
        change={"./etc/passwd": f"{PASSWD}coder:x:1000:1000::/home/coder:/bin/sh\n"},
    ),
    Broken(
        rule="user-coder",
        found="home /srv",
        change={"./etc/passwd": f"{PASSWD}coder:x:1000:1000::/srv:/bin/bash\n"},
    ),
    Broken(rule="project-folder", found="missing", drop=("./home/coder/project",)),
    Broken(rule="project-folder", found="0:0", change={"./home/coder": {"uid": 0, "gid": 0}}),
    Broken(
        rule="sudo-without-password",
        found="no rule",
        change={"./etc/sudoers.d/coder": "coder ALL=(ALL) ALL\n# coder ALL=NOPASSWD:ALL\n"},
    ),
    Broken(
        rule="sudo-without-password",
        found="no rule",
        drop=("./etc/sudoers.d/coder",),
        extra=(file("./etc/sudoers.d/coder.conf", "coder ALL=(ALL) NOPASSWD:ALL\n", mode=0o440),),
    ),
    Broken(
        rule="sudo-without-password",
        found="no rule",
        change={"./etc/sudoers.d/coder": "%wheel ALL=(ALL) NOPASSWD:ALL\n"},
    ),
    Broken(
        rule="sudo-without-password",
        found="no package sudo",
        packages=without("sudo"),
    ),
    Broken(
        rule="sudoers-protected",
        found="etc/sudoers.d/coder (1000, 0440)",
        change={"./etc/sudoers.d/coder": {"uid": 1000}},
    ),
    Broken(
        rule="root-password",
        found="no password",
        change={"./etc/shadow": SHADOW.format(root="*", coder="!")},
    ),
    Broken(
        rule="root-password",
        found="no password",
        change={"./etc/shadow": SHADOW.format(root="", coder="!")},
    ),
    Broken(
        rule="root-password",
        found="has a password",
        name="hakim-base-bookworm-amd64.tar.xz",
        packages=default_packages("bookworm"),
        change={"./etc/shadow": SHADOW.format(root=HASH, coder="!")},
    ),
    Broken(
        rule="root-password",
        found="another password",
        change={"./etc/shadow": SHADOW.format(root=OTHER_CRYPT, coder="!")},
    ),
    Broken(rule="root-password", found="no root", change={"./etc/shadow": "coder:!:1::::::\n"}),
    Broken(
        rule="accounts-locked",
        found="coder with a password",
        change={"./etc/shadow": SHADOW.format(root=HASH, coder=HASH)},
    ),
    Broken(
        rule="accounts-locked",
        found="coder with a password",
        change={"./etc/shadow": SHADOW.format(root=HASH, coder="")},
    ),
    Broken(
        rule="accounts-locked",
        found="coder with a password",
        change={"./etc/passwd": f"{PASSWD}coder::1000:1000::/home/coder:/bin/bash\n"},
    ),
    Broken(
        rule="no-ssh-host-keys",
        found="etc/ssh/ssh_host_rsa_key",
        extra=(file("./etc/ssh/ssh_host_rsa_key", mode=0o600),),
    ),
    Broken(
        rule="no-authorized-keys",
        found="root/.ssh/authorized_keys",
        extra=(file("./root/.ssh/authorized_keys", "ssh-ed25519 AAAA builder\n"),),
    ),
    Broken(rule="machine-id-empty", found="missing", drop=("./etc/machine-id",)),
    Broken(
        rule="machine-id-empty",
        found="uninitialized",
        change={"./etc/machine-id": "uninitialized\n"},
    ),
    Broken(
        rule="machine-id-empty",
        found="symbolic link",
        drop=("./etc/machine-id",),
        extra=(symlink("./etc/machine-id", "/run/machine-id"),),
    ),
    Broken(
        rule="no-dbus-machine-id",
        found="var/lib/dbus/machine-id",
        extra=(file("./var/lib/dbus/machine-id", "0123456789abcdef\n"),),
    ),
    Broken(
        rule="no-name-servers",
        found="nameserver 192.0.2.1",
        extra=(file("./etc/resolv.conf", "# from the builder\nnameserver 192.0.2.1\n"),),
    ),
    Broken(
        rule="no-proxy",
        found="etc/environment",
        extra=(file("./etc/environment", "PATH=/bin\nhttps_proxy=http://proxy:3128\n"),),
    ),
    Broken(
        rule="no-proxy",
        found="etc/profile.d/net.sh",
        extra=(file("./etc/profile.d/net.sh", "export HTTP_PROXY=http://proxy:3128\n"),),
    ),
    Broken(
        rule="no-proxy",
        found="etc/apt/apt.conf.d/01proxy",
        extra=(file("./etc/apt/apt.conf.d/01proxy", 'Acquire::http::Proxy "http://p:1";\n'),),
    ),
    Broken(
        rule="no-apt-lists",
        found="var/lib/apt/lists/x_Packages",
        extra=(file("./var/lib/apt/lists/x_Packages", "Package: a\n"),),
    ),
    Broken(
        rule="no-apt-cache",
        found="var/cache/apt/pkgcache.bin",
        extra=(file("./var/cache/apt/pkgcache.bin", b"\0"),),
    ),
    Broken(
        rule="no-logs",
        found="var/log/apt/history.log",
        extra=(file("./var/log/apt/history.log", "Start-Date\n"),),
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_an_image_that_breaks_one_rule_fails_by_that_rule_and_no_other(
    tmp_path: Path, broken: Broken
) -> None:
    release = broken.name.split("-")[2]
    path = image(
        tmp_path / broken.name,
        release=release,
        packages=broken.packages,
        extra=broken.extra,
        drop=broken.drop,
        change=broken.change,
    )

    told = failures(path)

    assert {failure.rule for failure in told} == {broken.rule} | broken.also
    assert broken.found in " ".join(f.found for f in told if f.rule == broken.rule)
    assert all(f.file == str(path) and f.expected and f.why for f in told)


@pytest.mark.parametrize("bound", ["size-compressed", "size-raw"])
@pytest.mark.parametrize("side", ["MIN", "MAX"])
def test_an_image_that_is_too_small_or_too_big_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, side: str
) -> None:
    limit = 1 << 40 if side == "MIN" else 1
    monkeypatch.setattr(rules_archive, f"{side}_{bound.removeprefix('size-').upper()}", limit)

    assert rules(image(tmp_path / NAME)) == {bound}


def test_every_rule_about_an_image_has_an_archive_that_breaks_it() -> None:
    here = {broken.rule for broken in BROKEN} | {"size-compressed", "size-raw"}

    assert here == {rule for rule in CHECKS if not rule.startswith("manifest-")}


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_a_good_image_passes(tmp_path: Path, release: str, arch: str) -> None:
    path = image(
        tmp_path / f"hakim-php-{release}-{arch}.tar.xz",
        variant="php",
        release=release,
        arch=arch,
        packages=default_packages(release),
    )

    assert failures(path) == ()


def test_what_is_harmless_is_no_failure(tmp_path: Path) -> None:
    path = image(
        tmp_path / NAME,
        packages=[
            *default_packages(),
            Package(name="libc6", version="2", arch="i386"),
            Package(name="gone", version="1", status="deinstall ok config-files"),
        ],
        drop=["./etc/default/locale", "./etc/network/interfaces"],
        extra=[
            symlink("./etc/default/locale", "../locale.conf"),
            file("./etc/locale.conf", "LANG=en_US.UTF-8\n"),
            file("./etc/network/interfaces", "source /etc/network/interfaces.d/*\n"),
            file("./etc/network/interfaces.d/eth0", "allow-hotplug eth0\niface eth0 inet dhcp\n"),
            symlink("./var/lib/dbus/machine-id", "/etc/machine-id"),
            file("./etc/resolv.conf", "# filled by DHCP\n"),
            file("./etc/environment", "# http_proxy=http://example.org\n"),
            file("./etc/apt/apt.conf.d/99x", '// Acquire::http::Proxy "http://p:1";\n'),
            file("./var/log/wtmp", mode=0o664),
            symlink("./var/log/README", "../../usr/share/doc/systemd/README.logs"),
            file("./var/lib/apt/lists/lock", mode=0o640),
            folder("./root/.ssh", 0o700),
            file("./root/.ssh/authorized_keys"),
            file("./opt/first", "x"),
            hard_link("./opt/second", "./opt/first"),
        ],
    )

    assert failures(path) == ()


def test_all_failures_are_told_at_once(tmp_path: Path) -> None:
    path = image(
        tmp_path / NAME,
        drop=["./etc/machine-id", "./etc/network/interfaces"],
        extra=[device("./dev/null", mode=0o666), file("./var/log/syslog", "x")],
    )

    assert rules(path) == {"machine-id-empty", "eth0-by-dhcp", "no-device-nodes", "no-logs"}


def test_a_long_list_of_members_is_cut(tmp_path: Path) -> None:
    logs = [file(f"./var/log/{number}.log", "x") for number in range(9)]

    (failure,) = failures(image(tmp_path / NAME, extra=logs))

    assert failure.found.endswith("var/log/4.log and 4 more")


def test_names_that_could_command_a_terminal_are_escaped(tmp_path: Path) -> None:
    evil = "./var/log/\x1b[2J\udcff::error::"

    (failure,) = failures(image(tmp_path / NAME, extra=[file(evil, "x")]))

    assert failure.found == r"var/log/\x1b[2J\udcff::error::"


def compressed(path: Path, data: bytes) -> Path:
    path.write_bytes(lzma.compress(data, preset=0))
    return path


@functools.cache
def good_tar() -> bytes:
    return tar_bytes(rootfs_members(packages=default_packages()))


def in_streams(tar: bytes, cut: int = 10_000) -> bytes:
    pieces = [tar[at : at + cut] for at in range(0, len(tar), cut)]
    return b"".join(lzma.compress(piece, preset=0) for piece in pieces)


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "an empty file": (lambda: b"", "the file is empty"),
    "garbage": (lambda: b"garbage" * 100, "not xz"),
    "zeros": (lambda: bytes(5000), "stray zero bytes"),
    "a tar that is not compressed": (good_tar, "not xz"),
    "a cut-off file": (lambda: lzma.compress(good_tar(), preset=0)[:-40], "in the middle"),
    "a flipped bit": (lambda: flipped(lzma.compress(good_tar(), preset=0)), "damaged"),
    "streams with the last one missing": (
        lambda: in_streams(good_tar()[:20_000]),
        "without its end mark",
    ),
    "a tar cut in a member": (lambda: lzma.compress(good_tar()[:2000]), "the tar ends"),
    "a tar with half an end mark": (
        lambda: lzma.compress(tar_bytes([file("./x")])[: 2 * 512]),
        "half end mark",
    ),
    "garbage behind the xz": (lambda: lzma.compress(good_tar(), preset=0) + b"garbage", "not xz"),
    "stray padding": (lambda: lzma.compress(good_tar(), preset=0) + b"\0" * 3, "stray zero bytes"),
    "two tars": (lambda: lzma.compress(good_tar() * 2, preset=0), "data follows"),
    "something else compressed": (lambda: lzma.compress(b"not a tar\n" * 100), "no tar"),
    "compressed twice": (
        lambda: lzma.compress(lzma.compress(good_tar(), preset=0)),
        "compressed twice",
    ),
    "an empty tar": (lambda: lzma.compress(tar_bytes([])), "no members"),
    "an unknown type": (
        lambda: lzma.compress(tar_bytes([Member(name="./x", kind=b"Z")])),
        "unknown type b'Z'",
    ),
    "a hostile dictionary": (
        lambda: lzma.compress(
            good_tar(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 256 << 20, "preset": 0}]
        ),
        "emory",
    ),
    "no root file system": (
        lambda: lzma.compress(tar_bytes([folder("./"), file("./README", "hello")])),
        "only README",
    ),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("what", UNREADABLE)
def test_an_archive_that_is_no_root_file_system_fails_once(tmp_path: Path, what: str) -> None:
    make, found = UNREADABLE[what]
    path = tmp_path / NAME
    path.write_bytes(make())

    (failure,) = failures(path)

    assert failure.rule == "archive-readable"
    assert found in failure.found


def test_the_metadata_archive_fails_as_such(tmp_path: Path) -> None:
    names = ["config", "config-user", "create-message", "excludes-user", "expiry"]
    write_tar(tmp_path / NAME, [file(name, "x") for name in names])

    (failure,) = failures(tmp_path / NAME)

    assert failure.rule == "not-the-metadata"
    assert "create-message" in failure.found


@pytest.mark.parametrize("inner", ["./rootfs.tar", "./rootfs.tar.xz", "rootfs", "image/rootfs"])
def test_a_tar_in_a_tar_fails_as_such(tmp_path: Path, inner: str) -> None:
    content = good_tar()
    if inner.endswith(".xz"):
        content = lzma.compress(content, preset=0)
    write_tar(tmp_path / NAME, [file(inner, content)])

    (failure,) = failures(tmp_path / NAME)

    assert failure.rule == ("archive-readable" if "/" in inner.strip("./") else "not-nested")


@pytest.mark.parametrize("padding", [0, 4, 512])
def test_streams_one_after_another_are_read_as_one(tmp_path: Path, padding: int) -> None:
    half = 512 * 7 + 100
    tar = good_tar()
    parts = [
        lzma.compress(tar[:half]),
        bytes(padding),
        lzma.compress(b""),
        lzma.compress(tar[half:]),
    ]
    path = tmp_path / NAME
    path.write_bytes(b"".join(parts) + bytes(padding))

    assert failures(path) == ()


LONG = "./opt/" + "/".join(["a-rather-long-name-of-a-folder"] * 12)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_big_numbers_are_read_in_both_formats(tmp_path: Path, form: int) -> None:
    path = tmp_path / NAME
    extra = [file(f"{LONG}/x", uid=3_000_000), symlink(f"{LONG}/y", LONG), folder("./opt/ü")]
    with tarfile.open(path, "w:xz", format=form, preset=0) as archive:
        for member in [*rootfs_members(packages=default_packages()), *extra]:
            add(archive, member)

    (failure,) = failures(path)

    assert failure.found == f"{LONG.removeprefix('./')}/x (3000000:0)"


def add(archive: tarfile.TarFile, member: Member) -> None:
    header = tarfile.TarInfo(member.name)
    header.type, header.linkname = member.kind, member.link
    header.size, header.mode = len(member.data), member.mode
    header.uid, header.gid = member.uid, member.gid
    archive.addfile(header, io.BytesIO(member.data))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("rootfs.tar.xz", "not the name of a template"),
        ("hakim-base-trixie-amd64.meta.tar.xz", "not the name of a template"),
        ("hakim-base-trixy-amd64.tar.xz", "unknown release 'trixy'"),
        ("hakim-base-trixie-x86.tar.xz", "unknown architecture 'x86'"),
    ],
)
def test_a_name_that_promises_nothing_fails(tmp_path: Path, name: str, found: str) -> None:
    path = compressed(tmp_path / name, good_tar())

    (failure,) = failures(path)

    assert failure.rule == "artifact-name"
    assert found in failure.found


def test_a_versioned_name_is_held_to_the_same_rules(tmp_path: Path) -> None:
    path = compressed(tmp_path / "hakim-base-trixie-amd64_2026.1.1.tar.xz", good_tar())

    assert failures(path) == ()


def test_a_header_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    tar = bytearray(tar_bytes([file("./x", "data")]))
    tar[124:136] = b"\xff" * 12
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])

    (failure,) = failures(compressed(tmp_path / NAME, bytes(tar)))

    assert "negative" in failure.found


def test_the_number_of_members_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hakim_actions.image.rootfs.MAX_MEMBERS", 10)

    (failure,) = failures(compressed(tmp_path / NAME, good_tar()))

    assert "more than 10 members" in failure.found


def test_what_is_kept_of_an_archive_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakim_actions.image.rootfs.MAX_KEPT", 10_000)
    extra = [file(f"./etc/profile.d/{number}.sh", "#" * 1000) for number in range(20)]

    (failure,) = failures(image(tmp_path / NAME, extra=extra))

    assert "too much" in failure.found


def test_what_is_unpacked_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xzreader, "UNPACKED_LIMIT", 1 << 20)

    (failure,) = failures(image(tmp_path / NAME, extra=[file("./opt/big", bytes(2 << 20))]))

    assert "unpacks to more than" in failure.found


def test_dpkg_status_is_read_through_big_archives_without_keeping_them(tmp_path: Path) -> None:
    """What the rules do not read is skipped: 64 MiB of content leave no trace in memory."""
    path = image(tmp_path / NAME, extra=[file("./opt/big", bytes(64 << 20))])
    tracemalloc.start()
    try:
        assert failures(path) == ()
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
