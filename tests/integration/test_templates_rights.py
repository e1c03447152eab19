"""The token that the template's README makes is enough, and none of its roles is idle."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import lxc_backend, lxc_backend_routes
from fakes.certificates import make_certificate
from fakes.proxmox import FakeProxmox, Node, Storage
from terraform.bed import TEMPLATES, Bed, Stack, copy_template, opened, workspace_environment

TOKEN = "coder@pve!tf"  # noqa: S105
#: Prints what a shell would run, one command a line, without running it.
PRINTER = 'pveum() { printf "pveum"; printf " %q" "$@"; echo; }\n'


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with opened(tmp_path_factory.mktemp("bed")) as made:
        yield made


def lines_of_readme() -> list[str]:
    text = (TEMPLATES / "hakim-proxmox/README.md").read_text()
    block = next(b for b in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "pveum" in b)
    done = subprocess.run(
        ["bash", "-c", PRINTER + block], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeProxmox]:
    certificate, key = make_certificate(tmp_path)
    made = FakeProxmox(
        root=tmp_path / "pve",
        certificate=certificate,
        key=key,
        nodes={"pve": Node("pve")},
        storages={"local": Storage("local"), "local-lvm": Storage("local-lvm", content="rootdir")},
        auth_delay=0.05,
    )
    templates = made.folder("pve", "local")
    (templates / "hakim-base-trixie-amd64.tar.xz").write_bytes(b"a template")
    lxc_backend_routes.attach(made, lxc_backend.Node(lxc_backend.PaperMachine(), templates))
    with made:
        yield made


@pytest.fixture
def node(fake: FakeProxmox) -> lxc_backend.Node:
    return lxc_backend_routes.node_of(fake)


def workspace(bed: Bed, fake: FakeProxmox, lines: list[str], folder: Path) -> Stack:
    secret = "".join(fake.access.pveum(line) for line in lines)
    env = bed.environment(
        **workspace_environment(),
        CODER_WORKSPACE_TRANSITION="stop",
        SSL_CERT_FILE=str(fake.certificate),
        TF_VAR_proxmox_endpoint=fake.url,
        TF_VAR_proxmox_api_token=f"{TOKEN}={secret}",
        TF_VAR_proxmox_network_firewall="true",
        TF_VAR_proxmox_egress_cidrs='["10.9.0.0/24"]',
    )
    parameters = {"enable_home_disk": "true", "egress_mode": "restricted"}
    stack = Stack(bed, copy_template("hakim-proxmox", folder), env, parameters=parameters)
    stack.init()
    return stack


def test_token_of_the_readme_is_enough(
    bed: Bed, fake: FakeProxmox, node: lxc_backend.Node, tmp_path: Path
) -> None:
    stack = workspace(bed, fake, lines_of_readme(), tmp_path)
    stack.apply()
    assert stack.plan() == {}, "filtering rules and all are what they should be"
    stack.parameters |= {"container_disk_gb": "30", "container_memory_mb": "8192"}
    stack.apply()
    stack.parameters["rebuild_generation"] = "1"
    stack.apply()
    (guest,) = (g for g in node.guests.values() if g.firewall)
    assert guest.firewall["policy_out"] == "DROP", "the new container is filtered, too"
    assert len(guest.rules) == 4
    stack.good("destroy", "-auto-approve", "-no-color")


@pytest.mark.parametrize("role", ["HakimWorkspace", "HakimCtStore", "HakimTmplRead", "HakimNet"])
def test_no_role_is_idle(role: str, bed: Bed, fake: FakeProxmox, tmp_path: Path) -> None:
    lines = [line for line in lines_of_readme() if f"--roles {role}" not in line]
    stack = workspace(bed, fake, lines, tmp_path)
    done = stack.run("apply", "-auto-approve", "-no-color")
    assert done.returncode != 0
    assert "403" in done.stdout + done.stderr
