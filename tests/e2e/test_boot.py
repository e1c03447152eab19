"""A real container from a real image, on this machine's own LXC."""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hakim_actions.catalog import CommandCheck
from hakim_actions.errors import VerificationError
from hakim_actions.image.boot import BootFailedError, boot_test
from hakim_actions.image.sandbox import sandbox

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make containers"),
]

ROOT = Path(__file__).parents[2]

#: The least that keeps the image contract; no variant of the catalog, so nothing more is promised.
#: What it builds is kept by the hash of this text.
SMALL_IMAGE = textwrap.dedent(
    r"""
    set -eu
    root=$1
    debootstrap --variant=minbase \
      --include=systemd,systemd-sysv,dbus,ifupdown,iproute2,isc-dhcp-client,openssh-server,sudo \
      bookworm "$root"
    chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash coder
    echo 'coder ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/coder"
    printf '%s\n' 'auto lo' 'iface lo inet loopback' 'auto eth0' 'iface eth0 inet dhcp' \
      >"$root/etc/network/interfaces"
    cd "$root/etc/systemd/system"
    for unit in sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
      systemd-journald-audit.socket; do
      ln -s /dev/null "$unit"
    done
    mkdir service.d
    cat >service.d/unprivileged.conf <<'UNIT'
    [Service]
    LoadCredential=
    PrivateDevices=no
    PrivateTmp=no
    ProtectControlGroups=no
    ProtectHome=no
    ProtectHostname=no
    ProtectKernelLogs=no
    ProtectKernelModules=no
    ProtectKernelTunables=no
    ProtectProc=default
    ProtectSystem=no
    ReadWritePaths=
    UNIT
    cat >host-keys.service <<'UNIT'
    [Unit]
    Before=ssh.service
    [Service]
    Type=oneshot
    ExecStart=/usr/bin/ssh-keygen -A
    [Install]
    WantedBy=multi-user.target
    UNIT
    chroot "$root" systemctl enable host-keys.service
    rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf" "$root/etc/hostname" \
      "$root/var/lib/dbus/machine-id"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    : >"$root/etc/machine-id"
    tar --create --xz --file="$2" --directory="$root" --numeric-owner --xattrs \
      --xattrs-include='*' --anchored --exclude='./dev/*' .
    """
)

FAILING_UNIT = b"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo no luck today; exit 3'\n"


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image that boots: the one that HAKIM_TEST_ARTIFACT names, or a small one of our own."""
    if given := os.environ.get("HAKIM_TEST_ARTIFACT"):
        return Path(given)
    if shutil.which("debootstrap") is None:
        pytest.skip("needs debootstrap, or an image named by HAKIM_TEST_ARTIFACT")
    key = hashlib.sha256(SMALL_IMAGE.encode()).hexdigest()[:16]
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    kept = ROOT / ".cache" / "test-images" / key / f"hakim-small-bookworm-{arch}.tar.xz"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            fresh = kept.with_suffix(".new")
            root = tmp_path_factory.mktemp("image") / "root"
            env = {**os.environ, "XZ_DEFAULTS": "-1 -T0"}
            subprocess.run(["sh", "-c", SMALL_IMAGE, "sh", root, fresh], check=True, env=env)
            shutil.rmtree(root)
            fresh.rename(kept)
    return kept


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody but root can look into, and that has to be empty in the end."""
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    yield folder
    assert list(folder.iterdir()) == []


def traces(name: str) -> list[str]:
    """Return the cgroups and mounts that the run called *name* has on this machine."""
    cgroups = [
        str(folder)
        for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        for folder in Path(root).glob(f"*{name}*")
    ]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return cgroups + [line for line in mounts if name in line]


@dataclasses.dataclass(frozen=True)
class Run:
    """The command under way: its process, the name of its traces, and its network namespace."""

    child: subprocess.Popen[str]
    name: str
    network: str


