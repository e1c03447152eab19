"""The LXC area of the Proxmox fake: containers of a node, behind its tokens and privileges.

``attach(fake, node)`` gives a FakeProxmox the containers of a :class:`fakes.lxc_backend.Node`. The
privileges of each call are those of PVE::API2::LXC, looked up on /vms.
"""

import re
from typing import Any, Final

from fakes import proxmox_storage  # noqa: F401 - the routes of tasks
from fakes.lxc_backend import ApiError, Node
from fakes.proxmox import Call, FakeProxmox, Refusal, route
from fakes.proxmox_tasks import Task

_NODES: Final[dict[int, Node]] = {}
#: Parameters of a container → the privilege to set them; all others need VM.Config.Options.
_CONFIG: Final = (
    (re.compile(r"cores|cpulimit|cpuunits"), "VM.Config.CPU"),
    (re.compile(r"memory|swap"), "VM.Config.Memory"),
    (re.compile(r"rootfs|mp\d+|unused\d+"), "VM.Config.Disk"),
    (re.compile(r"net\d+|hostname|nameserver|searchdomain"), "VM.Config.Network"),
)
_NO_CONFIG: Final = frozenset(
    {
        *("vmid", "ostemplate", "storage", "password", "ssh-public-keys", "start", "pool"),
        *("unprivileged", "digest", "delete"),
    }
)
_LXC: Final = "/nodes/{node}/lxc/{vmid}"


def attach(fake: FakeProxmox, node: Node) -> None:
    """Let *fake* answer for the containers of *node*, one of its nodes."""
    _NODES[id(fake)] = node


def node_of(fake: FakeProxmox) -> Node:
    """Return the node that was attached."""
    return _NODES[id(fake)]


def _delegate(fake: FakeProxmox, call: Call) -> Any:
    node = node_of(fake)
    try:
        answer = node.handle(call.method, call.path, call.params)
    except ApiError as error:
        raise Refusal(error.status, error.reason, dict(error.errors or {}) or None) from None
    if isinstance(answer, str) and answer in node.tasks:
        status, log = node.tasks[answer]
        _, name, _, _, _, kind, subject, *_ = answer.split(":")
        task = Task(answer, name, kind, subject, call.user, int(fake.now()))
        task.exitstatus, task.log = status, log
        fake.tasks[answer] = task
    return answer


def _require_config(fake: FakeProxmox, call: Call) -> None:
    for name in [*call.params, *call.params.get("delete", "").split(",")]:
        if name and name not in _NO_CONFIG:
            found = [right for pattern, right in _CONFIG if pattern.fullmatch(name)]
            fake.require(call, "/vms", *(found or ["VM.Config.Options"]))
        if re.fullmatch(r"net\d+", name):
            bridge = re.search(r"bridge=([^,]+)", call.params.get(name, ""))
            if bridge:
                zone = f"/sdn/zones/localnetwork/{bridge[1]}"
                fake.require(call, zone, "SDN.Use")
        if re.fullmatch(r"rootfs|mp\d+", name):
            volume = re.search(r"(?:^|volume=|,)([A-Za-z][\w.-]*):", call.params.get(name, ""))
            if volume:
                fake.require(call, f"/storage/{volume[1]}", "Datastore.AllocateSpace")


@route("GET", "/cluster/nextid")
def _next_id(fake: FakeProxmox, call: Call) -> Any:
    return _delegate(fake, call)


@route("GET", "/nodes/{node}/qemu")
@route("GET", "/nodes/{node}/lxc")
def _list(fake: FakeProxmox, call: Call) -> Any:
    return _delegate(fake, call) if "VM.Audit" in fake.access.on(call.user, "/vms") else []


@route("POST", "/nodes/{node}/lxc")
def _create(fake: FakeProxmox, call: Call) -> Any:
    fake.require(call, "/vms", "VM.Allocate")
    template = call.params["ostemplate"].partition(":")[0]
    fake.require(call, f"/storage/{template}", "Datastore.Audit", "Datastore.AllocateSpace")
    fake.require(call, f"/storage/{call.params['storage']}", "Datastore.AllocateSpace")
    _require_config(fake, call)
    return _delegate(fake, call)


@route("PUT", _LXC + "/config")
def _configure(fake: FakeProxmox, call: Call) -> Any:
    _require_config(fake, call)
    return _delegate(fake, call)


def _guarded(method: str, path: str, privilege: str) -> None:
    def handler(fake: FakeProxmox, call: Call) -> Any:
        fake.require(call, "/vms", privilege)
        return _delegate(fake, call)

    route(method, _LXC + path)(handler)


for _method, _path, _privilege in (
    ("DELETE", "", "VM.Allocate"),
    ("GET", "/config", "VM.Audit"),
    ("GET", "/status/current", "VM.Audit"),
    ("GET", "/interfaces", "VM.Audit"),
    ("POST", "/status/{action}", "VM.PowerMgmt"),
    ("PUT", "/resize", "VM.Config.Disk"),
    ("POST", "/move_volume", "VM.Config.Disk"),
    ("GET", "/firewall/options", "VM.Audit"),
    ("PUT", "/firewall/options", "VM.Config.Network"),
    ("GET", "/firewall/rules", "VM.Audit"),
    ("POST", "/firewall/rules", "VM.Config.Network"),
    ("GET", "/firewall/rules/{pos}", "VM.Audit"),
    ("DELETE", "/firewall/rules/{pos}", "VM.Config.Network"),
):
    _guarded(_method, _path, _privilege)
