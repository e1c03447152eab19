"""The same rootfs as an OCI image: into a real registry on loopback, and run by Docker Engine.

Needs root and Debian's docker.io, docker-registry, skopeo and busybox-static.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fakes import publications
from fakes.publications import COMMIT, Made

from hakim_actions.artifact import SUMS_NAME, parse_sums
from hakim_actions.cli.main import main
from hakim_actions.index import Index
from hakim_actions.system.files import sha256_file

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="Docker Engine needs root"),
    *(
        pytest.mark.skipif(
            shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None,
            reason=f"{program} is not installed",
        )
        for program in ("dockerd", "docker", "docker-registry", "skopeo", "busybox")
    ),
]
_REGISTRY = """\
version: 0.1
storage:
  filesystem:
    rootdirectory: {folder}
http:
  addr: 127.0.0.1:{port}
"""


@contextlib.contextmanager
def running(argv: Sequence[str], log: Path) -> Iterator[None]:
    """Run a server for the block, and end it and what it started."""
    with log.open("wb") as stream:
        child = subprocess.Popen(argv, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield
    finally:
        child.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def wait_for(ready: Callable[[], bool], log: Path) -> None:
    for _ in range(300):
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on a free port of loopback; the value is ``host:port``."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, log = folder / "config.yml", folder / "log"
    config.write_text(_REGISTRY.format(folder=folder / "data", port=port))
    with running(["docker-registry", "serve", str(config)], log):
        wait_for(lambda: _listens(port), log)
        yield f"127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


Docker = Callable[..., str]


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A Docker Engine of its own, on a private socket, with nothing of the machine's."""
    folder = tmp_path_factory.mktemp("docker")
    host, log = f"unix://{folder}/docker.sock", folder / "log"
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin") or "dockerd"
    argv = [daemon, "--host", host, "--bridge", "none", "--iptables=false", "--ip6tables=false"]
    for option, name in (("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")):
        argv += [option, str(folder / name)]

    def call(*arguments: str) -> str:
        done = subprocess.run(
            ["docker", "--host", host, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with running(argv, log):
        wait_for((folder / "docker.sock").is_socket, log)
        yield call
    for mount in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "--lazy", mount], check=False)


def _mounts_below(folder: Path) -> list[str]:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]