def network_namespaces() -> dict[int, str]:
    """Return the network namespace of every process that is still there."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found[int(path.parts[2])] = str(path.readlink())
    return found


def with_files(artifact: Path, folder: Path, files: Mapping[str, bytes | Path]) -> Path:
    """Return a copy of *artifact* in which *files* (bytes, or where a link leads) come first.

    Files that are there already are skipped when it is unpacked, so the first one counts; and an
    .xz file may be two, one after the other.
    """
    overlay = io.BytesIO()
    for name, content in files.items():
        member = tarfile.TarInfo(f"./{name}")
        data = content if isinstance(content, bytes) else b""
        member.size, member.mode = len(data), 0o644
        if isinstance(content, Path):
            member.type, member.linkname = tarfile.SYMTYPE, str(content)
        overlay.write(member.tobuf() + data + bytes(-len(data) % tarfile.BLOCKSIZE))
    copy = folder / artifact.name
    with copy.open("wb") as target, artifact.open("rb") as source:
        target.write(lzma.compress(overlay.getvalue()))
        shutil.copyfileobj(source, target)
    return copy


def boots(artifact: Path, work: Path) -> None:
    boot_test(artifact, env=os.environ, work_dir=work)


@pytest.mark.parametrize("memory", [0, 6_000_000_000], ids=["disk", "memory"])
def test_a_good_image_keeps_every_promise_and_leaves_nothing(
    artifact: Path, work: Path, memory: int
) -> None:
    seen: set[str] = set()
    commands = [
        CommandCheck(name="who", run="id -un", expect="^coder$"),
        CommandCheck(name="login shell", run="shopt login_shell", expect="on$"),
    ]

    report = boot_test(
        artifact,
        env=os.environ,
        work_dir=work,
        commands=commands,
        memory=memory,
        on_step=lambda _step: seen.update(path.name for path in work.iterdir()),
    )

    assert [check.name for check in report.checks] == [
        "state",
        "units",
        "address",
        "name resolution",
        "ssh",
        "host keys",
        "machine-id",
        "coder",
        "who",
        "login shell",
        "stop",
    ]
    assert report.failures == ()
    assert 0 < report.boot_seconds < 120
    assert "systemd" in report.log
    assert [traces(name) for name in seen] == [[]]


def test_a_failing_unit_is_named_with_its_last_words(
    artifact: Path, work: Path, tmp_path: Path
) -> None:
    units = "etc/systemd/system"
    broken = with_files(
        artifact,
        tmp_path,
        {
            f"{units}/unlucky.service": FAILING_UNIT,
            f"{units}/multi-user.target.wants/unlucky.service": Path("../unlucky.service"),
        },
    )

    with pytest.raises(BootFailedError) as caught:
        boots(broken, work)

    failures = {failure.name: failure.found for failure in caught.value.report.failures}
    assert set(failures) == {"state", "units"}
    assert "degraded" in failures["state"]
    assert "unlucky.service" in failures["units"]
    assert "no luck today" in failures["units"]


def test_an_image_without_sshd_fails_for_that_alone(
    artifact: Path, work: Path, tmp_path: Path
) -> None:
    masks = {
        f"etc/systemd/system/{unit}": Path("/dev/null") for unit in ("ssh.service", "ssh.socket")
    }

    with pytest.raises(BootFailedError) as caught:
        boots(with_files(artifact, tmp_path, masks), work)

    (failure,) = caught.value.report.failures
    assert failure.name == "ssh"
    assert "Connection refused" in failure.found


def test_an_image_that_shares_its_identity_is_refused(
    artifact: Path, work: Path, tmp_path: Path
) -> None:
    key = tmp_path / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shared = {
        "etc/ssh/ssh_host_ed25519_key": key.read_bytes(),
        "etc/ssh/ssh_host_ed25519_key.pub": key.with_suffix(".pub").read_bytes(),
        "etc/machine-id": b"0123456789abcdef0123456789abcdef\n",
    }

    with pytest.raises(BootFailedError) as caught:
        boots(with_files(artifact, tmp_path, shared), work)

    names = {failure.name for failure in caught.value.report.failures}
    assert {"host keys", "machine-id"} <= names


def test_an_image_without_init_says_so_at_once(work: Path, tmp_path: Path) -> None:
    archive = (
        tmp_path / f"hakim-base-trixie-{'amd64' if os.uname().machine == 'x86_64' else 'arm64'}"
    )
    archive = archive.with_name(f"{archive.name}.tar.xz")
    with tarfile.open(archive, "w:xz") as tar:
        for name in ("./etc", "./proc", "./sys", "./dev"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
    start = time.monotonic()

    with pytest.raises(BootFailedError, match="ended before it was up"):
        boots(archive, work)

    assert time.monotonic() - start < 60


def test_a_tar_that_is_none_is_named_in_one_line(work: Path, tmp_path: Path) -> None:
    archive = tmp_path / "hakim-base-trixie-amd64.tar.xz"
    archive.write_bytes(lzma.compress(b"no tar at all\n" * 1000))

    with pytest.raises(VerificationError, match=r"amd64.tar.xz cannot be unpacked: .*") as caught:
        boots(archive, work)

    assert "\n" not in caught.value.message


@contextlib.contextmanager
def running(artifact: Path, work: Path, *, until: str) -> Iterator[Run]:
    """Run the command and hand it out once it says *until*."""
    command = [sys.executable, "-m", "hakim_actions", "boot-test"]
    command += ["--work-dir", str(work), str(artifact)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                if until in line:
                    break
            (folder,) = work.iterdir()
            yield Run(child, folder.name, private_network_of(child.pid))
        finally:
            child.kill()


def private_network_of(pid: int) -> str:
    """Return the network namespace of the children of *pid* that is not the machine's."""
    spaces = network_namespaces()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, KeyError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            child = int(path.parts[2])
            if parent == pid and spaces[child] != spaces[os.getpid()]:
                return spaces[child]
    pytest.fail("there is no private network")


def wait_until_gone(network: str, seconds: float = 15) -> list[int]:
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid, space in network_namespaces().items() if space == network]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("unpacking", signal.SIGTERM),
        ("booting", signal.SIGTERM),
        ("checking ssh", signal.SIGINT),
    ],
)
def test_a_signal_in_the_middle_leaves_nothing(
    artifact: Path, work: Path, step: str, number: signal.Signals
) -> None:
    with running(artifact, work, until=step) as run:
        run.child.send_signal(number)
        assert run.child.wait(60) == 128 + number

    assert wait_until_gone(run.network, seconds=0) == []
    assert traces(run.name) == []


@pytest.mark.parametrize("step", ["unpacking", "checking ssh"])
def test_what_a_killed_run_leaves_is_removed_by_the_next(
    artifact: Path, work: Path, step: str
) -> None:
    with running(artifact, work, until=step) as run:
        run.child.kill()
        run.child.wait(30)

    assert wait_until_gone(run.network) == []
    assert [path.name for path in work.iterdir()] == [run.name]
    with sandbox(work, env=os.environ):
        pass
    assert traces(run.name) == []


def test_two_runs_at_once_do_not_disturb_each_other(artifact: Path, work: Path) -> None:
    with running(artifact, work, until="booting") as run:
        with sandbox(work, env=os.environ) as other:
            assert len(list(work.iterdir())) == 2
            assert "hakim0" not in other.run(["ip", "link"]).stdout
        assert run.child.wait(120) == 0
