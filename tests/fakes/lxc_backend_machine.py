"""Real containers: unprivileged LXC in a sandbox with a bridge and DHCP, as a node runs them."""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fakes.lxc_backend import Guest, Params, TaskError, Volume

from hakim_actions.image.container import ID_BASE, ID_COUNT
from hakim_actions.image.netns import BRIDGE
from hakim_actions.image.sandbox import Sandbox
from hakim_actions.system import process

_LXC_PATH: Final = "/run/hakim"
_VOLUMES: Final = "/run/volumes"
_CLONE_NEWNET: Final = 0x40000000


class LxcMachine:
    """Runs the guests of one node inside *box*, whose network is up."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._folder = box.folder / "volumes"
        self._folder.mkdir(mode=0o700)
        self._removals: list[subprocess.Popen[bytes]] = []
        self._running: dict[int, contextlib.ExitStack] = {}
        self._monitors: dict[int, subprocess.Popen[bytes]] = {}
        self.on_start: Callable[[Guest], None] = lambda _guest: None
        allowed = box.folder / "subid"
        allowed.write_text(f"root:{ID_BASE}:{ID_COUNT}\n", encoding="ascii")
        for path in ("/etc/subuid", "/etc/subgid"):
            box.run(["mount", "--bind", str(allowed), path])

    def close(self) -> None:
        """End what still runs."""
        for stack in self._running.values():
            stack.close()
        for removal in self._removals:
            removal.wait()

    def allocate(self, volume: Volume) -> None:
        """Make the folder that stands for a disk, owned by the mapped root as a fresh one is."""
        name = volume.name.rpartition(":")[2]
        folder = self._folder / name
        folder.mkdir(mode=0o755)
        os.chown(folder, ID_BASE, ID_BASE)
        inside = f"{_VOLUMES}/{name}"
        self.box.run(["mkdir", "-p", inside])
        self.box.run(["mount", "--bind", str(folder), inside])
        self.box.run(["mount", "-o", "remount,bind,suid,dev,exec", inside])
        volume.data = folder

    def free(self, volume: Volume) -> None:
        self.box.run(["umount", f"{_VOLUMES}/{volume.data.name}"])
        # A node frees a volume in no time, whatever is on it.
        gone = self.box.folder / f"freed-{len(self._removals)}"
        volume.data.rename(gone)
        self._removals.append(subprocess.Popen(["rm", "-rf", str(gone)]))

    def unpack(self, template: Path, volume: Volume) -> None:
        """Unpack with the options of ``PVE::LXC::Create::restore_tar_archive``."""
        unpack = self.box.argv(
            [
                *("lxc-usernsexec", "-m", f"b:0:{ID_BASE}:{ID_COUNT}", "--", "tar", "--extract"),
                *(("--xz",) if template.suffix == ".xz" else ()),
                *("--file=-", f"--directory={_VOLUMES}/{volume.data.name}"),
                *("--one-file-system", "--preserve-permissions", "--sparse", "--numeric-owner"),
                *("--acls", "--xattrs", "--xattrs-include=user.*"),
                *("--xattrs-include=security.capability", "--skip-old-files", "--anchored"),
                "--exclude=./dev/*",
            ]
        )
        try:
            process.run(["sh", "-c", 'exec "$@" <"$0"', str(template), *unpack], env=self.box.env)
        except process.ProcessError as error:
            raise TaskError(error.message) from None

    def set_up(self, guest: Guest, volume: Volume, params: Params) -> None:
        """What the setup for ``debian`` does, and none of it for ``unmanaged``."""
        root: Path = volume.data
        password = params.get("password", "")
        hashed = "*"
        if password:
            command = ["openssl", "passwd", "-6", "-stdin"]
            hashed = process.run(command, env=self.box.env, stdin=password.encode()).stdout.strip()
        shadow = root / "etc/shadow"
        lines = shadow.read_text().splitlines()
        lines = [f"root:{hashed}:20000::::::" if x.startswith("root:") else x for x in lines]
        shadow.write_text("\n".join(lines) + "\n")
        keys = params.get("ssh-public-keys", "")
        if keys:
            self._write(root / "root/.ssh/authorized_keys", keys + "\n", mode=0o600)
        hostname = params.get("hostname", "localhost")
        self._write(root / "etc/hostname", hostname + "\n")
        self._write(
            root / "etc/network/interfaces",
            "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n\n",
        )

    def _write(self, path: Path, text: str, *, mode: int = 0o644) -> None:
        for folder in [path.parent]:
            if not folder.exists():
                folder.mkdir(mode=0o700)
                os.chown(folder, ID_BASE, ID_BASE)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, ID_BASE, ID_BASE)

    def start(self, guest: Guest, volumes: Mapping[str, Volume]) -> None:
        folder = f"{_LXC_PATH}/{guest.vmid}"
        self.box.run(["mkdir", "-p", folder])
        config = "".join(f"{line}\n" for line in self._config(guest, volumes))
        self.box.run(["tee", f"{folder}/config"], stdin=config.encode())
        stack = contextlib.ExitStack()
        log = stack.enter_context((self.box.folder / f"{guest.vmid}.log").open("a"))
        start = ["lxc-start", *_identity(guest), "--foreground"]
        monitor = stack.enter_context(self.box.started(start, log=log))
        self._running[guest.vmid], self._monitors[guest.vmid] = stack, monitor
        deadline = time.monotonic() + 10
        while "RUNNING" not in self._info(guest, "-s"):
            if monitor.poll() is not None or time.monotonic() > deadline:
                stack.close()
                msg = f"startup for container '{guest.vmid}' failed"
                raise TaskError(msg)
            time.sleep(0.05)
        self.on_start(guest)

    def stop(self, guest: Guest, *, force: bool) -> None:
        how = ["--kill"] if force else ["--timeout", "30"]
        self.box.run(["lxc-stop", *_identity(guest), *how])
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._monitors.pop(guest.vmid).wait(10)
        self._running.pop(guest.vmid).close()

    def address(self, guest: Guest) -> str:
        lines = self._info(guest, "-i", "-H").split()
        return next((line for line in lines if line.startswith("10.")), "")

    def attach(self, guest: Guest, *argv: str, check: bool = True) -> str:
        """Run *argv* inside as root and return what it prints."""
        attach = [
            "lxc-attach",
            *_identity(guest),
            "--clear-env",
            "--set-var=PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        return self.box.run([*attach, "--", *argv], check=check, timeout=60).stdout

    def _info(self, guest: Guest, *what: str) -> str:
        return self.box.run(["lxc-info", *_identity(guest), *what], check=False).stdout

    def _config(self, guest: Guest, volumes: Mapping[str, Volume]) -> list[str]:
        """Return what pve-container writes for an unprivileged container with nesting off."""
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            "lxc.include = /usr/share/lxc/config/userns.conf",
            "lxc.mount.auto =",
            "lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed",
            f"lxc.idmap = u 0 {ID_BASE} {ID_COUNT}",
            f"lxc.idmap = g 0 {ID_BASE} {ID_COUNT}",
            f"lxc.rootfs.path = dir:{_VOLUMES}/{volumes['/'].data.name}",
            f"lxc.uts.name = {guest.config.get('hostname', 'localhost')}",
            "lxc.tty.max = 2",
            f"lxc.console.logfile = {self.box.folder}/{guest.vmid}.console",
            "lxc.net.0.type = veth",
            f"lxc.net.0.link = {BRIDGE}",
            "lxc.net.0.name = eth0",
            "lxc.net.0.flags = up",
        ]
        for path, volume in volumes.items():
            if path != "/":
                source = f"{_VOLUMES}/{volume.data.name}"
                lines.append(f"lxc.mount.entry = {source} {path[1:]} none bind,create=dir 0 0")
        return lines


def _identity(guest: Guest) -> tuple[str, ...]:
    return f"--name={guest.vmid}", f"--lxcpath={_LXC_PATH}"


def listener(box: Sandbox, host: str, port: int = 0) -> socket.socket:
    """Return a socket that listens in the network of *box*, for a server in this process."""
    made: list[Any] = []

    def make() -> None:
        # setns(2) moves one thread only, and this one ends here.
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{box.holder}/ns/net") as space:  # noqa: PTH123 - its descriptor counts
            if libc.setns(space.fileno(), _CLONE_NEWNET) != 0:
                made.append(OSError(ctypes.get_errno(), "setns"))
                return
        try:
            made.append(socket.create_server((host, port)))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    sock: socket.socket = made[0]
    return sock
