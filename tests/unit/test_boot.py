"""The boot test without a container: every program it calls is a fake that plays its part.

The fakes keep what the code leans on: what runs in the namespaces is a child of what made them,
lxc-start lives as long as the container, and lxc-stop ends it.
"""

import lzma
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hakim_actions.catalog import CommandCheck
from hakim_actions.debian import architecture_named
from hakim_actions.errors import ConfigurationError, VerificationError
from hakim_actions.image import boot, container, probe, sandbox
from hakim_actions.image.boot import BootFailedError, BootReport, boot_test

NAME = "hakim-base-trixie-amd64.tar.xz"
ADDRESS = '[{"addr_info": [{"family": "inet", "local": "10.77.0.123"}]}]'

#: Runs what stands behind ``--``.
EXEC_REST = 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"'

FAKES = {
    "setpriv": 'shift 2; exec "$@"',
    "unshare": EXEC_REST,
    "nsenter": EXEC_REST,
    "apparmor_parser": "",
    "mount": '[ "${@: -1}" != /run/rootfs ] || [ "$1" != --bind ] || echo "$2" >$here/rootfs',
    "mkdir": "",
    "tee": "cat >/dev/null",
    "ip": "",
    "dnsmasq": "echo dnsmasq-dhcp: DHCP, IP range 10.77.0.100 -- 10.77.0.199; exec sleep 60",
    "lxc-usernsexec": 'cat >/dev/null; cp -r "$here/shipped/etc" "$(cat "$here/rootfs")"',
    "lxc-start": """
        etc=$(cat "$here/rootfs")/etc
        [ -s "$etc/machine-id" ] || printf '%032x\\n' 77 >"$etc/machine-id"
        [ -e "$etc/ssh/ssh_host_rsa_key.pub" ] || echo fresh >"$etc/ssh/ssh_host_rsa_key.pub"
        echo $$ >"$here/monitor"
        exec sleep 60
    """,
    "lxc-stop": 'kill "$(cat "$here/monitor")"',
    "ssh": "echo 0",
    "lxc-attach": """
        while [ "$1" != -- ]; do shift; done; shift 5
        kill -0 "$(cat "$here/monitor")" || exit 1
        case "$*" in
          "systemctl is-system-running") cat "$here/state" ;;
          "systemctl list-units"*) cat "$here/failed-units" ;;
          "systemctl list-jobs"*) echo "12 slow.service start running" ;;
          "journalctl --boot"*) echo "Nov 01 systemd[1]: the journal" ;;
          "journalctl"*) echo "the unit's last words" ;;
          "ip -json"*) cat "$here/address" ;;
          "getent"*) cat "$here/hosts" ;;
          "runuser --login coder --command id"*) cat "$here/sudo" ;;
          "runuser --login coder --command "*) shift 4; exec sh -c "$1" ;;
          *) echo "unexpected: $*"; exit 99 ;;
        esac
    """,
}

ANSWERS = {
    "state": "running",
    "failed-units": "",
    "address": ADDRESS,
    "hosts": "10.77.0.1 STREAM boot.hakim.test",
    "sudo": "1000\n0",
}


class Machine:
    """A machine where a boot test finds what it needs, and an image that keeps its promises."""

    def __init__(self, tmp_path: Path) -> None:
        self.programs = tmp_path / "programs"
        self.programs.mkdir()
        self.work = tmp_path / "work"
        self.cgroups = tmp_path / "cgroups"
        self.cgroups.mkdir()
        self.archive = tmp_path / NAME
        self.archive.write_bytes(lzma.compress(bytes(10_240)))
        self.env = {"PATH": f"{self.programs}:{os.environ['PATH']}"}
        (self.programs / "shipped/etc/ssh").mkdir(parents=True)
        self.ship("machine-id", "")
        for name, script in FAKES.items():
            self.play(name, script)
        for name, text in ANSWERS.items():
            self.answer(name, text)

    def play(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/bash\nhere={self.programs}\n{textwrap.dedent(script)}\n")
        path.chmod(0o755)

    def answer(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"{text}\n")

    def ship(self, name: str, text: str) -> None:
        (self.programs / "shipped/etc" / name).write_text(text)

    def boot(
        self, archive: Path | None = None, *commands: CommandCheck, **options: Any
    ) -> BootReport:
        return boot_test(
            archive or self.archive,
            env=self.env,
            work_dir=self.work,
            timeout=2,
            commands=commands,
            **options,
        )

    def failures(self, archive: Path | None = None, *commands: CommandCheck) -> dict[str, str]:
        with pytest.raises(BootFailedError) as caught:
            self.boot(archive, *commands)
        assert self.is_clean()
        return {failure.name: str(failure) for failure in caught.value.report.failures}

    def is_clean(self) -> bool:
        return not [*self.work.iterdir(), *self.cgroups.iterdir()]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path)
    monkeypatch.setattr(sandbox, "CGROUP_ROOT", machine.cgroups)
    monkeypatch.setattr(boot, "refuse_foreign", lambda *_args, **_options: None)
    monkeypatch.setattr(boot, "_is_root", lambda: True)
    monkeypatch.setattr(os, "chown", lambda *_args: None)
    monkeypatch.setattr(container, "STOP_SECONDS", 1.0)
    return machine


