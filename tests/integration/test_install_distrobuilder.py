"""scripts/install-distrobuilder.sh, run for real with fake programs first on PATH.

The fakes record their arguments and keep the rules of the real ones that matter here: apt knows
only what its archive has, curl fails on what is not there, go writes where GOBIN or -o says.
Checksums, tar and dpkg-deb are the real programs; where a test needs an archive that is accepted,
it runs a copy of the script that pins the test's own archive.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install-distrobuilder.sh"
NOBODY = 65534
RUNTIME = {
    "debootstrap",
    "debian-archive-keyring",
    "rsync",
    "gpg",
    "squashfs-tools",
    "tar",
    "xz-utils",
}
BUILD = {"ca-certificates", "gcc", "libc6-dev", "curl"}
TAGS = "containers_image_openpgp,containers_image_storage_stub,netgo,osusergo"
SOURCE = "distrobuilder_3.3.1.orig.tar.gz"
FALLBACK = "distrobuilder_3.2-2+b9_amd64.deb"
GO_TARBALL = "go1.26.3.linux-amd64.tar.gz"

FAKES = {
    "go": r"""
binary() { mkdir -p "${1%/*}"; printf '#!/bin/sh\necho %s\n' "$FAKE_BUILT" >"$1"; chmod +x "$1"; }
case "$1 ${2-}" in
  "env GOVERSION") echo "go$FAKE_GO_VERSION" ;;
  "env GOPROXY") echo "${GOPROXY:-the-default-proxy}" ;;
  "env GOSUMDB") echo "${GOSUMDB:-the-default-database}" ;;
  install*)
    env | grep -E '^(GO|CGO)' >"$FAKE_STATE/go-env"
    [ "$FAKE_GO_INSTALL" != hang ] || { touch "$FAKE_STATE/hanging"; exec sleep 60; }
    [ "$FAKE_GO_INSTALL" = ok ] || { echo '403 Forbidden' >&2; exit 1; }
    binary "$GOBIN/distrobuilder" ;;
  build*)
    [ -f distrobuilder/main.go ] || { echo 'no Go files' >&2; exit 1; }
    while [ "$1" != -o ]; do shift; done
    binary "$2" ;;
  *) exit 2 ;;
esac
""",
    "apt-get": r"""
case "$*" in
  indextargets*) echo "http://archive.test/debian/" ;;
  *update*) [ "$FAKE_APT_UPDATE" = ok ] || exit 100 ;;
  *install*)
    while [ "$1" != install ]; do shift; done
    shift
    for package; do
      case $package in
        -*) ;;
        golang-go) mkdir -p "$FAKE_STATE/distribution"
          cp "$FAKE_BIN/go" "$FAKE_STATE/distribution/go" ;;
        *) grep -qx "$package" "$FAKE_STATE/archive" || exit 100 ;;
      esac
    done ;;
  *) exit 100 ;;
esac
""",
    "apt-cache": 'printf "golang-go:\\n  Installed: (none)\\n  Candidate: %s\\n" "$FAKE_CANDIDATE"',
    "curl": r"""
while [ $# -gt 1 ]; do [ "$1" != -o ] || output=$2; shift; done
[ -f "$FAKE_STATE/site/${1##*/}" ] || { echo "curl: (22) 404" >&2; exit 22; }
cp "$FAKE_STATE/site/${1##*/}" "$output"
""",
    "dpkg": r"""
case $1 in
  --print-architecture) echo "$FAKE_ARCH" ;;
  *) exec /usr/bin/dpkg "$@" ;;
esac
""",
    "dpkg-query": r"""
