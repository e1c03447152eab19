"""A workspace from `terraform apply` to its agent, in real containers on a node with real rules."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import coder as coder_fakes
from fakes import lxc_backend_machine, lxc_backend_server
from fakes.coder import FakeCoder
from fakes.lxc_backend import Guest, Node
from terraform.bed import ROOT, Bed, Stack, copy_template, opened, workspace_environment

from hakim_actions.image.netns import NETWORK, network
from hakim_actions.image.sandbox import Sandbox, sandbox

pytestmark = pytest.mark.e2e

HOME = "proxmox_virtual_environment_container.home[0]"
WORKSPACE = "proxmox_virtual_environment_container.workspace"
#: A golden template, and its brother of the other release beside it; read before tests begin,
#: because no test sees the options of whoever runs it.
NAMED = Path(os.environ.get("HAKIM_TEST_ARTIFACT", "/nonexistent"))
#: Stands in for the agent: tells Coder who it is and with which token, and stays.
AGENT = b"""#!/bin/bash
[[ $1 == agent ]] || exit 2
curl --silent --retry 5 --header "Coder-Session-Token: $(cat "$CODER_AGENT_TOKEN_FILE")" \\
  "$CODER_AGENT_URL/agent?user=$(id --user --name)&home=$HOME&token=${CODER_AGENT_TOKEN-}"
