"""What a booted container is asked: the promises of the image contract, one check each."""

import contextlib
import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hakim_actions.artifact import Check
from hakim_actions.catalog import CommandCheck
from hakim_actions.debian import Release
from hakim_actions.errors import HakimError, VerificationError
from hakim_actions.image.container import Container
from hakim_actions.image.identity import Identity, identity
from hakim_actions.image.netns import KNOWN_NAME, Network
from hakim_actions.system import process

#: The password that trixie images let root in with, until a workspace's bootstrap closes the door.
#: It is part of the documented interface of the template, no secret.
BOOTSTRAP_PASSWORD: Final = "password"  # noqa: S105

#: What the check of the state expects.
BOOTED: Final = "systemd in state 'running'"

_SSH_SECONDS: Final = 30.0
_LAST_LINES: Final = 5


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A promise that was not kept: the check, what it expected, and what it found."""

    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.name}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True)
class Subject:
    """A booted container, and what it has to be measured against."""

    container: Container
    network: Network
    release: Release
    state: str
    shipped: Identity


class _MissedError(VerificationError):
    """A check's expectation and what was there instead."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(found)
        self.expected = expected


def examine(
    subject: Subject, commands: Sequence[CommandCheck], *, on_step: Callable[[str], None]
) -> Iterator[Check | Failure]:
    """Make every check, whatever the ones before found."""
    for name, check in _CHECKS.items():
        on_step(f"checking {name}")
        yield _made(name, lambda check=check: check(subject))  # type: ignore[misc]
    for command in commands:
        on_step(f"checking {command.name}")
        yield _made(command.name, lambda command=command: _command(subject, command))  # type: ignore[misc]


def _made(name: str, check: Callable[[], str]) -> Check | Failure:
    start = time.monotonic()
    try:
        detail = check()
    except _MissedError as missed:
        return Failure(name=name, expected=missed.expected, found=printable(missed.message))
    except HakimError as error:
        return Failure(name=name, expected="an answer", found=printable(error.message))
    detail = printable(detail)
    return Check(name=name, detail=detail, seconds=round(time.monotonic() - start, 3))


def printable(text: str) -> str:
    """Return *text*, which an image made, without what could steer a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _state(subject: Subject) -> str:
    if subject.state == "running":
        return subject.state
    found = f"'{subject.state}'"
    if subject.state == "starting":
        command = ["systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain"]
        jobs = [line.split() for line in subject.container.text(command).splitlines()]
        found += f", waiting for {', '.join(job[1] for job in jobs if len(job) > 1)}"
    raise _MissedError(BOOTED, found)


def _units(subject: Subject) -> str:
    expected = "no failed unit"
    command = ["systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager"]
    done = subject.container.run(command)
    if done.returncode != 0:
        raise _MissedError(expected, done.stdout.strip() or "no answer")
    failed = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    if failed:
        found = "; ".join(f"{unit} ({_last_lines(subject, unit)})" for unit in failed)
        raise _MissedError(expected, found)
    return "none failed"


def _last_lines(subject: Subject, unit: str) -> str:
    command = ["journalctl", "--no-pager", "--output=cat", f"--unit={unit}", f"-n{_LAST_LINES}"]
    return _shortened(subject.container.text(command))


def _address(subject: Subject) -> str:
    said = subject.container.text(["ip", "-json", "-4", "address", "show", "dev", "eth0"])
    expected = f"an IPv4 address on eth0 from {subject.network.first} to {subject.network.last}"
    found = _addresses(said)
    for address in found:
        if subject.network.leases(address):
            return str(address)
    raise _MissedError(expected, ", ".join(map(str, found)) or said or "none")


def _addresses(said: str) -> list[ipaddress.IPv4Address]:
    """Read ``ip -json address``; anything else is no address."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        infos = [info for link in json.loads(said) for info in link.get("addr_info", [])]
        return [ipaddress.IPv4Address(info["local"]) for info in infos]
    return []


def _name_resolution(subject: Subject) -> str:
    found = subject.container.text(["getent", "ahostsv4", KNOWN_NAME])
    if found.split()[:1] != [str(subject.network.gateway)]:
        expected = f"{KNOWN_NAME} to resolve to {subject.network.gateway}"
        raise _MissedError(expected, found or "no such name")
    return f"{KNOWN_NAME} is {subject.network.gateway}"