for package; do :; done
grep -qx "$package" "$FAKE_STATE/installed" || exit 1
printf installed
""",
    "debootstrap": "",
    "sudo": "",
}


def os_release(**values: str) -> str:
    return "".join(f'{key}="{value}"\n' for key, value in values.items())


DEBIAN_12 = os_release(PRETTY_NAME="Debian GNU/Linux 12 (bookworm)", ID="debian", VERSION_ID="12")


@dataclass
class Machine:
    """A machine of fakes under one folder; `env` sets how the fakes behave."""

    root: Path
    script: Path = SCRIPT
    user: int | None = None
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("bin", "state/site", "tmp", "prefix"):
            (self.root / name).mkdir(parents=True)
        for name, body in FAKES.items():
            self.fake(name, body)
        self.state = self.root / "state"
        self.env = {
            "PATH": f"{self.root}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
            "HAKIM_OS_RELEASE": str(self.root / "os-release"),
            "HAKIM_GO_SEARCH_PATH": f"{self.root}/bin:{self.state}/distribution",
            "HAKIM_GO_DOWNLOAD_URL": "https://go.test/dl",
            "FAKE_STATE": str(self.state),
            "FAKE_BIN": str(self.root / "bin"),
            "FAKE_ARCH": "amd64",
            "FAKE_GO_VERSION": "1.26.8",
            "FAKE_GO_INSTALL": "ok",
            "FAKE_BUILT": "3.3.1",
            "FAKE_APT_UPDATE": "ok",
            "FAKE_CANDIDATE": "2:1.19~1",
        }
        (self.root / "os-release").write_text(DEBIAN_12)
        self.installed(RUNTIME | BUILD)
        (self.state / "archive").write_text("\n".join(RUNTIME | BUILD) + "\n")

    @property
    def target(self) -> Path:
        return self.root / "prefix" / "bin" / "distrobuilder"

    def fake(self, name: str, body: str) -> None:
        record = f'printf \'%s\\n\' "{name} $*" >>"$FAKE_STATE/log"\n'
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/bash\n{record}{body}\n")
        path.chmod(0o755)

    def installed(self, packages: set[str]) -> None:
        (self.state / "installed").write_text("\n".join(packages) + "\n")

    def has_distrobuilder(self, version: str) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(f"#!/bin/sh\necho {version}\n")
        self.target.chmod(0o755)

    def publish(self, archive: Path, pin: str = "") -> None:
        """Put an archive where curl finds it; with `pin`, make the script expect it."""
        shutil.copy(archive, self.state / "site" / archive.name)
        if pin:
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            pinned = re.compile(rf"({re.escape(pin)})[0-9a-f]{{64}}")
            text, count = pinned.subn(rf"\g<1>{digest}", self.script.read_text(), count=1)
            assert count == 1
            self.script = self.root / "script.sh"
            self.script.write_text(text)
            self.script.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return ["bash", str(self.script), "--prefix", str(self.root / "prefix"), *arguments]

    def install(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.env,
            cwd="/",
            user=self.user,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def calls(self, program: str) -> list[str]:
        log = self.state / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line.partition(" ")[2] for line in lines if line.split(" ")[0] == program]

    def built_with(self) -> dict[str, str]:
        lines = (self.state / "go-env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def version(self) -> str:
        return subprocess.run(
            [str(self.target)], capture_output=True, text=True, check=True
        ).stdout.strip()

    def left_over(self) -> list[str]:
        """What a run left in the temporary folder, or beside its result."""
        beside = self.target.parent.glob("*") if self.target.parent.exists() else ()
        return [p.name for p in (*(self.root / "tmp").iterdir(), *beside) if p != self.target]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def source_package(folder: Path) -> Path:
    tree = folder / "distrobuilder-3.3.1" / "distrobuilder"
    tree.mkdir(parents=True)
    (tree / "main.go").write_text("package main\n")
    path = folder / SOURCE
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree.parent, tree.parent.name)
    return path


def fallback_package(folder: Path) -> Path:
    tree = folder / "package"
    (tree / "DEBIAN").mkdir(parents=True)
    control = (
        "Package: d\nVersion: 1\nArchitecture: amd64\nMaintainer: T <t@t.test>\nDescription: d\n"
    )
    (tree / "DEBIAN" / "control").write_text(control)
    binary = tree / "usr" / "bin" / "distrobuilder"
    binary.parent.mkdir(parents=True)
    binary.write_text("#!/bin/sh\necho 3.2\n")
    binary.chmod(0o755)
    path = folder / FALLBACK
    subprocess.run(["dpkg-deb", "--build", tree, path], check=True, capture_output=True)
    return path


def go_tarball(machine: Machine, folder: Path) -> Path:
    path = folder / GO_TARBALL
    with tarfile.open(path, "w:gz") as archive:
        archive.add(machine.root / "bin" / "go", "go/bin/go")
    return path


# --- the command line ---


def test_help_names_every_option(machine: Machine) -> None:
    result = machine.install("--help")
    assert result.returncode == 0
    assert set(re.findall(r"^  (--\w+)", result.stdout, re.MULTILINE)) == {
        "--version",
        "--prefix",
        "--force",
        "--help",
    }


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--verbose"], "--verbose"),
        (["--version"], "--version"),
        (["--version", "2.1.0"], "2.1.0"),
        (["--version", "3.3.0"], "3.3.0"),  # its go.mod has a replace: go install refuses it
        (["--version", "3.3.1;id"], "3.3.1;id"),
        (["--version", "latest"], "latest"),
        (["--prefix", "relative"], "relative"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(
    machine: Machine, arguments: list[str], named: str
) -> None:
    result = machine.install(*arguments)
    assert result.returncode == 2
    assert named in result.stderr.splitlines()[0]
    assert "hint:" in result.stderr
    assert not (machine.state / "log").exists()


# --- a version that is already there ---


def test_does_nothing_when_the_version_is_installed(machine: Machine) -> None:
    machine.has_distrobuilder("3.3.1")
    before = machine.target.stat().st_ino
    result = machine.install()
    assert result.returncode == 0
    assert "3.3.1 is already installed" in result.stdout
    assert machine.target.stat().st_ino == before
    assert not (machine.state / "log").exists()


@pytest.mark.parametrize("installed", ["3.2.0", "3.4.0", "nonsense"])
def test_replaces_another_version(machine: Machine, installed: str) -> None:
    machine.has_distrobuilder(installed)
    assert machine.install().returncode == 0
    assert machine.version() == "3.3.1"


def test_force_installs_again(machine: Machine) -> None:
    machine.has_distrobuilder("3.3.1")
    assert machine.install("--force").returncode == 0
    assert len(machine.calls("go")) > 1


# --- which machines ---


@pytest.mark.parametrize(
    ("distribution", "release", "name"),
    [
        ("debian", "12", "Debian GNU/Linux 12 (bookworm)"),  # also Proxmox VE 8
        ("debian", "13", "Debian GNU/Linux 13 (trixie)"),  # also Proxmox VE 9
        ("ubuntu", "22.04", "Ubuntu 22.04.5 LTS"),
        ("ubuntu", "24.04", "Ubuntu 24.04.3 LTS"),
    ],
)
def test_supported_systems(machine: Machine, distribution: str, release: str, name: str) -> None:
    text = os_release(PRETTY_NAME=name, ID=distribution, VERSION_ID=release)
    (machine.root / "os-release").write_text(text)
    assert machine.install().returncode == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (os_release(ID="debian", VERSION_ID="11"), "debian 11"),
        (os_release(ID="debian", VERSION_CODENAME="sid"), "debian (no version)"),
        (os_release(ID="ubuntu", VERSION_ID="20.04"), "ubuntu 20.04"),
        (os_release(ID="fedora", VERSION_ID="43"), "fedora 43"),
    ],
)
def test_other_systems_are_told_what_is_supported(machine: Machine, text: str, named: str) -> None:
    (machine.root / "os-release").write_text(text)
    result = machine.install()
    assert result.returncode == 1
    assert f"{named} is not supported" in result.stderr
    for supported in ("Debian 12 or 13", "Ubuntu 22.04 or 24.04", "Proxmox VE 8 or 9"):
        assert supported in result.stderr
    assert not machine.calls("apt-get")


def test_an_architecture_without_pins_is_refused(machine: Machine) -> None:
    machine.env["FAKE_ARCH"] = "riscv64"
    result = machine.install()
    assert result.returncode == 1
    assert "riscv64 is not supported" in result.stderr


# --- packages ---


def test_apt_is_left_alone_when_nothing_is_missing(machine: Machine) -> None:
    assert machine.install().returncode == 0
    assert machine.calls("apt-get") == []


def test_apt_installs_only_what_is_missing(machine: Machine) -> None:
    machine.installed((RUNTIME | BUILD) - {"rsync", "libc6-dev"})
    assert machine.install().returncode == 0
    installs = [call for call in machine.calls("apt-get") if " install " in call]
    assert [call.split("--no-install-recommends ")[1] for call in installs] == [
        "rsync",
        "libc6-dev",
    ]
    assert sum("update" in call for call in machine.calls("apt-get")) == 1


def test_a_dead_package_source_does_not_stop_the_others(machine: Machine) -> None:
    machine.installed((RUNTIME | BUILD) - {"rsync"})
    machine.env["FAKE_APT_UPDATE"] = "401"
    result = machine.install()
    assert result.returncode == 0
    assert "apt-get update failed" in result.stderr


def test_a_package_that_apt_cannot_install_is_named(machine: Machine) -> None:
    machine.installed((RUNTIME | BUILD) - {"rsync"})
    (machine.state / "archive").write_text("gpg\n")
    result = machine.install()
    assert result.returncode == 1
    assert "could not install rsync" in result.stderr
    assert not machine.target.exists()


# --- compiling ---


def test_compiles_the_pinned_module_statically(machine: Machine) -> None:
    result = machine.install()
    assert result.returncode == 0, result.stderr
    (build,) = [call for call in machine.calls("go") if call.startswith("install")]
    assert build == (
        f"install -trimpath -tags {TAGS} -ldflags -s -w -linkmode external -extldflags -static "
        "github.com/lxc/distrobuilder/v3/distrobuilder@v3.3.1"
    )
    assert machine.built_with()["CGO_ENABLED"] == "1"
    assert machine.version() == "3.3.1"
    assert machine.left_over() == []


def test_another_version_is_compiled_by_name(machine: Machine) -> None:
    machine.env["FAKE_BUILT"] = "3.4.0"
    assert machine.install("--version", "v3.4.0").returncode == 0
    assert machine.calls("go")[-1].endswith("/v3/distrobuilder@v3.4.0")
    assert machine.version() == "3.4.0"


def test_the_checksum_database_cannot_be_turned_off(machine: Machine) -> None:
    off = {
        "GOSUMDB": "off",
        "GONOSUMDB": "*",
        "GONOSUMCHECK": "1",
        "GOPRIVATE": "*",
        "GOINSECURE": "*",
        "GOFLAGS": "-mod=vendor -insecure",
        "GOTOOLCHAIN": "local",
        "GOOS": "plan9",
    }
    machine.env |= off | {"GOPROXY": "https://proxy.of.the.user.test"}
    assert machine.install().returncode == 0
    used = machine.built_with()
    assert used["GOSUMDB"] == ""  # Go's own default
    assert used["GOENV"] == "off"
    assert used["GOTOOLCHAIN"] == "auto"
    assert used["GOFLAGS"] == "-modcacherw"
    assert used["GOPROXY"] == "https://proxy.of.the.user.test"
    assert not {"GONOSUMDB", "GONOSUMCHECK", "GOPRIVATE", "GOINSECURE", "GOOS"} & used.keys()


def test_a_checksum_database_of_the_user_is_kept(machine: Machine) -> None:
    machine.env["GOSUMDB"] = "sums.of.the.user.test+key"
    assert machine.install().returncode == 0
    assert machine.built_with()["GOSUMDB"] == "sums.of.the.user.test+key"


def test_go_writes_only_into_the_temporary_folder(machine: Machine) -> None:
    assert machine.install().returncode == 0
    used = machine.built_with()
    for name in ("GOPATH", "GOMODCACHE", "GOCACHE", "GOTMPDIR", "GOBIN"):
        assert used[name].startswith(f"{machine.root}/tmp/")


# --- finding a Go ---


def without_go(machine: Machine) -> None:
    """Move Go out of the search path; the distribution's still lands in it."""
    machine.env["HAKIM_GO_SEARCH_PATH"] = f"{machine.state}/distribution"