def test_an_image_that_keeps_its_promises_passes(machine: Machine) -> None:
    report = machine.boot()

    assert report.failures == ()
    assert [check.name for check in report.checks] == [*probe._CHECKS, "stop"]
    assert set(report.phases) == {"extract", "boot", "checks", "stop"}
    assert report.boot_seconds == report.phases["boot"]
    assert "the journal" in report.log
    assert machine.is_clean()


def test_who_reads_the_archive_anyway_hands_on_what_is_in_it(machine: Machine) -> None:
    """Then tar has nothing to decompress, and gets exactly those bytes."""
    machine.archive.write_bytes(lzma.compress(b"not what is unpacked" * 512))
    calls = machine.programs / "calls"
    keep = FAKES["lxc-usernsexec"].replace("/dev/null", f"{machine.programs}/got")
    machine.play("lxc-usernsexec", f'echo "$@" >{calls}; {keep}')

    machine.boot(unpacked=lambda write: write(b"the tar inside"))

    assert "--xz" not in calls.read_text()
    assert (machine.programs / "got").read_bytes() == b"the tar inside"
    machine.boot()
    assert "--xz" in calls.read_text()


@pytest.mark.parametrize(
    ("answer", "text", "check", "found"),
    [
        ("state", "degraded", "state", "'degraded'"),
        ("failed-units", "a.service loaded failed failed A", "units", "a.service (the unit's last"),
        ("address", "[]", "address", "found []"),
        ("address", "no json", "address", "found no json"),
        ("address", ADDRESS.replace("10.77.0.123", "169.254.1.1"), "address", "169.254.1.1"),
        ("hosts", "", "name resolution", "no such name"),
        ("hosts", "192.0.2.1 STREAM", "name resolution", "192.0.2.1"),
        ("sudo", "1001\n0", "coder", "user coder (1000)"),
        ("sudo", "1000\nsudo: a password is required", "coder", "a password is required"),
    ],
)
def test_a_broken_promise_is_reported_with_what_was_found(
    machine: Machine, answer: str, text: str, check: str, found: str
) -> None:
    machine.answer(answer, text)

    assert found in machine.failures()[check]


def test_every_failure_is_reported_at_once(machine: Machine) -> None:
    machine.answer("state", "degraded")
    machine.answer("hosts", "")
    machine.answer("sudo", "")

    assert set(machine.failures()) == {"state", "name resolution", "coder"}


@pytest.mark.parametrize(
    ("name", "text", "check", "found"),
    [
        ("machine-id", "c0ffee" * 5 + "00\n", "machine-id", "the archive's own"),
        ("machine-id", "uninitialized\n", "machine-id", "'uninitialized'"),
        ("ssh/ssh_host_rsa_key.pub", "ssh-rsa AAAA", "host keys", "own ssh_host_rsa_key.pub"),
    ],
)
def test_an_identity_that_comes_with_the_image_is_refused(
    machine: Machine, name: str, text: str, check: str, found: str
) -> None:
    machine.ship(name, text)

    assert found in machine.failures()[check]


def test_a_container_without_host_keys_fails(machine: Machine) -> None:
    machine.play("lxc-start", "echo $$ >$here/monitor; exec sleep 60")

    assert set(machine.failures()) == {"host keys", "machine-id"}


def test_a_system_that_never_settles_says_what_it_waits_for(machine: Machine) -> None:
    machine.answer("state", "starting")

    assert "waiting for slow.service" in machine.failures()["state"]


def test_a_container_that_ends_early_says_why_and_nothing_else_is_asked(machine: Machine) -> None:
    machine.play("lxc-start", "echo Failed to exec /sbin/init; exit 1")

    failures = machine.failures()

    assert set(failures) == {"state"}
    assert "Failed to exec /sbin/init" in failures["state"]


