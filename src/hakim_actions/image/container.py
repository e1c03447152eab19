"""An artifact as an LXC container, set up as Proxmox sets up an unprivileged one."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import HakimError, VerificationError
from hakim_actions.image import tmpfs
from hakim_actions.image.netns import BRIDGE
from hakim_actions.image.sandbox import APPARMOR, Sandbox
from hakim_actions.system import process

#: The first id outside that ids inside start from, and how many there are: Proxmox's own map.
ID_BASE: Final = 100_000
ID_COUNT: Final = 65_536

#: Where the sandbox sees the root file system: a path that the mapped root may walk.
ROOTFS: Final = "/run/rootfs"

#: Where the sandbox keeps what LXC writes for itself; the mapped root has to reach it as well.
_LXC_PATH: Final = "/run/hakim"

#: Seconds the container has to shut down by itself before the check of it fails.
STOP_SECONDS: Final = 30.0

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: The states of a systemd that has booted, well or not (systemctl(1), is-system-running).
_SETTLED: Final = frozenset({"running", "degraded", "maintenance", "stopping"})

#: Opens the archive as root and hands it on: the mapped root that unpacks it may not reach it.
_WITH_INPUT: Final = 'exec "$@" <"$0"'


def extract(
    archive: Path, box: Sandbox, *, unpacked: process.Source | None = None, memory: int = 0
) -> Path:
    """Unpack *archive* inside the id map, with Proxmox's own tar options; return its folder.

    Who reads the archive anyway gives the tar inside as *unpacked*, so that nobody decompresses it
    a second time. With *memory* it is unpacked into as many bytes of it instead of onto the disk.
    Raises VerificationError when it cannot be unpacked, HakimError when the disk is full.
    """
    _allow_id_map(box)
    rootfs = _in_memory(box, memory) if memory else _on_disk(box)
    id_map = f"b:0:{ID_BASE}:{ID_COUNT}"
    tar = _tar("--xz") if unpacked is None else _tar()
    command = box.argv(["lxc-usernsexec", "-m", id_map, "--", *tar])
    try:
        if unpacked is None:
            process.run(["sh", "-c", _WITH_INPUT, str(archive), *command], env=box.env)
        else:
            process.feed(command, unpacked, env=box.env)
    except process.ProcessError as error:
        if "No space left" in error.message:
            msg = f"The disk of {box.folder.parent} is full."
            raise HakimError(msg, hint="Free some space, or give --work-dir.") from None
        msg = f"{archive.name} cannot be unpacked: {error.message}"
        raise VerificationError(msg, hint="Proxmox would fail in the same way.") from None
    return rootfs


def _in_memory(box: Sandbox, size: int) -> Path:
    box.run(["mkdir", ROOTFS])
    box.run(["mount", "-t", "tmpfs", "-o", tmpfs.options(size, owner=ID_BASE), "tmpfs", ROOTFS])
    return Path(f"/proc/{box.holder}/root{ROOTFS}")


def _on_disk(box: Sandbox) -> Path:
    rootfs = box.folder / "rootfs"
    rootfs.mkdir(mode=0o755)
    os.chown(rootfs, ID_BASE, ID_BASE)
    box.run(["mkdir", ROOTFS])
    box.run(["mount", "--bind", str(rootfs), ROOTFS])
    # A work folder may be mounted so that sudo would not work below it.
    box.run(["mount", "-o", "remount,bind,suid,dev,exec", ROOTFS])
    return rootfs


def _allow_id_map(box: Sandbox) -> None:
    """Give root the ids inside the sandbox, where newuidmap asks for it; the host's stay."""
    allowed = box.folder / "subid"
    allowed.write_text(f"root:{ID_BASE}:{ID_COUNT}\n", encoding="ascii")
    for path in ("/etc/subuid", "/etc/subgid"):
        if Path(path).exists():
            box.run(["mount", "--bind", str(allowed), path])


def _tar(*decompress: str) -> list[str]:
    # pve-container, PVE::LXC::Create::restore_tar_archive
    return [
        *("tar", "--extract", *decompress, "--file=-", f"--directory={ROOTFS}"),
        *("--one-file-system", "--preserve-permissions", "--sparse", "--numeric-owner", "--acls"),
        *("--xattrs", "--xattrs-include=user.*", "--xattrs-include=security.capability"),
        *("--skip-old-files", "--anchored", "--exclude=./dev/*"),
    ]