@pytest.mark.parametrize("candidate", ["2:1.24~2", "2:1.22~2build1"])
def test_without_go_the_distributions_is_installed(machine: Machine, candidate: str) -> None:
    without_go(machine)
    machine.env["FAKE_CANDIDATE"] = candidate
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert machine.calls("apt-get")[-1].endswith(" golang-go")
    assert machine.version() == "3.3.1"


@pytest.mark.parametrize("candidate", ["2:1.19~1", "2:1.18~0ubuntu2", "(none)"])
def test_a_distribution_with_an_old_go_means_the_pinned_tarball(
    machine: Machine, tmp_path: Path, candidate: str
) -> None:
    without_go(machine)
    machine.env["FAKE_CANDIDATE"] = candidate
    machine.publish(go_tarball(machine, tmp_path), pin="GO_SHA256=(\n  [amd64]=")
    result = machine.install("--version", "3.3.1")
    assert result.returncode == 0, result.stderr
    (download,) = machine.calls("curl")
    assert download.endswith(f"https://go.test/dl/{GO_TARBALL}")
    assert not any("golang-go" in call for call in machine.calls("apt-get"))
    assert machine.version() == "3.3.1"
    assert machine.left_over() == []


def test_a_go_that_is_too_old_is_passed_over(machine: Machine) -> None:
    machine.env |= {"FAKE_GO_VERSION": "1.20.14", "FAKE_CANDIDATE": "2:1.19~1"}
    result = machine.install("--version", "3.3.1")
    assert result.returncode == 1
    assert "no Go >= 1.21" in result.stderr
    assert not [call for call in machine.calls("go") if not call.startswith("env")]