def test_a_container_that_does_not_stop_fails(machine: Machine) -> None:
    machine.play("lxc-stop", "exit 1")

    assert "still ran" in machine.failures()["stop"]


REFUSED = "echo 'root@10.77.0.123: Permission denied (password).' >&2; exit 255"
SILENT = "echo 'connect to host 10.77.0.123 port 22: Connection refused' >&2; exit 255"


def test_trixie_has_to_let_root_in(machine: Machine) -> None:
    machine.play("ssh", REFUSED)
    assert "accept root" in machine.failures()["ssh"]

    machine.play("ssh", SILENT)
    assert "Connection refused" in machine.failures()["ssh"]


def test_other_releases_have_to_refuse_root_and_yet_answer(machine: Machine) -> None:
    bookworm = machine.archive.rename(machine.archive.with_name(NAME.replace("trixie", "bookworm")))
    assert "it let root in" in machine.failures(bookworm)["ssh"]

    machine.play("ssh", SILENT)
    assert "Connection refused" in machine.failures(bookworm)["ssh"]

    machine.play("ssh", REFUSED)
    assert machine.boot(bookworm).failures == ()


def test_the_password_reaches_ssh_by_askpass_and_never_by_argv(machine: Machine) -> None:
    seen = machine.programs / "seen"
    machine.play("ssh", f'echo "$* asked: $($SSH_ASKPASS)" >{seen}; echo 0')

    machine.boot()

    argv, _, asked = seen.read_text().partition(" asked: ")
    assert asked.strip() == "password"
    assert not [word for word in argv.split() if word == "password"]


def test_commands_are_run_and_their_output_is_compared(machine: Machine) -> None:
    good = CommandCheck(name="good", run="echo 'a  b' '$HOME'", expect=r"^a  b \$HOME$")
    text = CommandCheck(name="text", run="echo one; echo two", expect="^one$")
    wrong = CommandCheck(name="wrong", run="echo 1.2", expect="^2")
    failed = CommandCheck(name="failed", run="echo sorry; exit 7")

    failures = machine.failures(None, good, text, wrong, failed)

    assert set(failures) == {"wrong", "failed"}
    assert "1.2" in failures["wrong"]
    assert "status 7: sorry" in failures["failed"]


def test_a_command_that_hangs_is_cut_off(machine: Machine) -> None:
    slow = CommandCheck(name="slow", run="exec sleep 30", timeout=0.5)

    assert "0.5 seconds" in machine.failures(None, slow)["slow"]


def test_what_an_image_prints_cannot_steer_a_terminal(machine: Machine) -> None:
    machine.answer("state", "running")
    sly = CommandCheck(name="sly", run=r"printf 'a\033[31mb\n'; exit 1")

    assert "\033" not in machine.failures(None, sly)["sly"]


def test_an_archive_that_tar_refuses_is_named_with_the_reason(machine: Machine) -> None:
    machine.play("lxc-usernsexec", "echo 'tar: Exiting with failure status' >&2; exit 2")

    with pytest.raises(VerificationError, match=f"{NAME} cannot be unpacked: .*tar: Exiting"):
        machine.boot()
    assert machine.is_clean()


def test_a_full_disk_is_no_fault_of_the_archive(machine: Machine) -> None:
    machine.play("lxc-usernsexec", "echo 'tar: x: No space left on device' >&2; exit 2")

    with pytest.raises(Exception, match="is full") as caught:
        machine.boot()
    assert not isinstance(caught.value, VerificationError)
    assert machine.is_clean()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a whole .xz file"),
        (b"not xz at all, but longer than a header", "File format not recognized"),
        (lzma.compress(os.urandom(10_000))[:-40], "not a whole .xz file"),
    ],
)
def test_an_archive_that_is_no_xz_is_refused_before_anything_is_made(
    machine: Machine, content: bytes, reason: str
) -> None:
    machine.archive.write_bytes(content)

    with pytest.raises(VerificationError, match=reason) as caught:
        machine.boot()
    assert "\n" not in caught.value.message
    assert machine.is_clean()


def test_the_disk_is_measured_against_the_unpacked_image(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "_ROOM", 2**60)

    with pytest.raises(ConfigurationError, match=r"--work-dir: .* GB free"):
        machine.boot()
    assert machine.is_clean()