exec sleep infinity
"""


def artifact(release: str) -> Path:
    """Return the golden template of a release: the one that is named, else the one built here."""
    name = f"hakim-base-{release}-amd64.tar.xz"
    for path in (NAMED, NAMED.parent / name, ROOT / "distrobuilder/out/base" / name):
        if path.name == name and path.is_file():
            return path
    pytest.skip(f"there is no {name}: build it, or name one with HAKIM_TEST_ARTIFACT")


@dataclass
class Site:
    """A node with a private network, a Coder on it, and the template of one release."""

    bed: Bed
    box: Sandbox
    node: Node
    machine: lxc_backend_machine.LxcMachine
    coder: FakeCoder
    endpoint: lxc_backend_server.Endpoint
    scratch: Path
    release: str
    outputs: list[str] = field(default_factory=list)

    def stack(self, name: str, **parameters: str) -> Stack:
        key = self.scratch / f"{name}.key"
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(generate, check=True)
        folder = copy_template("hakim-proxmox", self.scratch / name)
        env = self.bed.environment(
            **workspace_environment(
                CODER_WORKSPACE_NAME=name,
                CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY=key.read_text(),
                CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY=key.with_suffix(".key.pub").read_text(),
            ),
            CODER_AGENT_URL=self.coder.url,
            SSL_CERT_FILE=str(self.endpoint.certificate),
            TF_VAR_proxmox_endpoint=self.endpoint.url,
            TF_VAR_proxmox_api_token=self.endpoint.token,
        )
        parameters = {"image_variant": "base", "template_release": self.release, **parameters}
        stack = Stack(self.bed, folder, env, prefix=self.box.argv, parameters=parameters)
        # Modules come from a server outside of the sandbox's network.
        Stack(self.bed, folder, env).init()
        return stack

    def apply(self, stack: Stack, **env: str) -> float:
        """Apply and wait for the agent; returns the seconds until it was there."""
        known = len(self.coder.agents)
        self.node.seconds.clear()
        start = time.monotonic()
        self.outputs.append(stack.apply(**env))
        if env.get("CODER_WORKSPACE_TRANSITION") != "stop":
            wait_until(
                lambda: len(self.coder.agents) > known and self.token() not in self.tokens(known)
            )
        return time.monotonic() - start

    def report(self, what: str, seconds: float) -> None:
        """Print how long it took until the agent was there, and where the time went."""
        tasks = ", ".join(f"{name} {took:.1f} s" for name, took in self.node.seconds.items())
        print(f"{self.release}: {seconds:.1f} s from {what} to the agent; {tasks}")  # noqa: T201

    def tokens(self, count: int) -> set[str]:
        return {token for _, _, token in self.coder.agents[:count]}

    def token(self) -> str:
        return self.coder.agents[-1][2]

    def guest(self, stack: Stack, address: str = WORKSPACE) -> Guest:
        return self.node.guests[stack.state()[address]["vm_id"]]

    def shell(self, stack: Stack, script: str) -> str:
        return self.machine.attach(self.guest(stack), "bash", "-c", script).strip()

    def ssh(self, stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
        address = self.machine.address(self.guest(stack))
        common = [
            f"-o{o}"
            for o in (
                "StrictHostKeyChecking=no",
                "UserKnownHostsFile=/dev/null",
                "ConnectTimeout=10",
            )
        ]
        command = self.box.argv(["ssh", *common, *options, f"root@{address}", "id -un"])
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(self.box.env), timeout=60
        )


def wait_until(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(params=["trixie", "bookworm"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if os.geteuid() != 0 or not shutil.which("lxc-start"):
        pytest.skip("containers need root and LXC")
    release: str = request.param
    source = artifact(release)
    env = dict(os.environ)
    work = ROOT / ".cache/e2e"
    work.mkdir(parents=True, exist_ok=True)
    with opened(tmp_path) as bed, sandbox(work, env=env) as box, network(box):
        templates = box.folder / "templates"
        templates.mkdir()
        (templates / source.name).symlink_to(source.resolve())
        machine = lxc_backend_machine.LxcMachine(box)
        node = Node(machine, templates)
        coder = FakeCoder()
        coder.agent = AGENT
        listener = lxc_backend_machine.listener(box, str(NETWORK.gateway))
        server = lxc_backend_server.Server(listener, coder_fakes.handler_for(coder))
        coder.url = f"http://{NETWORK.gateway}:{listener.getsockname()[1]}"
        api = lxc_backend_machine.listener(box, "127.0.0.1")
        try:
            with (
                coder_fakes.running(server),
                lxc_backend_server.serving(node, tmp_path, listener=api) as endpoint,
            ):
                yield Site(bed, box, node, machine, coder, endpoint, tmp_path, release)
        finally:
            machine.close()


def test_life_of_a_workspace(site: Site) -> None:
    """Made, locked down, stopped, started, rebuilt, deleted; its home is there until the end."""
    neighbour = site.stack("neighbour", enable_home_disk="true")
    site.apply(neighbour, CODER_WORKSPACE_TRANSITION="stop")
    stack = site.stack("dev", enable_home_disk="true")

    seconds = site.apply(stack)
    site.report("apply", seconds)
    assert site.coder.agents[-1][1].startswith("user=coder&home=/home/coder&token=")
    assert site.coder.agents[-1][1].endswith("token="), "the token is in no environment"
    assert_locked_down(site, stack)
    assert_secrets_are_hidden(site, stack)

    content = "the only copy of a thesis"
    site.shell(stack, f"runuser -u coder -- sh -c 'echo {content} >~/thesis.txt'; touch /etc/mark")
    disks = site.guest(stack).volumes()
    first = site.token()
    site.apply(stack, CODER_WORKSPACE_TRANSITION="stop")
    assert not site.guest(stack).running
    site.report("a start", site.apply(stack))
    assert site.token() != first, "a new token at every start"
    assert site.guest(stack).volumes() == disks
    assert site.shell(stack, "cat /home/coder/thesis.txt; ls /etc/mark") == f"{content}\n/etc/mark"
    assert_locked_down(site, stack)

    stack.parameters["rebuild_generation"] = "1"
    site.report("a rebuild", site.apply(stack))
    assert site.guest(stack).volumes()["rootfs"] != disks["rootfs"]
    assert site.shell(stack, "cat /home/coder/thesis.txt; test ! -e /etc/mark") == content
    assert site.shell(stack, "stat -c %U /home/coder/thesis.txt") == "coder"
    assert_locked_down(site, stack)

    stack.good("destroy", "-auto-approve", "-no-color", CODER_WORKSPACE_TRANSITION="stop")
    assert {guest.vmid for guest in site.node.guests.values()} == {
        site.guest(neighbour).vmid,
        site.guest(neighbour, HOME).vmid,
    }
    assert len(site.node.volumes) == 3, "root disks of two containers, and a home"
    assert [path.name for path in site.node.templates.iterdir()], "templates belong to everybody"


def assert_locked_down(site: Site, stack: Stack) -> None:
    key = site.scratch / f"{stack.env['CODER_WORKSPACE_NAME']}.key"
    by_key = site.ssh(stack, "-oBatchMode=yes", f"-i{key}")
    assert by_key.stdout.strip() == "root", by_key.stderr
    refused = site.ssh(stack, "-oPreferredAuthentications=none", "-oPubkeyAuthentication=no")
    assert "Permission denied (publickey)" in refused.stderr, "no method but keys is offered"
    assert site.shell(stack, "stat -c '%a %U' /root/.coder-root-password") == "600 root"
    matches = site.shell(
        stack,
        "hash=$(getent shadow root | cut -d: -f2); new=$(cat /root/.coder-root-password); "
        'perl -e \'print crypt($ARGV[0], $ARGV[1]) eq $ARGV[1] ? "same" : "other"\' '
        '"$new" "$hash"; '
        'perl -e \'print crypt("password", $ARGV[0]) eq $ARGV[0] ? " open" : " shut"\' "$hash"',
    )
    assert matches == "same shut"


def assert_secrets_are_hidden(site: Site, stack: Stack) -> None:
    token = site.token()
    assert site.shell(stack, "stat -c '%a %U' /etc/coder-agent /etc/coder-agent/token") == (
        "700 coder\n600 coder"
    )
    assert site.shell(stack, "cat /etc/coder-agent/token") == token
    assert site.shell(stack, "systemctl show -p User --value coder-agent") == "coder"
    places = (
        "tr '\\0' '\\n' </proc/*/cmdline; systemctl show coder-agent; systemctl cat coder-agent; "
        "journalctl --no-pager; cat /etc/default/coder-agent; ls /root/.hakim 2>/dev/null"
    )
    shown = site.shell(stack, f"({places}) 2>/dev/null || true")
    assert token not in shown
    readable = f"runuser -u nobody -- grep -rsl {token} /etc /root /tmp /var /run /home || true"
    assert site.shell(stack, readable) == "", "nobody else can read it anywhere"
    private = (site.scratch / "dev.key").read_text().splitlines()[2]
    for output in site.outputs:
        assert token not in output
        assert private not in output
        assert site.endpoint.token.partition("=")[2] not in output
        assert not re.search(r"[A-Za-z0-9]{40}$", output, re.MULTILINE), "no root password either"