def test_a_download_that_fails_says_why(machine: Machine) -> None:
    without_go(machine)
    result = machine.install("--version", "3.3.1")
    assert result.returncode == 1
    assert "curl: (22) 404" in result.stderr


def test_a_go_tarball_with_another_checksum_is_not_used(machine: Machine, tmp_path: Path) -> None:
    without_go(machine)
    machine.publish(go_tarball(machine, tmp_path))
    result = machine.install("--version", "3.3.1")
    assert result.returncode == 1
    assert "does not have the pinned checksum" in result.stderr
    assert machine.calls("go") == []
    assert not machine.target.exists()
    assert machine.left_over() == []


# --- when the module cannot be had ---


def test_a_refused_module_is_compiled_from_the_source_package(
    machine: Machine, tmp_path: Path
) -> None:
    machine.env["FAKE_GO_INSTALL"] = "403"
    machine.publish(source_package(tmp_path), pin="SOURCE_SHA256=")
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert "403 Forbidden" in result.stderr
    (download,) = machine.calls("curl")
    assert download.endswith(f" http://archive.test/debian/pool/main/d/distrobuilder/{SOURCE}")
    assert machine.calls("go")[-1].startswith("build -buildvcs=false -trimpath -tags " + TAGS)
    assert machine.version() == "3.3.1"
    assert machine.left_over() == []