def rootfs() -> bytes:
    """Return a root file system as build packs it: busybox, a user coder, members ``./…``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz", preset=0) as archive:
        for name, owner in (("bin", 0), ("etc", 0), ("home", 0), ("home/coder", 1000)):
            _add(archive, name, kind=tarfile.DIRTYPE, owner=owner)
        _add(archive, "home/coder/project", kind=tarfile.DIRTYPE, owner=1000)
        _add(archive, "bin/busybox", Path("/bin/busybox").read_bytes())
        for applet in ("bash", "sh", "id", "pwd", "cat", "echo"):
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        _add(
            archive,
            "etc/passwd",
            b"root:x:0:0::/:/bin/sh\ncoder:x:1000:1000::/home/coder:/bin/sh\n",
        )
        _add(archive, "etc/group", b"root:x:0:\ncoder:x:1000:\n")
        _add(archive, "home/coder/project/hello", b"hello from the rootfs\n", owner=1000)
    return stream.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    owner: int = 0,
) -> None:
    member = tarfile.TarInfo(f"./{name}")
    member.type, member.linkname, member.size, member.mode = kind, link, len(data), 0o755
    member.uid = member.gid = owner
    member.mtime = publications.EPOCH
    archive.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def archive() -> bytes:
    return rootfs()


@pytest.fixture
def out(tmp_path: Path, archive: bytes) -> Path:
    """Artifacts whose archives are real ones."""
    folder = tmp_path / "out"
    for release, arch in (("trixie", "amd64"), ("trixie", "arm64"), ("bookworm", "amd64")):
        made = Made(release=release, arch=arch, archive=archive)
        publications.write(folder, made, exact=True)
    return folder


def publish(out: Path, place: str, *options: str, **variables: str) -> int:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **variables}
    return main(["publish", str(out), "--target", "registry", "--to", place, *options], environment)


def inspect(reference: str) -> dict[str, object]:
    argv = ["skopeo", "inspect", "--tls-verify=false", f"docker://{reference}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    document: dict[str, object] = json.loads(done.stdout)
    return document


def index_of(out: Path) -> Index:
    return Index.from_json((out / "index.json").read_text(), source="the index")


def test_docker_runs_what_was_published(
    registry: str, docker: Docker, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert publish(out, f"{registry}/acme") == 0, capfd.readouterr().err
    image = index_of(out).entries[1].image
    assert image.startswith(f"{registry}/acme/hakim-base@sha256:")
    docker("pull", "--quiet", image)
    run = ("run", "--rm", "--network", "none", image)
    assert docker(*run, "id", "-un") == "coder"
    assert docker(*run, "pwd") == "/home/coder/project"
    assert docker(*run, "cat", "hello") == "hello from the rootfs"
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", image))
    assert labels["org.opencontainers.image.version"] == "v1.2.0"
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["hakim.artifact.sha256"] == index_of(out).entries[1].archive.sha256


def test_tags_architectures_and_the_digest_in_the_index(registry: str, out: Path) -> None:
    assert publish(out, f"{registry}/tags") == 0
    repository = f"{registry}/tags/hakim-base"
    tags = inspect(repository + ":v1.2.0")["RepoTags"]
    assert set(tags) == {"v1.2.0", "v1.2.0-bookworm", "latest"}  # type: ignore[call-overload]
    entries = {entry.name.stem: entry.image for entry in index_of(out).entries}
    assert entries["hakim-base-trixie-amd64"] == entries["hakim-base-trixie-arm64"]
    assert entries["hakim-base-bookworm-amd64"] != entries["hakim-base-trixie-amd64"]
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{repository}:latest"]
    raw = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert {it["platform"]["architecture"] for it in raw["manifests"]} == {"amd64", "arm64"}
    sums = parse_sums((out / SUMS_NAME).read_text(), source="the sums")
    assert sums["index.json"] == sha256_file(out / "index.json")


def test_a_second_run_has_nothing_to_do(
    registry: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(out, f"{registry}/again") == 0
    before = (out / "index.json").read_text()
    capsys.readouterr()
    assert publish(out, f"{registry}/again") == 0
    assert "was published already" in capsys.readouterr().out
    assert (out / "index.json").read_text() == before
    assert publish(out, f"{registry}/again", "--dry-run") == 0
    assert "Nothing to do." in capsys.readouterr().out


def test_the_same_artifact_has_the_same_digest_everywhere(registry: str, out: Path) -> None:
    assert publish(out, f"{registry}/one") == 0
    first = {entry.image.partition("@")[2] for entry in index_of(out).entries}
    for name in ("index.json", SUMS_NAME):
        (out / name).unlink()
    assert publish(out, f"{registry}/two") == 0
    assert {entry.image.partition("@")[2] for entry in index_of(out).entries} == first


def test_a_candidate_does_not_move_latest(registry: str, out: Path) -> None:
    assert publish(out, f"{registry}/pre", "--tag", "v1.3.0-rc.1") == 0
    tags = inspect(f"{registry}/pre/hakim-base:v1.3.0-rc.1")["RepoTags"]
    assert "latest" not in tags  # type: ignore[operator]


def test_a_version_that_holds_another_image_is_not_overwritten(
    registry: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(out, f"{registry}/taken") == 0
    other = tmp_path / "other"
    publications.write(other, Made(archive=rootfs(), commit="f" * 40), exact=True)
    capsys.readouterr()
    assert publish(other, f"{registry}/taken") == 6
    assert "with other content" in capsys.readouterr().err


def test_a_registry_that_is_not_there(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish(out, "127.0.0.1:9/acme", "--deadline", "2") == 6
    assert "Unable to read 127.0.0.1:9/acme/hakim-base:v1.2.0" in capsys.readouterr().err


def test_refused_credentials_name_the_right(
    registry: str,
    out: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    program: Callable[[str, str], Path],
) -> None:
    program(
        "skopeo",
        "echo 'time=now level=fatal msg=\"unauthorized: authentication required\"' >&2; exit 1",
    )
    auth = tmp_path / "auth.json"
    auth.write_text('{"auths": {}}')
    assert publish(out, f"{registry}/acme", "--auth-file", str(auth)) == 2
    assert "packages: write" in capsys.readouterr().err