def test_a_name_that_is_none_of_ours_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a template"):
        machine.boot(tmp_path / "rootfs.tar.xz")
    with pytest.raises(ConfigurationError, match="There is no file"):
        machine.boot(tmp_path / NAME.replace("base", "php"))


def test_everything_that_is_missing_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(boot, "_is_root", lambda: False)
    monkeypatch.setattr(boot, "_PROGRAMS", {"hakim-a": "a", "hakim-b": "b", "sh": "dash"})

    with pytest.raises(ConfigurationError) as caught:
        boot_test(tmp_path / NAME, env=os.environ, work_dir=tmp_path)

    assert len(caught.value.problems) == 3
    assert "root" in caught.value.problems[0]
    assert "sudo" in caught.value.hint
    assert "apt-get install --no-install-recommends a b" in caught.value.hint


def test_a_machine_without_private_namespaces_is_named_with_the_reason(machine: Machine) -> None:
    machine.play("unshare", "echo 'unshare: unshare failed: Operation not permitted'; exit 1")

    with pytest.raises(ConfigurationError, match="Operation not permitted"):
        machine.boot()
    assert machine.is_clean()


def test_a_dnsmasq_that_does_not_start_is_named_with_the_reason(machine: Machine) -> None:
    machine.play("dnsmasq", "echo 'dnsmasq: failed to create listening socket'; exit 2")

    with pytest.raises(Exception, match="failed to create listening socket"):
        machine.boot()
    assert machine.is_clean()


@pytest.mark.parametrize(
    ("lines", "is_refused"),
    [
        (None, True),
        (["disabled", "flags: F"], True),
        (["enabled", "interpreter /usr/bin/qemu-aarch64-static", "flags: OC"], True),
        (["enabled", "interpreter /usr/bin/qemu-aarch64-static", "flags: OCF"], False),
    ],
)
def test_a_foreign_image_needs_an_emulator_that_containers_can_use(
    tmp_path: Path, lines: list[str] | None, *, is_refused: bool
) -> None:
    if lines is not None:
        (tmp_path / "qemu-aarch64").write_text("\n".join(lines))

    def refuse() -> None:
        boot.refuse_foreign(architecture_named("arm64"), machine="x86_64", binfmt=tmp_path)

    if is_refused:
        with pytest.raises(
            ConfigurationError, match=r"x86_64 machine cannot run .* arm64"
        ) as caught:
            refuse()
        assert "qemu-user-static" in caught.value.hint
    else:
        refuse()
    boot.refuse_foreign(architecture_named("amd64"), machine="x86_64", binfmt=tmp_path)


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {path!r}
from hakim_actions.image import boot, sandbox
sandbox.CGROUP_ROOT = Path({cgroups!r})
boot._is_root = lambda: True
os.chown = lambda *args: None

def stop(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, stop)
boot.boot_test(
    Path({archive!r}), env=dict(os.environ, PATH={search!r}), work_dir=Path({work!r}),
    on_step=lambda step: print(step, flush=True),
)
"""


def interrupted(machine: Machine, number: signal.Signals) -> Callable[[], bool]:
    """Send *number* to a run that is booting; return whether its container still runs."""
    machine.answer("state", "starting")
    script = INTERRUPTED.format(
        path=sys.path,
        cgroups=str(machine.cgroups),
        archive=str(machine.archive),
        search=machine.env["PATH"],
        work=str(machine.work),
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        assert any(line == "booting\n" for line in child.stdout)
        while not (machine.programs / "monitor").exists():
            time.sleep(0.01)
        child.send_signal(number)
        child.wait(20)
    monitor = int((machine.programs / "monitor").read_text())
    return lambda: Path(f"/proc/{monitor}/cmdline").exists()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the name says amd64")
def test_sigterm_ends_the_container_and_removes_everything(machine: Machine) -> None:
    still_runs = interrupted(machine, signal.SIGTERM)

    assert not still_runs()
    assert machine.is_clean()


def test_the_summary_of_a_tar_is_not_read_from_names(tmp_path: Path) -> None:
    folder = tmp_path / "--files0"
    folder.mkdir()
    with tarfile.open(folder / NAME, "w:xz"):
        pass

    assert boot._unpacked_bytes(folder / NAME, env=os.environ) == 10_240


def test_an_image_that_does_not_fit_into_the_memory_is_unpacked_on_the_disk(
    machine: Machine,
) -> None:
    report = machine.boot(memory=100 * 2**20)

    assert not report.failures
    assert machine.is_clean()