def test_the_last_resort_is_loud_and_counts_as_installed(machine: Machine, tmp_path: Path) -> None:
    machine.env["FAKE_GO_INSTALL"] = "403"
    machine.publish(fallback_package(tmp_path), pin="FALLBACK_SHA256=(\n  [amd64]=")
    first = machine.install()
    assert first.returncode == 0, first.stderr
    assert "version 3.2, not 3.3.1" in first.stderr
    assert machine.version() == "3.2"
    calls = (machine.state / "log").read_text()

    second = machine.install()
    assert second.returncode == 0
    assert "--force tries 3.3.1 again" in second.stdout
    assert (machine.state / "log").read_text() == calls

    machine.env["FAKE_GO_INSTALL"] = "ok"
    assert machine.install("--version", "3.3.1").returncode == 0
    assert machine.version() == "3.3.1"


def test_a_version_asked_for_by_name_is_never_replaced(machine: Machine, tmp_path: Path) -> None:
    machine.env["FAKE_GO_INSTALL"] = "403"
    machine.publish(fallback_package(tmp_path), pin="FALLBACK_SHA256=(\n  [amd64]=")
    result = machine.install("--version", "3.3.1")
    assert result.returncode == 1
    assert "3.3.1 could not be installed" in result.stderr
    assert not machine.target.exists()
    assert machine.left_over() == []


def test_the_source_package_stands_in_for_its_own_version_only(
    machine: Machine, tmp_path: Path
) -> None:
    machine.env["FAKE_GO_INSTALL"] = "403"
    machine.publish(source_package(tmp_path), pin="SOURCE_SHA256=")
    assert machine.install("--version", "3.4.0").returncode == 1
    assert not machine.calls("curl")