def _ssh(subject: Subject) -> str:
    """Log in over the network with the password a person would type, through OpenSSH itself."""
    said = _password_login(subject, _address(subject))
    welcome = subject.release.bootstrap_password
    expected = f"sshd to {'accept' if welcome else 'refuse'} root with the bootstrap password"
    if said == "0":
        if not welcome:
            raise _MissedError(expected, "it let root in")
        return "root is let in with the bootstrap password"
    if "Permission denied" not in said:
        raise _MissedError(expected, said)
    if welcome:
        raise _MissedError(expected, f"it refused: {said}")
    return "root is refused"


def _password_login(subject: Subject, address: str) -> str:
    """Return ``0`` when root's login ran ``id -u``, else why it did not."""
    box = subject.container.box
    askpass = box.folder / "askpass"
    askpass.write_text(f"#!/bin/sh\necho {BOOTSTRAP_PASSWORD}\n", encoding="ascii")
    askpass.chmod(0o700)
    options = {
        "UserKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "no",
        "LogLevel": "ERROR",
        "PubkeyAuthentication": "no",
        "PreferredAuthentications": "password,keyboard-interactive",
        "NumberOfPasswordPrompts": "1",
        "ConnectTimeout": "10",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    ask = {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    command = ["ssh", "-F", "none", *given, f"root@{address}", "id -u"]
    try:
        return box.run(command, extra=ask, timeout=_SSH_SECONDS).stdout.strip()
    except process.ProcessError as error:
        return error.message


def _host_keys(subject: Subject) -> str:
    expected = "SSH host keys made at first boot"
    keys = identity(subject.container.rootfs).keys
    if not keys:
        raise _MissedError(expected, "none in /etc/ssh")
    shared = sorted(set(keys.items()) & set(subject.shipped.keys.items()))
    if shared:
        names = ", ".join(name for name, _ in shared)
        raise _MissedError(expected, f"the archive's own {names}")
    return f"{len(keys)} made at first boot"


def _machine_id(subject: Subject) -> str:
    found = identity(subject.container.rootfs).machine_id
    expected = "a machine-id of its own in /etc/machine-id"
    if not re.fullmatch("[0-9a-f]{32}", found):
        raise _MissedError(expected, repr(found))
    if found == subject.shipped.machine_id:
        raise _MissedError(expected, "the archive's own, which every container would share")
    return "made at first boot"


def _coder(subject: Subject) -> str:
    done = subject.container.run(_login("id -u && sudo -n id -u"))
    if done.returncode != 0 or done.stdout.split() != ["1000", "0"]:
        expected = "user coder (1000) who may use sudo without a password"
        raise _MissedError(expected, done.stdout.strip() or f"status {done.returncode}")
    return "1000, sudo without a password"


def _command(subject: Subject, check: CommandCheck) -> str:
    done = subject.container.run(_login(check.run), timeout=check.timeout)
    said = done.stdout.strip()
    if done.returncode != 0:
        expected = f"'{check.run}' to end with status 0"
        raise _MissedError(expected, f"status {done.returncode}: {_shortened(said)}")
    match = re.search(check.expect, said, re.MULTILINE)
    if match is None:
        expected = f"'{check.run}' to print /{check.expect}/"
        raise _MissedError(expected, _shortened(said))
    start = said.rfind("\n", 0, match.start()) + 1
    return _shortened(said[start:].partition("\n")[0])


def _shortened(said: str) -> str:
    return " | ".join(said.strip().splitlines()[-_LAST_LINES:])[-400:] or "no output"


def _login(text: str) -> list[str]:
    return ["runuser", "--login", "coder", "--command", text]


#: Names as the manifest records them; addresses come before what uses the network.
_CHECKS: Final[Mapping[str, Callable[[Subject], str]]] = {
    "state": _state,
    "units": _units,
    "address": _address,
    "name resolution": _name_resolution,
    "ssh": _ssh,
    "host keys": _host_keys,
    "machine-id": _machine_id,
    "coder": _coder,
}
