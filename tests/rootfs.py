r"""Small root file systems that satisfy the image contract, made in memory and written as tars.

``make_rootfs_tar(path)`` writes a whole one. A test then says what it wants different: ``extra``
adds members, ``drop`` leaves some out, ``change`` gives one another content or other fields::

    make_rootfs_tar(path, drop=["./etc/network/interfaces"])
    make_rootfs_tar(path, change={"./etc/machine-id": b"0123\n"})
    make_rootfs_tar(path, change={"./usr/bin/sudo": {"mode": 0o755}})
    make_rootfs_tar(path, extra=[device("./dev/sda", major=8, minor=0)])

The ending of *path* chooses the compression: ``.tar``, ``.tar.xz`` or ``.tar.gz``.
"""

import dataclasses
import io
import struct
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from hakim_actions.debian import architecture_named, release_named

#: 2026-01-01 00:00 UTC; the time of every member that says nothing else.
EPOCH: Final = 1_767_225_600

#: security.capability of ``cap_net_raw=ep`` (revision 2), as ping has it.
CAP_NET_RAW: Final = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)

#: The password ``password`` (made with ``openssl passwd -6 -salt hakimtests password``).
BOOTSTRAP_CRYPT: Final = (
    "$6$hakimtests$DFEMdGgzsRhMwTepwqG8UtYBkYFN4lxa5hBhQmxfwe/h9jaIYMotiR2BlGsHNITp"
    "44VmSE3N7fHNNUJ7xxFki/"
)

_POINT_RELEASE: Final = {"trixie": "13.1", "bookworm": "12.12"}
_BASE_FILES: Final = {"trixie": "13.8+deb13u1", "bookworm": "12.4+deb12u12"}
_SYSTEMD: Final = {"trixie": "257.8-1~deb13u2", "bookworm": "252.39-1~deb12u1"}


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member of a tar; *kind* is one of tarfile's type bytes, *xattrs* maps names to bytes.

    Names that are not UTF-8 are written with surrogate escapes, as ``os.fsdecode`` gives them.
    """

    name: str
    kind: bytes = tarfile.REGTYPE
    data: bytes = b""
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    uname: str = "root"
    gname: str = "root"
    mtime: float = EPOCH
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    pax: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package: *files* are absolute paths as dpkg's list names them."""

    name: str
    version: str
    files: Sequence[str] = ()
    conffiles: Sequence[str] = ()
    arch: str = ""
    same: bool = False
    status: str = "install ok installed"
    depends: str = ""


def file(name: str, data: bytes | str = b"", **fields: Any) -> Member:
    """Return a regular file."""
    content = data.encode() if isinstance(data, str) else data
    return Member(name=name, data=content, **fields)


def folder(name: str, mode: int = 0o755, **fields: Any) -> Member:
    """Return a directory."""
    return Member(name=name, kind=tarfile.DIRTYPE, mode=mode, **fields)


def symlink(name: str, target: str, **fields: Any) -> Member:
    """Return a symbolic link to *target*."""
    return Member(name=name, kind=tarfile.SYMTYPE, link=target, mode=0o777, **fields)


def hard_link(name: str, target: str, **fields: Any) -> Member:
    """Return another name of the member called *target* (``./…``)."""
    return Member(name=name, kind=tarfile.LNKTYPE, link=target, **fields)


def device(name: str, *, major: int = 1, minor: int = 3, **fields: Any) -> Member:
    """Return a character device; the default is ``/dev/null``."""
    return Member(name=name, kind=tarfile.CHRTYPE, major=major, minor=minor, **fields)