def test_a_tampered_archive_is_never_installed(machine: Machine, tmp_path: Path) -> None:
    machine.env["FAKE_GO_INSTALL"] = "403"
    machine.publish(source_package(tmp_path))
    machine.publish(fallback_package(tmp_path))
    result = machine.install()
    assert result.returncode == 1
    for name in (SOURCE, FALLBACK):
        assert f"{name} does not have the pinned checksum" in result.stderr
    assert not [call for call in machine.calls("go") if call.startswith("build")]
    assert not machine.target.exists()


# --- nothing half done ---


def test_a_binary_of_another_version_does_not_replace_the_old_one(machine: Machine) -> None:
    machine.has_distrobuilder("3.3.0")
    machine.env["FAKE_BUILT"] = "9.9.9"
    result = machine.install()
    assert result.returncode == 1
    assert "9.9.9" in result.stderr
    assert machine.version() == "3.3.0"
    assert machine.left_over() == []


def test_a_place_that_cannot_be_written_leaves_nothing_beside_it(machine: Machine) -> None:
    (machine.target / "in-the-way").mkdir(parents=True)
    result = machine.install()
    assert result.returncode == 1
    assert f"could not write {machine.target}" in result.stderr
    assert machine.left_over() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_build_at_once_and_cleans_up(
    machine: Machine, number: signal.Signals
) -> None:
    machine.env["FAKE_GO_INSTALL"] = "hang"
    with subprocess.Popen(
        machine.command(), env=machine.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 30
        while not (machine.state / "hanging").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    assert machine.left_over() == []
    assert not machine.target.exists()


# --- without root ---


@pytest.fixture
def unprivileged() -> Iterator[Machine]:
    """A machine whose user is not root and may not write to the prefix."""
    # Not tmp_path: pytest keeps that closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder) / "machine", user=NOBODY if os.geteuid() == 0 else None)
        machine.script = Path(shutil.copy(SCRIPT, machine.root))
        machine.fake("id", "echo 1000")
        for path in (machine.state, machine.root / "tmp"):
            path.chmod(0o777)
        (machine.root / "prefix").chmod(0o555)
        yield machine
        (machine.root / "prefix").chmod(0o755)


def hide(machine: Machine, program: str) -> None:
    """Give the machine a PATH with everything but `program`."""
    everything = machine.root / "everything"
    everything.mkdir()
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for path in Path(folder).iterdir():
            link = everything / path.name
            if path.name != program and not link.is_symlink():
                link.symlink_to(path)
    (machine.root / "bin" / program).unlink()
    machine.env["PATH"] = f"{machine.root}/bin:{everything}"


def test_sudo_is_used_only_to_write_the_prefix_and_says_so(unprivileged: Machine) -> None:
    result = unprivileged.install()
    assert result.returncode == 0, result.stderr
    calls = [call.split(" ")[0] for call in unprivileged.calls("sudo")]
    assert calls == ["install", "mv"]
    assert f"sudo: write to {unprivileged.root}/prefix/bin" in result.stdout


def test_a_prefix_of_ones_own_needs_no_sudo(unprivileged: Machine) -> None:
    (unprivileged.root / "prefix").chmod(0o777)
    assert unprivileged.install().returncode == 0
    assert unprivileged.version() == "3.3.1"
    assert not unprivileged.calls("sudo")


def test_sudo_is_used_for_apt_with_the_reason(unprivileged: Machine) -> None:
    unprivileged.installed((RUNTIME | BUILD) - {"rsync"})
    result = unprivileged.install()
    assert result.returncode == 0, result.stderr
    assert "sudo: install rsync" in result.stdout
    assert not unprivileged.calls("apt-get")  # never without sudo


def test_without_root_and_sudo_the_command_to_run_is_named(unprivileged: Machine) -> None:
    hide(unprivileged, "sudo")
    result = unprivileged.install()
    assert result.returncode == 1
    assert "root is needed to write to" in result.stderr
    assert "run as root: install" in result.stderr


def test_an_installed_version_needs_no_root(unprivileged: Machine) -> None:
    (unprivileged.root / "prefix").chmod(0o755)
    unprivileged.has_distrobuilder("3.3.1")
    assert unprivileged.install().returncode == 0
    assert not (unprivileged.state / "log").exists()
