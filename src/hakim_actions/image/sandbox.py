"""A private corner of this machine: mounts, network and processes that end with one process.

Everything started in a sandbox lives in one PID namespace, whose first process dies with this one,
however this one ends; the kernel then kills the rest, and mounts and network go with it. What
outlives processes (a folder, a cgroup, an AppArmor profile) is removed at the end of the run, or,
after a SIGKILL, at the start of the next one.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from hakim_actions.errors import ConfigurationError
from hakim_actions.image.workspace import run_folder
from hakim_actions.system import process

#: Names of folders and cgroups; what bears it and belongs to no live run is removed.
PREFIX: Final = "hakim-boot-"

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
APPARMOR: Final = Path("/sys/kernel/security/apparmor")

#: The first process: says that it is there, then waits for SIGTERM, which a first process only
#: sees when it handles it.
_HOLDER: Final = "trap 'exit 0' TERM; echo ready; sleep infinity & wait"

_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Sandbox:
    """Namespaces that live until the block of :func:`sandbox` ends.

    *folder* is a folder of this run alone on the disk of the machine, for root only; *holder* is
    the process whose namespaces these are.
    """

    folder: Path
    holder: int
    env: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of this run: its folder's, its cgroup's and its container's."""
        return self.folder.name

    def argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs *argv* inside."""
        spaces = f"/proc/{self.holder}/ns"
        return [
            process.find("nsenter", env=self.env),
            f"--mount={spaces}/mnt",
            f"--net={spaces}/net",
            f"--pid={spaces}/pid_for_children",
            "--",
            process.find(argv[0], env=self.env),
            *argv[1:],
        ]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: bytes | None = None,
        timeout: float | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> process.Completed:
        """Run *argv* inside, as :func:`process.run` does, with *extra* environment."""
        return process.run(
            self.argv(argv),
            env={**self.env, **(extra or {})},
            check=check,
            stdin=stdin,
            timeout=timeout,
        )

    @contextlib.contextmanager
    def started(self, argv: Sequence[str], *, log: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run *argv* inside and beside the block, its output in *log*; killed when it ends."""
        with process.started(self.argv(argv), env=self.env, stdout=log) as child:
            try:
                yield child
            finally:
                # Nothing in here has anything to save: what it made ends with the sandbox.
                child.kill()


@contextlib.contextmanager
def sandbox(work_dir: Path, *, env: Mapping[str, str]) -> Iterator[Sandbox]:
    """Make a sandbox with its folder below *work_dir*; leave nothing when the block ends.

    Inside, /run is empty, /sys shows the sandbox's own network, and /sys/fs/cgroup is cgroup v2
    on every host, since systemd >= 256 boots on nothing else; a cgroup of the sandbox's name is
    where LXC puts its own. Raises ConfigurationError when this machine lets root make none.
    """
    env = process.child_environment(env, {"PATH": f"{env.get('PATH', os.defpath)}:{_SBIN}"})
    with (
        run_folder(work_dir, prefix=PREFIX, discard=_discard) as folder,
        contextlib.ExitStack() as afterwards,
        _namespaces(folder, env=env) as made,
    ):
        _mount(made)
        afterwards.enter_context(_cgroup(made))
        yield made


@contextlib.contextmanager
def _namespaces(folder: Path, *, env: Mapping[str, str]) -> Iterator[Sandbox]:
    command = [
        *(process.find("setpriv", env=env), "--pdeathsig", "KILL"),
        *(process.find("unshare", env=env), "--mount", "--net", "--pid", "--ipc"),
        *("--fork", "--kill-child", "--mount-proc", "--"),
        *(process.find("sh", env=env), "-c", _HOLDER),
    ]
    with process.started(command, env=env, stdout=subprocess.PIPE) as holder:
        said = holder.stdout.readline().decode(errors="replace").strip() if holder.stdout else ""
        if said != "ready":
            msg = f"This machine does not let root make private namespaces: {said or 'no reason'}."
            raise ConfigurationError(
                msg,
                hint="In a container, it has to be a privileged one; a virtual machine will do.",
            )
        yield Sandbox(folder, holder.pid, env)