@dataclass(frozen=True)
class Container:
    """A container that runs beside the block of :func:`container`."""

    box: Sandbox
    rootfs: Path
    monitor: subprocess.Popen[bytes]

    def run(self, argv: Sequence[str], *, timeout: float = 15.0) -> process.Completed:
        """Run *argv* inside as root, whether it fails or not; stderr goes with stdout.

        Raises ProcessError when it takes more than *timeout* seconds.
        """
        attach = ["lxc-attach", *_identity(self.box), "--clear-env", f"--set-var=PATH={_PATH}"]
        return self.box.run(
            [*attach, "--", "sh", "-c", 'exec "$@" 2>&1', "sh", *argv], check=False, timeout=timeout
        )

    def text(self, argv: Sequence[str]) -> str:
        """Return what *argv* prints inside, without the white space around it."""
        return self.run(argv).stdout.strip()

    def wait_until_booted(self, timeout: float) -> str:
        """Return the state that systemd settles in, or the last one it had after *timeout* seconds.

        Raises VerificationError when the container ends before.
        """
        deadline = time.monotonic() + timeout
        state = "offline"
        while time.monotonic() < deadline:
            if self.monitor.poll() is not None:
                msg = f"The container ended before it was up: {self._last_words()}"
                raise VerificationError(msg, hint="Is /sbin/init in the archive, and does it run?")
            with contextlib.suppress(process.ProcessError):
                said = self.run(["systemctl", "is-system-running"], timeout=10).stdout.strip()
                state = said if said.isalpha() else state
            if state in _SETTLED:
                break
            time.sleep(0.1)
        return state

    def stop(self) -> float:
        """Shut the container down as Proxmox does and return the seconds it took.

        Raises VerificationError when it did not end by itself within STOP_SECONDS.
        """
        start = time.monotonic()
        seconds = f"{STOP_SECONDS:.0f}"
        try:
            self.box.run(["lxc-stop", *_identity(self.box), "--nokill", "--timeout", seconds])
            self.monitor.wait(STOP_SECONDS)
        except (process.ProcessError, subprocess.TimeoutExpired):
            msg = f"it still ran {STOP_SECONDS:g} s after the shutdown signal"
            raise VerificationError(msg) from None
        return time.monotonic() - start

    def log(self) -> str:
        """Return everything that was logged: journal, console, LXC, DHCP and name server."""
        journal = ""
        if self.monitor.poll() is None:
            with contextlib.suppress(process.ProcessError):
                journal = self.run(["journalctl", "--boot", "--no-pager"], timeout=60).stdout
        parts = {"journal": journal}
        for name in ("console", "lxc-start", "lxc", "dnsmasq"):
            parts[name] = _read(self.box.folder / f"{name}.log")
        return "".join(f"==> {name} <==\n{text.rstrip()}\n" for name, text in parts.items())

    def _last_words(self) -> str:
        for name in ("lxc-start", "console"):
            lines = _read(self.box.folder / f"{name}.log").strip().splitlines()
            if lines:
                return lines[0]
        return "no reason given."


@contextlib.contextmanager
def container(box: Sandbox, rootfs: Path, *, apparmor: bool) -> Iterator[Container]:
    """Start the container whose root file system is *rootfs*; it is gone after the block."""
    folder = f"{_LXC_PATH}/{box.name}"
    box.run(["mkdir", "-p", folder])
    box.run(["tee", f"{folder}/config"], stdin=_config(box, apparmor=apparmor).encode())
    start = ["lxc-start", *_identity(box), "--foreground", "--logpriority=INFO"]
    start.append(f"--logfile={box.folder}/lxc.log")
    with (box.folder / "lxc-start.log").open("w") as log, box.started(start, log=log) as monitor:
        yield Container(box, rootfs, monitor)


def has_apparmor() -> bool:
    """Tell whether this machine confines containers by AppArmor, as every Proxmox node does."""
    return APPARMOR.exists()


def _identity(box: Sandbox) -> tuple[str, ...]:
    return f"--name={box.name}", f"--lxcpath={_LXC_PATH}"


def _config(box: Sandbox, *, apparmor: bool) -> str:
    """Return what pve-container writes for an unprivileged container with nesting off."""
    lines = [
        "lxc.include = /usr/share/lxc/config/common.conf",
        "lxc.include = /usr/share/lxc/config/userns.conf",
        "lxc.mount.auto =",
        "lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed",
        f"lxc.idmap = u 0 {ID_BASE} {ID_COUNT}",
        f"lxc.idmap = g 0 {ID_BASE} {ID_COUNT}",
        f"lxc.rootfs.path = dir:{ROOTFS}",
        "lxc.uts.name = hakim-boot-test",
        "lxc.tty.max = 2",
        f"lxc.console.logfile = {box.folder}/console.log",
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {BRIDGE}",
        "lxc.net.0.name = eth0",
        "lxc.net.0.flags = up",
    ]
    if apparmor:
        lines += [
            "lxc.apparmor.profile = generated",
            "lxc.apparmor.raw = deny mount -> /proc/,",
            "lxc.apparmor.raw = deny mount -> /sys/,",
        ]
    return "".join(f"{line}\n" for line in lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
