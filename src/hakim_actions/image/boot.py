"""Boot an artifact as Proxmox would, ask it what it promises, and leave nothing behind."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hakim_actions.artifact import ArtifactName, Check
from hakim_actions.catalog import CommandCheck
from hakim_actions.debian import Architecture, Release, architecture_named, release_named
from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.image.container import Container, container, extract, has_apparmor
from hakim_actions.image.identity import Identity, identity
from hakim_actions.image.netns import Network, network
from hakim_actions.image.probe import (
    BOOTED,
    Failure,
    Subject,
    examine,
    printable,
)
from hakim_actions.image.sandbox import Sandbox, sandbox
from hakim_actions.system import files, process

__all__ = ["BootFailedError", "BootReport", "Failure", "boot_test"]

#: Program → Debian package that installs it.
_PROGRAMS: Final = {
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "lxc-attach": "lxc",
    "lxc-start": "lxc",
    "lxc-stop": "lxc",
    "lxc-usernsexec": "lxc",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "ssh": "openssh-client",
    "tar": "tar",
    "unshare": "util-linux",
    "xz": "xz-utils",
}

BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")

#: Bytes beside the unpacked image: what the container writes, and the file system's own needs.
_ROOM: Final = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class BootReport:
    """What a boot showed.

    *boot_seconds* is from starting the container until systemd settled, *phases* are seconds by
    name (extract, boot, checks, stop), *apparmor* tells whether the host confined the container
    as Proxmox does, *log* is everything that was logged, the journal first.
    """

    name: str
    checks: tuple[Check, ...]
    failures: tuple[Failure, ...]
    boot_seconds: float
    phases: Mapping[str, float]
    apparmor: bool
    log: str = field(repr=False)

    def tail(self, lines: int = 20) -> list[str]:
        """Return the last *lines* of the journal, or of the log when there is no journal."""
        journal, _, rest = self.log.partition("==> console <==")
        entries = journal.strip().splitlines()[1:] or rest.strip().splitlines()
        return [printable(entry) for entry in entries[-lines:]]


class BootFailedError(VerificationError):
    """The image does not boot to what it promises; *report* has what was found."""

    def __init__(self, report: BootReport) -> None:
        """Make one line out of every failed check."""
        failed, passed = len(report.failures), len(report.checks)
        found = "; ".join(str(failure) for failure in report.failures)
        super().__init__(
            f"{report.name} fails {failed} of {failed + passed} checks of the boot test: {found}.",
            hint="The journal of the boot says more: keep it with --keep-log FILE.",
        )
        self.report = report


def boot_test(
    artifact: Path,
    *,
    env: Mapping[str, str],
    work_dir: Path,
    timeout: float = 120.0,
    commands: Sequence[CommandCheck] = (),
    unpacked: process.Source | None = None,
    memory: int = 0,
    on_step: Callable[[str], None] = lambda _step: None,
) -> BootReport:
    """Boot *artifact* and check it, and each of *commands* as user coder; needs root.

    With *unpacked* the tar inside comes from there. The image is unpacked into *memory* if it fits
    in as many bytes, else in a folder below *work_dir*, and is gone afterwards, also when this is
    interrupted; systemd has *timeout* seconds to come up. Raises ConfigurationError when this
    machine cannot do it, VerificationError when the archive cannot be unpacked, and BootFailedError
    with the whole report when it does not boot or a check fails.
    """
    name = ArtifactName.parse(artifact.name)
    release = release_named(name.release)
    _refuse_incapable(env)
    refuse_foreign(architecture_named(name.arch), machine=os.uname().machine, binfmt=BINFMT)
    files.writable_folder(work_dir, option="--work-dir")
    needed = _unpacked_bytes(artifact, env=env) + _ROOM
    if needed > memory:
        memory = 0
        _refuse_small(work_dir, needed)
    on_step("preparing a private network")
    with sandbox(work_dir, env=env) as box, network(box) as net:
        run = _Run(
            artifact=artifact,
            unpacked=unpacked,
            memory=memory,
            box=box,
            net=net,
            release=release,
            timeout=timeout,
        )
        report = run.report(commands, on_step)
    if report.failures:
        raise BootFailedError(report)
    return report


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One artifact in one sandbox."""

    artifact: Path
    unpacked: process.Source | None
    memory: int
    box: Sandbox
    net: Network
    release: Release
    timeout: float
    phases: dict[str, float] = field(default_factory=dict)

    def report(
        self, commands: Sequence[CommandCheck], on_step: Callable[[str], None]
    ) -> BootReport:
        on_step("unpacking inside the id map")
        with self._phase("extract"):
            rootfs = extract(
                self.artifact.absolute(), self.box, unpacked=self.unpacked, memory=self.memory
            )
        shipped = identity(rootfs)
        apparmor = has_apparmor()
        on_step("booting")
        with container(self.box, rootfs, apparmor=apparmor) as guest:
            results, log = self._examine(guest, shipped, commands, on_step)
        return BootReport(
            name=self.artifact.name,
            checks=tuple(result for result in results if isinstance(result, Check)),
            failures=tuple(result for result in results if isinstance(result, Failure)),
            boot_seconds=self.phases["boot"],
            phases=dict(self.phases),
            apparmor=apparmor,
            log=log,
        )

    def _examine(
        self,
        guest: Container,
        shipped: Identity,
        commands: Sequence[CommandCheck],
        on_step: Callable[[str], None],
    ) -> tuple[list[Check | Failure], str]:
        try:
            with self._phase("boot"):
                state = guest.wait_until_booted(self.timeout)
        except VerificationError as error:
            found = printable(error.message)
            return [Failure(name="state", expected=BOOTED, found=found)], guest.log()
        with self._phase("checks"):
            subject = Subject(guest, self.net, self.release, state, shipped)
            results = list(examine(subject, commands, on_step=on_step))
        log = guest.log()
        on_step("stopping")
        with self._phase("stop"):
            results.append(_stop(guest))
        return results, log

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - start, 3)