def _mount(box: Sandbox) -> None:
    """Give the sandbox its own /run and /sys, with cgroup v2 and what AppArmor needs."""
    box.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])
    box.run(["mkdir", "/run/sys"])
    box.run(["mount", "--rbind", "/sys", "/run/sys"])
    box.run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    mounted = _cgroup2_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
    if mounted:
        # Never mounted anew where it is already: that would reset its options on the host.
        box.run(["mount", "--bind", f"/run{mounted[0]}", str(CGROUP_ROOT)])
    else:
        box.run(["mount", "-t", "cgroup2", "cgroup2", str(CGROUP_ROOT)])
    if APPARMOR.exists():
        box.run(["mount", "--bind", "/run/sys/kernel/security", "/sys/kernel/security"])


def _cgroup2_mounts(mountinfo: str) -> list[str]:
    """Return where below /sys the whole cgroup v2 hierarchy is mounted (proc_pid_mountinfo(5))."""
    mounts = (line.split() for line in mountinfo.splitlines())
    return [
        fields[4]
        for fields in mounts
        if fields[fields.index("-") + 1] == "cgroup2"
        and fields[3] == "/"
        and fields[4].startswith("/sys/")
    ]


@contextlib.contextmanager
def _cgroup(box: Sandbox) -> Iterator[None]:
    """Make the cgroup of the sandbox and remove it, with all below it, after everything died.

    LXC makes its cgroups beside the first process of its PID namespace, and takes ``init.scope``
    off that one's path as it is used to from systemd: so the holder sits there. The hierarchy is
    kept open, because on a cgroup v1 host nothing else can reach it once the mounts are gone.
    """
    root = os.open(f"/proc/{box.holder}/root{CGROUP_ROOT}", os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Others must not take the new cgroup for a left-over before the holder is in it.
        fcntl.flock(root, fcntl.LOCK_EX)
        with os.scandir(root) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(PREFIX)]
        for name in names:
            if not _populated(name, root):
                _remove_cgroup(name, root)
        os.mkdir(box.name, dir_fd=root)
        os.mkdir(f"{box.name}/init.scope", dir_fd=root)
        box.run(["tee", f"{CGROUP_ROOT}/{box.name}/init.scope/cgroup.procs"], stdin=b"1\n")
        fcntl.flock(root, fcntl.LOCK_UN)
        yield
    finally:
        _remove_cgroup(box.name, root)
        os.close(root)


def _populated(name: str, root: int) -> bool:
    with contextlib.suppress(OSError):
        handle = os.open(f"{name}/cgroup.events", os.O_RDONLY, dir_fd=root)
        with os.fdopen(handle) as stream:
            return "populated 1" in stream.read()
    return False


def _remove_cgroup(name: str, root: int, *, patience: float = 2.0) -> None:
    """Remove the tree of cgroups *name*, with *patience* for processes on their way out."""
    deadline = time.monotonic() + patience
    while True:
        try:
            for _, folders, _, parent in os.fwalk(name, topdown=False, dir_fd=root):
                for folder in folders:
                    os.rmdir(folder, dir_fd=parent)
            os.rmdir(name, dir_fd=root)
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)
        else:
            return


def _discard(folder: Path) -> None:
    _unload_profiles(f"lxc-{folder.name}_", APPARMOR)
    shutil.rmtree(folder, ignore_errors=True)


def _unload_profiles(prefix: str, apparmor: Path) -> None:
    """Unload the AppArmor profiles named *prefix*…; LXC does it unless it was killed."""
    with contextlib.suppress(OSError):
        for line in (apparmor / "profiles").read_text(encoding="utf-8").splitlines():
            name, _, _mode = line.rpartition(" (")
            if name.startswith(prefix):
                (apparmor / ".remove").write_text(name, encoding="utf-8")
