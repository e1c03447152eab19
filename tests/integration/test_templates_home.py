"""A home outlives everything that can happen to its workspace.

The real provider talks to a node with Proxmox's rule of ownership; every home has a file in it,
and each test is one way on which a home could be lost.
"""

import dataclasses
import hashlib
import http.server
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import lxc_backend_server
from fakes.coder import running
from fakes.lxc_backend import Guest, Node, PaperMachine, Volume
from terraform.bed import Bed, Stack, copy_template, opened, workspace_environment

STOPPED = {"CODER_WORKSPACE_TRANSITION": "stop"}
HOME = "proxmox_virtual_environment_container.home[0]"
WORKSPACE = "proxmox_virtual_environment_container.workspace"


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    with opened(tmp_path_factory.mktemp("bed")) as made:
        yield made


@pytest.fixture(scope="module")
def initialized(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_template("hakim-proxmox", tmp_path_factory.mktemp("template"))
    Stack(bed, folder, bed.environment()).init()
    return folder


class Cluster:
    """The node, and stacks of the template against it."""

    def __init__(
        self,
        bed: Bed,
        node: Node,
        endpoint: lxc_backend_server.Endpoint,
        template: Path,
        scratch: Path,
    ) -> None:
        self.bed, self.node, self.endpoint = bed, node, endpoint
        self._template, self._scratch = template, scratch

    def stack(self, name: str = "dev", **parameters: str) -> Stack:
        """Return a workspace that does not run yet."""
        folder = self._scratch / name
        shutil.copytree(self._template, folder, symlinks=True)
        env = self.bed.environment(
            **workspace_environment(CODER_WORKSPACE_NAME=name),
            **STOPPED,
            SSL_CERT_FILE=str(self.endpoint.certificate),
            TF_VAR_proxmox_endpoint=self.endpoint.url,
            TF_VAR_proxmox_api_token=self.endpoint.token,
        )
        return Stack(self.bed, folder, env, parameters={"image_variant": "base", **parameters})

    def home_of(self, stack: Stack) -> Volume:
        """Return the volume that the workspace mounts at /home/coder."""
        return self.node.volumes[stack.state()[WORKSPACE]["mount_point"][0]["volume"]]

    def guest(self, stack: Stack, address: str = WORKSPACE) -> Guest:
        return self.node.guests[stack.state()[address]["vm_id"]]


@contextmanager
def cluster_in(folder: Path, bed: Bed, template: Path) -> Iterator[Cluster]:
    """Give a node with two templates, and its API."""
    templates = folder / "templates"
    templates.mkdir()
    for variant in ("base", "php"):
        (templates / f"hakim-{variant}-trixie-amd64.tar.xz").write_bytes(b"a template")
    node = Node(PaperMachine(), templates)
    with lxc_backend_server.serving(node, folder) as endpoint:
        yield Cluster(bed, node, endpoint, template, folder)


@pytest.fixture
def cluster(bed: Bed, initialized: Path, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_in(tmp_path, bed, initialized) as made:
        yield made


@pytest.fixture(scope="module")
def settled(
    bed: Bed, initialized: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A workspace with a home that no test changes; plans only."""
    with cluster_in(tmp_path_factory.mktemp("settled"), bed, initialized) as made:
        yield workspace_with_files(made)


def workspace_with_files(cluster: Cluster, name: str = "dev", **parameters: str) -> Stack:
    stack = cluster.stack(name, enable_home_disk="true", **parameters)
    stack.apply()
    cluster.home_of(stack).data["thesis.txt"] = name
    return stack


def assert_home(cluster: Cluster, stack: Stack, name: str = "dev") -> None:
    assert cluster.home_of(stack).data["thesis.txt"] == name


def test_home_is_owned_by_its_holder_alone(cluster: Cluster) -> None:
    stack = workspace_with_files(cluster)
    workspace, holder = cluster.guest(stack), cluster.guest(stack, HOME)
    home = cluster.home_of(stack)
    assert home.owner == holder.vmid != workspace.vmid
    assert not holder.running
    assert holder.config["onboot"] == "0"


def test_second_build_changes_nothing(settled: Stack) -> None:
    assert settled.plan() == {}


def test_rebuild_keeps_the_home(cluster: Cluster) -> None:
    stack = workspace_with_files(cluster)
    before = cluster.guest(stack).vmid
    stack.parameters["rebuild_generation"] = "1"
    stack.apply()
    assert cluster.guest(stack).vmid != before
    assert before not in cluster.node.guests
    assert_home(cluster, stack)


def test_rebuild_takes_the_new_template(cluster: Cluster) -> None:
    stack = workspace_with_files(cluster)
    (cluster.node.templates / "hakim-base-bookworm-amd64.tar.xz").write_bytes(b"another")
    stack.parameters |= {"template_release": "bookworm", "rebuild_generation": "1"}
    stack.apply()
    root = cluster.node.volumes[cluster.guest(stack).volumes()["rootfs"]]
    assert root.data["/etc/template"] == "hakim-base-bookworm-amd64.tar.xz"
    assert_home(cluster, stack)


def test_three_rebuilds_with_a_fixed_id_keep_the_home(cluster: Cluster) -> None:
    stack = workspace_with_files(cluster, proxmox_vm_id="150")
    for generation in "123":
        stack.parameters["rebuild_generation"] = generation
        stack.apply()
        assert cluster.guest(stack).vmid == 150
        assert_home(cluster, stack)


def test_rebuild_that_fails_half_way_keeps_the_home(cluster: Cluster) -> None:
    """The old container is gone, and the new one cannot be made: its template is missing."""
    stack = workspace_with_files(cluster)
    stack.parameters |= {"template_release": "bookworm", "rebuild_generation": "1"}
    assert stack.run("apply", "-auto-approve", "-no-color").returncode != 0
    assert WORKSPACE not in stack.state()
    stack.parameters["template_release"] = "trixie"
    stack.apply()
    assert_home(cluster, stack)


def test_container_that_vanished_comes_back_with_its_home(cluster: Cluster) -> None:
    """Somebody destroyed the container of the workspace on the node."""
    stack = workspace_with_files(cluster)
    vmid = cluster.guest(stack).vmid
    cluster.node.handle("DELETE", f"/nodes/pve/lxc/{vmid}", {})
    stack.apply()
    assert_home(cluster, stack)


@pytest.mark.parametrize(
    "changes",
    [
        {"template_release": "bookworm"},
        {"template_arch": "arm64"},
        {"template_url_base": "https://example.com/hakim.tar.xz#sha256=" + "a" * 64},
        {"proxmox_vm_id": "777"},
        {"home_disk_gb": "60"},
        {"home_disk_gb": "5"},
        {"proxmox_home_datastore_id": "homes"},
        {"proxmox_ssh_private_key": "K", "proxmox_extra_ssh_public_keys": "ssh-ed25519 B x"},
        {"container_memory_mb": "8192", "container_cores": "4"},
        {"container_disk_gb": "40"},
        {"enable_nesting": "true"},
        {"image_variant": "php"},
    ],
    ids="+".join,
)
def test_no_other_parameter_replaces_a_container(changes: dict[str, str], settled: Stack) -> None:
    plan = dataclasses.replace(settled, parameters=settled.parameters | changes).plan()
    assert plan.get(WORKSPACE, "update") == "update"
    assert HOME not in plan, "the holder of a home is not even updated"


@pytest.mark.parametrize(
    "changes",
    [
        {"TF_VAR_proxmox_node_name": "other"},
        {"TF_VAR_proxmox_pool_id": "pool"},
        {"TF_VAR_proxmox_container_datastore_id": "homes"},
        {"TF_VAR_proxmox_template_datastore_id": "other"},
        {"TF_VAR_proxmox_network_bridge": "vmbr1", "TF_VAR_proxmox_vlan_id": "20"},
        {"TF_VAR_container_ostype": "debian"},
        {"CODER_WORKSPACE_NAME": "renamed"},
        {"CODER_WORKSPACE_OWNER": "renamed"},
        {
            "CODER_WORKSPACE_OWNER_SSH_PRIVATE_KEY": "new",
            "CODER_WORKSPACE_OWNER_SSH_PUBLIC_KEY": "new",
        },
    ],
    ids="+".join,
)
def test_nothing_the_operator_changes_replaces_a_container(
    changes: dict[str, str], settled: Stack
) -> None:
    plan = settled.plan(**changes)
    assert plan.get(WORKSPACE, "update") == "update"
    assert HOME not in plan, "the holder of a home is not even updated"


def test_without_a_home_disk_no_rebuild_and_no_shrinking(cluster: Cluster) -> None:
    stack = cluster.stack(container_disk_gb="30")
    stack.apply()
    stack.parameters["rebuild_generation"] = "1"
    assert "would delete /home/coder" in stack.refusal()
    stack.parameters["rebuild_generation"] = "0"
    stack.parameters["container_disk_gb"], stack.previous["container_disk_gb"] = "20", "30"
    assert "greater than previous value" in stack.refusal()


def test_deleting_a_workspace_spares_the_homes_of_others(cluster: Cluster) -> None:
    mine, other = workspace_with_files(cluster, "mine"), workspace_with_files(cluster, "other")
    mine.good("destroy", "-auto-approve", "-no-color")
    assert_home(cluster, other, "other")
    assert len(list(cluster.node.templates.iterdir())) == 2, "templates belong to everybody"
    assert {guest.vmid for guest in cluster.node.guests.values()} == {
        cluster.guest(other).vmid,
        cluster.guest(other, HOME).vmid,
    }


def test_borrowed_home_outlives_the_workspace_that_borrowed_it(cluster: Cluster) -> None:
    lender = workspace_with_files(cluster, "lender")
    volume = cluster.home_of(lender).name
    borrower = cluster.stack("borrower", enable_home_disk="true", proxmox_home_volume_id=volume)
    borrower.apply()
    assert_home(cluster, borrower, "lender")
    borrower.good("destroy", "-auto-approve", "-no-color")
    assert_home(cluster, lender, "lender")


def test_borrowing_a_home_keeps_the_own_one(cluster: Cluster) -> None:
    stack, other = workspace_with_files(cluster), workspace_with_files(cluster, "other")
    own = cluster.home_of(stack)
    stack.parameters["proxmox_home_volume_id"] = cluster.home_of(other).name
    stack.apply()
    assert_home(cluster, stack, "other")
    assert own.data["thesis.txt"] == "dev"
    stack.parameters["proxmox_home_volume_id"] = ""
    stack.apply()
    assert_home(cluster, stack)


def test_volume_of_a_workspace_container_is_no_home(cluster: Cluster) -> None:
    """Proxmox would delete it with that container; a rebuild of one's own would do so at once."""
    stack = workspace_with_files(cluster)
    root = cluster.guest(stack).volumes()["rootfs"]
    stack.parameters["proxmox_home_volume_id"] = root
    assert "Move the volume to a holder of yours first" in stack.refusal()


def test_home_of_another_person_is_refused(cluster: Cluster) -> None:
    other = workspace_with_files(cluster, "other")
    stack = cluster.stack(
        enable_home_disk="true", proxmox_home_volume_id=cluster.home_of(other).name
    )
    assert "which is not yours" in stack.refusal(CODER_WORKSPACE_OWNER="mallory")


def test_disk_of_a_virtual_machine_is_refused(cluster: Cluster) -> None:
    cluster.node.virtual_machines.add(900)
    stack = cluster.stack(enable_home_disk="true", proxmox_home_volume_id="local-lvm:vm-900-disk-0")
    assert "the disk of virtual machine 900" in stack.refusal()


def test_volume_of_a_reserved_id_can_be_used(cluster: Cluster) -> None:
    volume = Volume("local-lvm:vm-9001-disk-0", 10, {"thesis.txt": "reserved"})
    cluster.node.volumes[volume.name] = volume
    stack = cluster.stack(enable_home_disk="true", proxmox_home_volume_id=volume.name)
    stack.apply()
    stack.parameters["rebuild_generation"] = "1"
    stack.apply()
    stack.good("destroy", "-auto-approve", "-no-color")
    assert cluster.node.volumes[volume.name].data == {"thesis.txt": "reserved"}


def test_procedure_for_a_home_that_its_container_owns(cluster: Cluster) -> None:
    """docs/how-to/home-disks.md, step by step: an old container with a home disk of its own."""
    node = cluster.node
    old = {"vmid": "105", "ostype": "unmanaged", "storage": "local-lvm", "tags": "coder"}
    old |= {"ostemplate": "local:vztmpl/hakim-base-trixie-amd64.tar.xz", "hostname": "old"}
    node.handle("POST", "/nodes/pve/lxc", {**old, "mp0": "local-lvm:30,mp=/home/coder"})
    node.volumes["local-lvm:vm-105-disk-1"].data["thesis.txt"] = "old"
    # 1. A new workspace with a home disk, stopped; its holder is the new owner.
    stack = cluster.stack(enable_home_disk="true")
    stack.apply()
    holder = cluster.guest(stack, HOME).vmid
    # 2. pct move-volume 105 mp0 --target-vmid HOLDER --target-volume mp1
    move = {"volume": "mp0", "target-vmid": str(holder), "target-volume": "mp1"}
    node.handle("POST", "/nodes/pve/lxc/105/move_volume", move)
    # 3. The volume's new name is the workspace's home from now on.
    volume = node.guests[holder].volumes()["mp1"]
    stack.parameters["proxmox_home_volume_id"] = volume
    stack.apply()
    # 4. The old container goes.
    node.handle("DELETE", "/nodes/pve/lxc/105", {})
    assert_home(cluster, stack, "old")
    stack.parameters["rebuild_generation"] = "1"
    stack.apply()
    assert_home(cluster, stack, "old")


def test_note_the_id_and_reattach_loses_the_home() -> None:
    """Why the procedure moves the volume first: Proxmox's own rule, without any of ours."""
    node = Node(PaperMachine(), Path("/nonexistent"))
    guest = Guest(105, {"mp0": "local-lvm:vm-105-disk-1,mp=/home/coder"})
    node.guests[105] = guest
    node.volumes["local-lvm:vm-105-disk-1"] = Volume("local-lvm:vm-105-disk-1", 30, {})
    node.handle("PUT", "/nodes/pve/lxc/105/config", {"delete": "mp0"})
    assert guest.config == {"unused0": "local-lvm:vm-105-disk-1"}, "detached and still its own"
    node.handle("DELETE", "/nodes/pve/lxc/105", {})
    assert node.volumes == {}


def test_home_grows_on_the_node_and_stays(cluster: Cluster) -> None:
    """docs/how-to/home-disks.md: pct resize on the holder."""
    stack = workspace_with_files(cluster)
    holder = cluster.guest(stack, HOME).vmid
    cluster.node.handle("PUT", f"/nodes/pve/lxc/{holder}/resize", {"disk": "mp0", "size": "50G"})
    assert stack.plan().get(HOME) is None
    assert stack.plan().get(WORKSPACE, "update") == "update"
    stack.parameters["rebuild_generation"] = "1"
    stack.apply()
    assert_home(cluster, stack)
    assert cluster.home_of(stack).size == 50


# -- the template that Proxmox downloads --


@contextmanager
def artifact_server(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_template_is_downloaded_once_proven_and_never_deleted(
    cluster: Cluster, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "hakim.tar.xz").write_bytes(b"the golden template")
    digest = hashlib.sha256(b"the golden template").hexdigest()
    with artifact_server(files) as url:
        address = f"{url}/hakim.tar.xz#sha256={digest}"
        first = cluster.stack("first", template_url_base=address)
        first.apply()
        cluster.stack("second", template_url_base=address).apply()
        wrong = cluster.stack("wrong", template_url_base=address.replace(digest, "0" * 64))
        failed = wrong.run("apply", "-auto-approve", "-no-color")
    name = f"hakim-base-trixie-amd64_{digest[:16]}.tar.xz"
    assert (cluster.node.templates / name).read_bytes() == b"the golden template"
    assert "checksum mismatch" in failed.stdout + failed.stderr
    first.good("destroy", "-auto-approve", "-no-color")
    assert (cluster.node.templates / name).is_file()


# -- the address --


def start(stack: Stack, **more: str) -> subprocess.CompletedProcess[str]:
    target = "-target=terraform_data.address"
    env = {"CODER_WORKSPACE_TRANSITION": "start", **more}
    return stack.run("apply", "-auto-approve", "-no-color", target, **env)


def test_late_address_is_asked_for_again(cluster: Cluster) -> None:
    """The provider gives up after ten seconds; DHCP may take longer."""
    asked: list[int] = []

    def late(guest: Guest) -> str:
        asked.append(guest.vmid)
        return "10.0.0.7" if len(asked) > 14 else ""

    assert isinstance(cluster.node.machine, PaperMachine)
    cluster.node.machine.addresses = late
    stack = cluster.stack()
    done = start(stack)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = stack.folder.glob(".address-*")
    assert file.read_text() == "10.0.0.7\n"


def test_missing_address_is_said_clearly_and_shows_no_secret(cluster: Cluster) -> None:
    assert isinstance(cluster.node.machine, PaperMachine)
    cluster.node.machine.addresses = lambda _guest: ""
    stack = cluster.stack()
    bootstrap = stack.folder / "bootstrap.tf"
    bootstrap.write_text(bootstrap.read_text().replace("HAKIM_SECONDS = 120", "HAKIM_SECONDS = 3"))
    done = start(stack)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "got no IPv4 address within 3 seconds" in " ".join(said.replace("│", " ").split())
    assert cluster.endpoint.token.partition("=")[2] not in said