def _stop(guest: Container) -> Check | Failure:
    try:
        seconds = guest.stop()
    except VerificationError as error:
        return Failure(name="stop", expected="a clean shutdown", found=error.message)
    return Check(name="stop", detail="shut down by itself", seconds=round(seconds, 3))


def _is_root() -> bool:
    return os.geteuid() == 0


def boot_programs() -> dict[str, str]:
    """Return the programs that a boot test runs, each with the Debian package that installs it."""
    return {**_PROGRAMS, **({"apparmor_parser": "apparmor"} if has_apparmor() else {})}


def _refuse_incapable(env: Mapping[str, str]) -> None:
    """Name everything this machine lacks at once."""
    problems, hints = [], []
    if not _is_root():
        problems.append("it needs root, to make a container as Proxmox does")
        hints.append("Run it with sudo.")
    missing = {
        program: package
        for program, package in boot_programs().items()
        if not process.is_installed(program, env=env)
    }
    if missing:
        problems += [f"{program} is missing (package {missing[program]})" for program in missing]
        packages = sorted(set(missing.values()))
        hints.append(f"sudo apt-get install --no-install-recommends {' '.join(packages)}")
    if problems:
        msg = "The boot test cannot run on this machine as it is."
        raise ConfigurationError(msg, hint=" ".join(hints), problems=problems)


def refuse_foreign(arch: Architecture, *, machine: str, binfmt: Path) -> None:
    """Refuse an image whose programs neither this *machine* nor an emulator can run.

    The emulator has to be registered with flag F: its path does not exist in the container
    (https://docs.kernel.org/admin-guide/binfmt-misc.html).
    """
    if arch.kernel_name == machine:
        return
    try:
        registered = (binfmt / f"qemu-{arch.kernel_name}").read_text(encoding="ascii").splitlines()
    except OSError:
        registered = []
    flags = next((line.split(":")[1] for line in registered if line.startswith("flags:")), "")
    if "enabled" not in registered or "F" not in flags:
        msg = f"This {machine} machine cannot run the programs of an {arch.name} image."
        hint = "Boot it on such a machine, or: sudo apt-get install qemu-user-static binfmt-support"
        raise ConfigurationError(msg, hint=hint)


def _unpacked_bytes(artifact: Path, *, env: Mapping[str, str]) -> int:
    """Return the size of the tar inside *artifact* from the index of the .xz, without unpacking.

    Raises VerificationError for what is no whole .xz file, ConfigurationError for no file at all.
    """
    if not artifact.is_file():
        msg = f"There is no file {artifact}."
        raise ConfigurationError(msg, hint="Give the .tar.xz that build wrote.")
    try:
        command = ["xz", "--robot", "--list", "--", str(artifact.absolute())]
        listing = process.run(command, env=process.child_environment(env)).stdout
    except process.ProcessError as error:
        why = error.message.rpartition(": ")[2]
        msg = f"{artifact.name} is not a whole .xz file: {why}."
        raise VerificationError(msg, hint="Copy it again and compare its sha256.") from None
    totals = next(line.split("\t") for line in listing.splitlines() if line.startswith("totals"))
    return int(totals[4])


def _refuse_small(work_dir: Path, needed: int) -> None:
    free = shutil.disk_usage(work_dir).free
    if free < needed:
        msg = (
            f"--work-dir: {work_dir} has {free / 1e9:.1f} GB free, "
            f"the image takes {needed / 1e9:.1f} GB."
        )
        raise ConfigurationError(msg, hint="Free some space, or choose another folder.")
