"""A workspace of the Docker template: the published image on an Engine of its own, and its home."""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import coder as coder_fakes
from fakes import lxc_backend_machine, lxc_backend_server, publications
from fakes.coder import FakeCoder
from fakes.publications import Made
from terraform.bed import ROOT, Bed, Stack, copy_template, opened, workspace_environment

from hakim_actions.image.sandbox import Sandbox, sandbox

_PROGRAMS = ("dockerd", "docker", "docker-registry", "skopeo", "busybox")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="Docker Engine needs root"),
    *(
        pytest.mark.skipif(
            shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None,
            reason=f"{program} is not installed",
        )
        for program in _PROGRAMS
    ),
]

#: As coderd's own script: downloads the agent from Coder and becomes it.
INIT = """#!/bin/sh
cd "$(mktemp -d)"
until wget -q -O coder "${ACCESS_URL}bin/coder-linux-amd64"; do sleep 1; done
chmod +x coder
export CODER_AGENT_URL="${ACCESS_URL}"
exec ./coder agent
"""
AGENT = b"""#!/bin/sh
wget -q -O /dev/null --header "Coder-Session-Token: $CODER_AGENT_TOKEN" \\
  "${CODER_AGENT_URL}agent?user=$(id -un)&home=$HOME"
exec sleep 100000
"""
REGISTRY_PORT = 5005


def artifact() -> bytes:
    """Return a root file system as build packs it: busybox, and a user coder with a home."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz", preset=0) as archive:
        for name, owner in (("bin", 0), ("etc", 0), ("tmp", 0), ("home", 0), ("home/coder", 1000)):
            _add(
                archive,
                name,
                kind=tarfile.DIRTYPE,
                owner=owner,
                mode=0o1777 if name == "tmp" else 0o755,
            )
        _add(archive, "home/coder/project", kind=tarfile.DIRTYPE, owner=1000)
        _add(archive, "bin/busybox", Path("/bin/busybox").read_bytes())
        for applet in ("sh", "id", "cat", "wget", "mktemp", "sleep", "chmod", "touch", "stat"):
            _add(archive, f"bin/{applet}", kind=tarfile.SYMTYPE, link="busybox")
        users = b"root:x:0:0::/:/bin/sh\ncoder:x:1000:1000::/home/coder:/bin/sh\n"
        _add(archive, "etc/passwd", users)
        _add(archive, "etc/group", b"root:x:0:\ncoder:x:1000:\n")
    return stream.getvalue()


def _add(
    archive: tarfile.TarFile,
    name: str,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    owner: int = 0,
    mode: int = 0o755,
) -> None:
    member = tarfile.TarInfo(f"./{name}")
    member.type, member.linkname, member.size, member.mode = kind, link, len(data), mode
    member.uid = member.gid = owner
    member.mtime = publications.EPOCH
    archive.addfile(member, io.BytesIO(data))


@dataclass
class Host:
    """A Docker Engine and a registry in a sandbox, a Coder beside them."""

    bed: Bed
    box: Sandbox
    coder: FakeCoder
    scratch: Path

    @property
    def socket(self) -> str:
        return f"unix://{self.box.folder}/docker.sock"

    def docker(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker", "--host", self.socket, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def publish(self) -> None:
        """Put the artifact into the registry with the project's own command."""
        out = self.scratch / "out"
        publications.write(out, Made(archive=artifact()), exact=True)
        place = f"127.0.0.1:{REGISTRY_PORT}/acme"
        command = [sys.executable, "-m", "hakim_actions", "publish", str(out), "--target"]
        env = {**self.box.env, "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(
            self.box.argv([*command, "registry", "--to", place]),
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def stack(self, name: str) -> Stack:
        env = self.bed.environment(
            **workspace_environment(CODER_WORKSPACE_NAME=name),
            CODER_AGENT_URL=self.coder.url,
            CODER_AGENT_SCRIPT_linux_amd64=INIT,
            TF_VAR_docker_host=self.socket,
            TF_VAR_image_repository=f"127.0.0.1:{REGISTRY_PORT}/acme/hakim",
        )
        folder = copy_template("hakim", self.scratch / name)
        stack = Stack(self.bed, folder, env, parameters={"image_variant": "base"})
        stack.init()
        return stack

    def wait_for_agent(self, count: int) -> tuple[str, str, str]:
        wait_for(lambda: len(self.coder.agents) >= count, "the agent did not come")
        return self.coder.agents[count - 1]


def wait_for(ready: Callable[[], bool], otherwise: str) -> None:
    for _ in range(600):
        if ready():
            return
        time.sleep(0.1)
    raise AssertionError(otherwise)


@contextlib.contextmanager
def running(box: Sandbox, name: str, argv: Sequence[str]) -> Iterator[Path]:
    """Run a server in the sandbox for the block; yields its log."""
    path = box.folder / f"{name}.log"
    with path.open("w") as log, box.started(argv, log=log):
        yield path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    work = ROOT / ".cache/e2e"
    work.mkdir(parents=True, exist_ok=True)
    with opened(tmp_path) as bed, sandbox(work, env=dict(os.environ)) as box:
        box.run(["ip", "link", "set", "lo", "up"])
        listener = lxc_backend_machine.listener(box, "0.0.0.0")  # noqa: S104 - of the sandbox
        coder = FakeCoder()
        coder.agent = AGENT
        coder.url = f"http://localhost:{listener.getsockname()[1]}"
        server = lxc_backend_server.Server(listener, coder_fakes.handler_for(coder))
        with (
            coder_fakes.running(server),
            running(box, "registry", ["docker-registry", "serve", _registry(box.folder)]),
            running(box, "docker", _dockerd(box.folder)) as log,
        ):
            made = Host(bed, box, coder, tmp_path)
            wait_for(lambda: _answers(box.folder / "docker.sock"), log.read_text()[-3000:])
            yield made
            for container in made.docker("ps", "--quiet").split():
                made.docker("kill", container)


def _registry(folder: Path) -> str:
    config = folder / "registry.json"
    document = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{REGISTRY_PORT}"},
    }
    config.write_text(json.dumps(document))
    return str(config)