def elf_stub(arch: str = "amd64") -> bytes:
    """Return the 64-byte header of a little-endian 64-bit ELF executable of *arch*."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    machine = architecture_named(arch).elf_machine
    return ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0)


def default_packages(release: str = "trixie") -> list[Package]:
    """Return the packages that every image has, with the files of theirs that the tar holds."""
    systemd = _SYSTEMD[release]
    return [
        Package(
            name="base-files",
            version=_BASE_FILES[release],
            files=["/etc/debian_version", "/etc/os-release", "/usr/lib/os-release"],
            conffiles=["/etc/debian_version"],
        ),
        Package(name="bash", version="5.2.37-2", files=["/bin/bash"]),
        Package(name="dpkg", version="1.22.21"),
        Package(name="libc6", version="2.41-12", files=["/lib/ld-stub.so"], same=True),
        Package(name="locales", version="2.41-12", files=["/usr/share/i18n/SUPPORTED"]),
        Package(name="systemd", version=systemd, files=["/lib/systemd/systemd"]),
        Package(name="systemd-sysv", version=systemd, files=["/sbin/init"]),
        Package(
            name="ifupdown",
            version="0.8.44",
            files=["/sbin/ifup", "/sbin/ifdown", "/lib/systemd/system/networking.service"],
        ),
        Package(name="iputils-ping", version="3:20240905-3", files=["/bin/ping"]),
        Package(
            name="openssh-server",
            version="1:10.0p1-7",
            files=["/usr/sbin/sshd", "/etc/ssh", "/etc/ssh/sshd_config"],
            conffiles=["/etc/ssh/sshd_config"],
        ),
        Package(name="sudo", version="1.9.16p2-3", files=["/usr/bin/sudo"]),
    ]


def dpkg_status(packages: Iterable[Package], arch: str) -> bytes:
    """Return ``var/lib/dpkg/status`` of *packages*; *arch* is the native architecture."""
    paragraphs = []
    for package in packages:
        lines = [
            f"Package: {package.name}",
            f"Status: {package.status}",
            "Priority: optional",
            "Section: admin",
            "Maintainer: Test <test@example.org>",
            f"Architecture: {package.arch or arch}",
            *(["Multi-Arch: same"] if package.same else []),
            f"Version: {package.version}",
            *([f"Depends: {package.depends}"] if package.depends else []),
            *(["Conffiles:"] if package.conffiles else []),
            *(f" {name} d41d8cd98f00b204e9800998ecf8427e" for name in package.conffiles),
            "Description: made for a test",
            " with a second line",
        ]
        paragraphs.append("\n".join(lines) + "\n")
    return "\n".join(paragraphs).encode()


def dpkg_database(packages: Sequence[Package], arch: str = "amd64") -> list[Member]:
    """Return the members below ``./var/lib/dpkg`` that record *packages* as installed."""
    info = "./var/lib/dpkg/info"
    members = [
        folder("./var/lib/dpkg"),
        folder(info),
        file("./var/lib/dpkg/arch", f"{arch}\n"),
        file("./var/lib/dpkg/status", dpkg_status(packages, arch)),
    ]
    for package in packages:
        foreign = package.arch not in {"", arch, "all"}
        stem = f"{package.name}:{package.arch or arch}" if package.same or foreign else package.name
        listed = ["/.", *_parents(package.files), *package.files]
        members.append(file(f"{info}/{stem}.list", "".join(f"{path}\n" for path in listed)))
        if package.conffiles:
            text = "".join(f"{path}\n" for path in package.conffiles)
            members.append(file(f"{info}/{stem}.conffiles", text))
    return members


def _parents(files: Iterable[str]) -> list[str]:
    """Return the directories above *files*, each once, parents first, as dpkg lists them."""
    found: dict[str, None] = {}
    for name in files:
        parts = name.split("/")[1:-1]
        for depth in range(1, len(parts) + 1):
            found["/" + "/".join(parts[:depth])] = None
    return [path for path in found if path not in set(files)]


def rootfs_members(
    *,
    variant: str = "base",
    release: str = "trixie",
    arch: str = "amd64",
    packages: Sequence[Package] | None = None,
) -> list[Member]:
    """Return the members of a whole image, the root directory first."""
    installed = default_packages(release) if packages is None else list(packages)
    return [
        *_folders(arch),
        *_usr(release, arch),
        *_etc(variant, release),
        *dpkg_database(installed, arch),
    ]


def _folders(arch: str) -> list[Member]:
    merged = ["bin", "sbin", "lib", *(["lib64"] if arch == "amd64" else [])]
    plain = (
        "boot dev etc etc/default etc/network etc/network/interfaces.d etc/ssh "
        "etc/ssh/sshd_config.d etc/sudoers.d etc/systemd etc/systemd/system "
        "etc/systemd/system-generators etc/systemd/system/multi-user.target.wants home media mnt "
        "opt proc run srv sys usr usr/lib/locale usr/lib/systemd usr/lib/systemd/system usr/local "
        "usr/local/bin usr/share usr/share/i18n var var/cache var/cache/apt var/lib var/lib/apt "
        "var/lib/apt/lists var/log"
    )
    return [
        folder("./"),
        *(folder(f"./{name}") for name in plain.split()),
        *(folder(f"./usr/{name}") for name in merged),
        *(symlink(f"./{name}", f"usr/{name}") for name in merged),
        folder("./root", 0o700),
        folder("./tmp", 0o1777),
        folder("./var/tmp", 0o1777),
        folder("./home/coder", 0o750, uid=1000, gid=1000, uname="coder", gname="coder"),
        folder("./home/coder/project", uid=1000, gid=1000, uname="coder", gname="coder"),
    ]


def _usr(release: str, arch: str) -> list[Member]:
    elf = elf_stub(arch)
    number = release_named(release).number
    os_release = (
        f'PRETTY_NAME="Debian GNU/Linux {number} ({release})"\nNAME="Debian GNU/Linux"\n'
        f'VERSION_ID="{number}"\nVERSION="{number} ({release})"\n'
        f"VERSION_CODENAME={release}\nID=debian\n"
    )
    programs = "usr/bin/bash usr/sbin/ifup usr/sbin/sshd usr/lib/systemd/systemd usr/lib/ld-stub.so"
    return [
        file("./usr/lib/os-release", os_release),
        *(file(f"./{name}", elf + name.encode(), mode=0o755) for name in programs.split()),
        file("./usr/bin/ping", elf, mode=0o755, xattrs={"security.capability": CAP_NET_RAW}),
        file("./usr/bin/sudo", elf + b"sudo", mode=0o4755),
        symlink("./usr/sbin/ifdown", "ifup"),
        symlink("./usr/sbin/init", "../lib/systemd/systemd"),
        file("./usr/lib/systemd/system/networking.service", "[Service]\nType=oneshot\n"),
        file("./usr/lib/systemd/system/ssh.service", "[Service]\nType=notify\n"),
        file("./usr/lib/locale/locale-archive", b"\x0c\x01\x02\xde en_US.utf8\0"),
        file("./usr/share/i18n/SUPPORTED", "en_US.UTF-8 UTF-8\n"),
    ]


def _etc(variant: str, release: str) -> list[Member]:
    bootstrap = release_named(release).bootstrap_password
    root_hash = BOOTSTRAP_CRYPT if bootstrap else "*"
    login = "yes" if bootstrap else "prohibit-password"
    return [
        symlink("./etc/os-release", "../usr/lib/os-release"),
        file("./etc/debian_version", f"{_POINT_RELEASE[release]}\n"),
        file(
            "./etc/hakim-release",
            f"VARIANT={variant}\nRELEASE={release}\nVERSION=2026.1.1\nCOMMIT={'0' * 40}\n",
        ),
        file("./etc/machine-id"),
        file("./etc/hostname", "hakim\n"),
        file("./etc/hosts", "127.0.0.1 localhost\n"),
        file(
            "./etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ncoder:x:1000:1000::/home/coder:/bin/bash\n",
        ),
        file("./etc/group", "root:x:0:\nsudo:x:27:coder\nshadow:x:42:\ncoder:x:1000:\n"),
        file(
            "./etc/shadow",
            f"root:{root_hash}:20454:0:99999:7:::\ncoder:!:20454:0:99999:7:::\n",
            mode=0o640,
            gid=42,
            gname="shadow",
        ),
        file("./etc/sudoers.d/coder", "coder ALL=(ALL) NOPASSWD:ALL\n", mode=0o440),
        file("./etc/default/locale", "LANG=en_US.UTF-8\n"),
        file("./etc/locale.gen", "en_US.UTF-8 UTF-8\n"),
        file(
            "./etc/network/interfaces",
            "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
        ),
        file("./etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n"),
        file("./etc/ssh/sshd_config.d/hakim.conf", f"PermitRootLogin {login}\n"),
        file("./etc/systemd/system-generators/lxc", "#!/bin/sh\nexit 0\n", mode=0o755),
        symlink(
            "./etc/systemd/system/multi-user.target.wants/networking.service",
            "/usr/lib/systemd/system/networking.service",
        ),
        symlink(
            "./etc/systemd/system/multi-user.target.wants/ssh.service",
            "/usr/lib/systemd/system/ssh.service",
        ),
    ]


def make_rootfs_tar(
    path: Path,
    *,
    variant: str = "base",
    release: str = "trixie",
    arch: str = "amd64",
    packages: Sequence[Package] | None = None,
    extra: Iterable[Member] = (),
    drop: Iterable[str] = (),
    change: Mapping[str, bytes | str | Mapping[str, Any]] | None = None,
    arrange: Callable[[list[Member]], Iterable[Member]] = list,
) -> Path:
    """Write an image that satisfies the contract but for what the test asks, and return *path*.

    ``drop`` takes names with everything below them, ``change`` takes new content (bytes or text)
    or a mapping of Member fields; a name in either that the image lacks is a mistake of the test
    and raises KeyError. ``arrange`` gets all members and returns them in the order to be written.
    """
    members = rootfs_members(variant=variant, release=release, arch=arch, packages=packages)
    members = _without(members, list(drop))
    members = _changed(members, change or {})
    write_tar(path, arrange([*members, *extra]))
    return path


def _without(members: list[Member], names: Sequence[str]) -> list[Member]:
    for name in names:
        kept = [m for m in members if m.name != name and not m.name.startswith(f"{name}/")]
        if len(kept) == len(members):
            raise KeyError(name)
        members = kept
    return members


def _changed(
    members: list[Member], change: Mapping[str, bytes | str | Mapping[str, Any]]
) -> list[Member]:
    by_name = {member.name: member for member in members}
    for name, new in change.items():
        if isinstance(new, str):
            fields: Mapping[str, Any] = {"data": new.encode()}
        else:
            fields = {"data": new} if isinstance(new, bytes) else new
        by_name[name] = dataclasses.replace(by_name[name], **fields)
    return list(by_name.values())


def write_tar(path: Path, members: Iterable[Member]) -> None:
    """Write *members* in the given order, in PAX format as ``tar --xattrs`` does."""
    modes: dict[str, Literal["w", "w:xz", "w:gz"]] = {".xz": "w:xz", ".gz": "w:gz"}
    with tarfile.open(
        path, modes.get(path.suffix, "w"), format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for member in members:
            archive.addfile(_header(member), io.BytesIO(member.data))


def tar_bytes(members: Iterable[Member]) -> bytes:
    """Return an uncompressed tar of *members*."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for member in members:
            archive.addfile(_header(member), io.BytesIO(member.data))
    return buffer.getvalue()


