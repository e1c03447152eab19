"""Before anything is touched, everything that is missing is named, with what installs it."""

import os
from pathlib import Path

import pytest
from conftest import FakeProgram

from hakim_actions.errors import ConfigurationError
from hakim_actions.image import doctor, preflight
from hakim_actions.system import files

KEYS = "uid:-::::1::2::Debian Archive Automatic Signing Key ({number}/{name}) <x>::::::::::0:"


@pytest.fixture
def machine(program: FakeProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of programs of a machine that has all it takes."""
    for name in ("debootstrap", "rsync", "tar", "xz"):
        program(name, "exit 0")
    program("distrobuilder", "echo 3.3.1")
    folder = program("gpg", f"echo '{KEYS.format(number=13, name='trixie')}'").parent
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(preflight, "KEYRING", keyring)
    monkeypatch.setattr(preflight, "boot_programs", dict)
    monkeypatch.setattr(files, "free_bytes", lambda _: 100 * 10**9)
    monkeypatch.setattr(preflight, "BINFMT", tmp_path)
    return folder


def problems(
    machine: Path, variant: str = "base", release: str = "trixie", arch: str = "amd64"
) -> str:
    """Return all problems; only the fake programs are on PATH, besides those of the shell."""
    env = {"PATH": f"{machine}:/usr/bin:/bin"}
    try:
        preflight.check_build(
            variants=[variant], release=release, arch=arch, work_dir=machine, env=env
        )
    except ConfigurationError as error:
        return "\n".join(error.problems)
    return ""


def test_a_ready_machine_has_no_problems(machine: Path) -> None:
    assert problems(machine) == ""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="speaks of an amd64 machine")
def test_an_image_that_this_machine_cannot_run_is_refused_before_it_is_built(machine: Path) -> None:
    found = problems(machine, arch="arm64")

    assert "This x86_64 machine cannot run the programs of an arm64 image" in found
    assert "qemu-user-static" in found


def test_everything_that_is_missing_is_named_at_once(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        preflight, "BUILD_PROGRAMS", {"no-debootstrap": "debootstrap", "no-xz": "xz-utils"}
    )
    monkeypatch.setattr(preflight, "boot_programs", lambda: {"no-lxc": "lxc"})
    monkeypatch.setattr(preflight, "KEYRING", machine / "none")
    (machine / "distrobuilder").write_text("#!/bin/sh\nexit 127\n")

    found = problems(machine)

    assert "no-debootstrap is missing: apt-get install debootstrap" in found
    assert "no-xz is missing: apt-get install xz-utils" in found
    assert "no-lxc is missing: apt-get install lxc" in found
    assert "distrobuilder is missing: scripts/install-distrobuilder.sh" in found
    assert "none is missing: apt-get install debian-archive-keyring" in found


@pytest.mark.parametrize(("version", "fine"), [("3.2", True), ("3.10.1", True), ("3.1", False)])
def test_a_distrobuilder_that_is_too_old_is_refused(
    machine: Path, program: FakeProgram, version: str, fine: bool
) -> None:
    program("distrobuilder", f"echo {version}")

    assert ("too old" not in problems(machine)) is fine


@pytest.mark.parametrize(
    ("number", "name", "fine"),
    [(13, "trixie", True), (12, "bookworm", True), (11, "bullseye", False)],
)
def test_the_keyring_has_to_know_the_release_or_the_one_before(
    machine: Path, program: FakeProgram, number: int, name: str, fine: bool
) -> None:
    program("gpg", f"echo '{KEYS.format(number=number, name=name)}'")

    assert ("knows no key of trixie" not in problems(machine)) is fine


def test_a_disk_without_room_is_named_with_both_numbers(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _: 6 * 10**9)

    assert problems(machine, "base") == ""
    assert f"{machine} has 6.0 GB free, 8 GB are needed" in problems(machine, "php")


def test_the_tables_name_real_debian_packages() -> None:
    """Typos in a hint cost its reader more than the hint saves; dpkg knows better."""
    for program, package in preflight.BUILD_PROGRAMS.items():
        listing = Path(f"/var/lib/dpkg/info/{package}.list")
        if listing.exists():
            assert any(Path(line).name == program for line in listing.read_text().splitlines())


def test_doctor_says_what_is_there_and_what_is_not(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "distrobuilder").write_text("#!/bin/sh\necho 1.0\n")

    found = {f.check: f for f in doctor.findings({"PATH": f"{machine}:/usr/bin:/bin"})}

    assert found["xz"].ok
    assert found["keyring"].ok
    assert not found["distrobuilder"].ok
    assert found["distrobuilder"].fix == ("scripts/install-distrobuilder.sh --force",)