def _dockerd(folder: Path) -> list[str]:
    options = ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bip=172.31.255.1/24"]
    for option, name in (("--data-root", "docker"), ("--exec-root", "exec"), ("--pidfile", "pid")):
        options += [option, str(folder / name)]
    return ["dockerd", "--host", f"unix://{folder}/docker.sock", *options]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return path.exists() and probe.connect_ex(str(path)) == 0


def test_life_of_a_docker_workspace(host: Host) -> None:
    """Started from the published image, stopped, started, given another image: the home stays."""
    host.publish()
    stack = host.stack("dev")
    output = stack.apply()
    path, query, token = host.wait_for_agent(1)
    assert (path, query) == ("/agent", "user=coder&home=/home/coder")
    assert token not in output
    container = json.loads(host.docker("inspect", "coder-alice-dev"))[0]
    assert container["Config"]["User"] == "coder"
    assert container["Config"]["Labels"]["coder.workspace_name"] == "dev"
    assert (
        host.docker("exec", "coder-alice-dev", "stat", "-c", "%U", "/home/coder/project") == "coder"
    )
    host.docker("exec", "coder-alice-dev", "sh", "-c", "echo thesis >~/thesis.txt")

    stack.apply(CODER_WORKSPACE_TRANSITION="stop")
    assert host.docker("ps", "--all", "--quiet") == ""
    stack.apply()
    assert host.wait_for_agent(2)[2] != token, "a new token at every start"
    assert host.docker("exec", "coder-alice-dev", "cat", "/home/coder/thesis.txt") == "thesis"

    # Everything that could replace the volume: owner, names, and another image.
    stack.parameters |= {"image_variant": "custom"}
    image = f"127.0.0.1:{REGISTRY_PORT}/acme/hakim-base:v1.2.0"
    stack.parameters["image_url"] = image
    stack.apply(CODER_WORKSPACE_OWNER="bob", CODER_WORKSPACE_NAME="renamed")
    assert host.docker("exec", "coder-bob-renamed", "cat", "/home/coder/thesis.txt") == "thesis"
    host.docker("volume", "create", "somebody-elses")

    stack.good("destroy", "-auto-approve", "-no-color")
    assert host.docker("volume", "ls", "--quiet") == "somebody-elses"