def _header(member: Member) -> tarfile.TarInfo:
    header = tarfile.TarInfo(member.name)
    header.type = member.kind
    header.size = len(member.data)
    header.linkname = member.link
    header.mode, header.uid, header.gid = member.mode, member.uid, member.gid
    header.uname, header.gname = member.uname, member.gname
    header.mtime = member.mtime
    header.devmajor, header.devminor = member.major, member.minor
    attributes = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
        for name, value in member.xattrs.items()
    }
    header.pax_headers = {**attributes, **member.pax}
    return header


def read_tar(path: Path) -> list[Member]:
    """Return the members of a tar, compressed or not, in its order, as Python's tarfile sees them.

    User and group names, and times below a second, are as they stand in the tar.
    """
    with tarfile.open(path, errors="surrogateescape") as archive:
        return [_member(archive, header) for header in archive]


def _member(archive: tarfile.TarFile, header: tarfile.TarInfo) -> Member:
    stream = archive.extractfile(header) if header.isreg() else None
    prefix = "SCHILY.xattr."
    return Member(
        name=header.name,
        kind=tarfile.REGTYPE if header.isreg() else header.type,
        data=stream.read() if stream else b"",
        link=header.linkname,
        mode=header.mode,
        uid=header.uid,
        gid=header.gid,
        uname=header.uname,
        gname=header.gname,
        mtime=header.mtime,
        major=header.devmajor,
        minor=header.devminor,
        xattrs={
            name.removeprefix(prefix): value.encode("utf-8", "surrogateescape")
            for name, value in header.pax_headers.items()
            if name.startswith(prefix)
        },
        pax={k: v for k, v in header.pax_headers.items() if not k.startswith(prefix)},
    )
