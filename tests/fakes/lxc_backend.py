"""Containers of a Proxmox VE node with the rules that decide over data.

The rules are those of pve-container's ``PVE::LXC`` and ``PVE::API2::LXC``
(https://git.proxmox.com/?p=pve-container.git): who owns a volume, what destroying a container
frees, what ``unmanaged`` leaves undone, what cannot shrink. A :class:`Machine` does what a rule
only talks about: it unpacks, starts and stops; :class:`PaperMachine` just remembers.

``Node.handle(method, path, params)`` answers one call below ``/api2/json``; raise
:class:`ApiError` becomes the HTTP status and its reason.
"""

import hashlib
import itertools
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

Params = Mapping[str, str]

#: Keys whose values are JSON numbers in an answer.
_NUMBERS: Final = frozenset(
    [
        "cores",
        "memory",
        "swap",
        "tty",
        "onboot",
        "unprivileged",
        "protection",
        "template",
        "console",
    ]
)
_VOLUME: Final = re.compile(
    r"(?P<storage>[A-Za-z][\w.-]*):(?:\d+/)?(?:vm|subvol)-(?P<owner>\d+)-disk-\w+(?:\.\w+)?"
)
_DISK_KEY: Final = re.compile(r"rootfs|mp\d+|unused\d+")


class ApiError(Exception):
    """An answer with an HTTP error *status*; its text is the reason phrase."""

    def __init__(self, status: int, reason: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.errors = status, reason, errors


@dataclass
class Volume:
    """A disk: *size* in GiB, *data* is what a machine keeps for it."""

    name: str
    size: int
    data: Any = None

    @property
    def owner(self) -> int:
        """The VMID in the name: the only thing Proxmox knows about whom a volume belongs to."""
        match = _VOLUME.fullmatch(self.name)
        assert match
        return int(match["owner"])


@dataclass
class Guest:
    """A container and its configuration, as in ``/etc/pve/lxc/<vmid>.conf``."""

    vmid: int
    config: dict[str, str]
    running: bool = False
    machine: Any = None
    firewall: dict[str, Any] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)

    def volumes(self) -> dict[str, str]:
        """Return key → volume of every disk in the configuration."""
        return {
            key: split_property(value, "volume")["volume"]
            for key, value in self.config.items()
            if _DISK_KEY.fullmatch(key)
        }


class Machine(Protocol):
    """What really happens to disks and containers."""

    def allocate(self, volume: Volume) -> None: ...
    def free(self, volume: Volume) -> None: ...
    def unpack(self, template: Path, volume: Volume) -> None: ...
    def set_up(self, guest: Guest, volume: Volume, params: Params) -> None: ...
    def start(self, guest: Guest, volumes: Mapping[str, Volume]) -> None: ...
    def stop(self, guest: Guest, *, force: bool) -> None: ...
    def address(self, guest: Guest) -> str: ...


class PaperMachine:
    """Remembers the bytes of each volume and runs nothing."""

    def __init__(self) -> None:
        self.addresses: Callable[[Guest], str] = lambda guest: f"10.0.0.{guest.vmid % 250 + 1}"
        self.set_up_calls: list[tuple[int, dict[str, str]]] = []

    def allocate(self, volume: Volume) -> None:
        volume.data = {}

    def free(self, volume: Volume) -> None:
        volume.data = None

    def unpack(self, template: Path, volume: Volume) -> None:
        volume.data["/etc/template"] = template.name

    def set_up(self, guest: Guest, volume: Volume, params: Params) -> None:
        self.set_up_calls.append((guest.vmid, dict(params)))

    def start(self, guest: Guest, volumes: Mapping[str, Volume]) -> None:
        pass

    def stop(self, guest: Guest, *, force: bool) -> None:
        pass

    def address(self, guest: Guest) -> str:
        return self.addresses(guest)


def split_property(text: str, default: str) -> dict[str, str]:
    """Read a property string such as ``local-lvm:vm-1-disk-0,size=20G``."""
    pairs = (part.partition("=") for part in text.split(","))
    return {(key if found else default): (value if found else key) for key, found, value in pairs}


def join_property(fields: Mapping[str, str], default: str) -> str:
    """Write a property string, the default key first and bare."""
    rest = ",".join(f"{key}={value}" for key, value in sorted(fields.items()) if key != default)
    return fields[default] + (f",{rest}" if rest else "")


class Node:
    """One node: its containers, their volumes, its templates and its tasks."""

    def __init__(self, machine: Machine, templates: Path, *, name: str = "pve") -> None:
        self.machine, self.templates, self.name = machine, templates, name
        self.storages = {"local-lvm", "homes"}
        self.guests: dict[int, Guest] = {}
        self.virtual_machines: set[int] = set()
        self.volumes: dict[str, Volume] = {}
        self.tasks: dict[str, tuple[str, list[str]]] = {}
        self.calls: list[tuple[str, str]] = []
        self.seconds: dict[str, float] = {}
        self._lock = threading.RLock()
        self._pids = itertools.count(0x1000)
        node = f"/nodes/{re.escape(name)}"
        lxc = rf"{node}/lxc/(\d+)"
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = [
            (method, re.compile(pattern), action)
            for method, pattern, action in (
                ("GET", "/version", self._version),
                ("GET", "/nodes", self._nodes),
                ("GET", "/cluster/nextid", self._next_id),
                ("GET", f"{node}/qemu", self._list_vms),
                ("GET", f"{node}/lxc", self._list),
                ("POST", f"{node}/lxc", self._create),
                ("DELETE", lxc, self._destroy),
                ("GET", f"{lxc}/config", self._config),
                ("PUT", f"{lxc}/config", self._configure),
                ("PUT", f"{lxc}/resize", self._resize),
                ("POST", f"{lxc}/move_volume", self._move_volume),
                ("GET", f"{lxc}/status/current", self._status),
                ("POST", rf"{lxc}/status/(start|stop|shutdown|reboot)", self._power),
                ("GET", f"{lxc}/interfaces", self._interfaces),
                ("GET", f"{lxc}/firewall/options", self._firewall),
                ("PUT", f"{lxc}/firewall/options", self._set_firewall),
                ("GET", f"{lxc}/firewall/rules", self._rules),
                ("POST", f"{lxc}/firewall/rules", self._add_rule),
                ("GET", rf"{lxc}/firewall/rules/(\d+)", self._rule),
                ("DELETE", rf"{lxc}/firewall/rules/(\d+)", self._delete_rule),
                ("POST", rf"{node}/storage/([\w.-]+)/download-url", self._download),
                ("GET", rf"{node}/tasks/(UPID:[^/]+)/status", self._task_status),
                ("GET", rf"{node}/tasks/(UPID:[^/]+)/log", self._task_log),
            )
        ]

    def handle(self, method: str, path: str, params: Params) -> Any:
        """Answer one call with the value of ``data``."""
        self.calls.append((method, path))
        for verb, pattern, action in self._routes:
            match = pattern.fullmatch(path)
            if verb == method and match:
                with self._lock:
                    return action(params, *match.groups())
        raise ApiError(501, f"Method '{method} {path}' not implemented")

    # -- the cluster --

    def _version(self, params: Params) -> dict[str, str]:
        return {"version": "9.1.1", "release": "9.1", "repoid": "0000000000000000"}

    def _nodes(self, params: Params) -> list[dict[str, Any]]:
        return [{"node": self.name, "status": "online", "type": "node", "id": f"node/{self.name}"}]

    def _next_id(self, params: Params) -> str:
        if "vmid" in params:
            vmid = int(params["vmid"])
            if vmid in self.guests or vmid in self.virtual_machines:
                raise ApiError(
                    400, "Parameter verification failed.", {"vmid": f"VM {vmid} already exists"}
                )
            return params["vmid"]
        return str(next(n for n in itertools.count(100) if n not in self.guests))

    def _list_vms(self, params: Params) -> list[dict[str, Any]]:
        return [{"vmid": n, "name": f"vm{n}", "status": "stopped"} for n in self.virtual_machines]

    def _list(self, params: Params) -> list[dict[str, Any]]:
        return [
            {
                "vmid": guest.vmid,
                "name": guest.config.get("hostname", ""),
                "status": "running" if guest.running else "stopped",
                "tags": guest.config.get("tags", ""),
                "type": "lxc",
            }
            for guest in self.guests.values()
        ]

    def _guest(self, vmid: str) -> Guest:
        try:
            return self.guests[int(vmid)]
        except KeyError:
            reason = f"Configuration file 'nodes/{self.name}/lxc/{vmid}.conf' does not exist"
            raise ApiError(500, reason) from None

    # -- making and destroying --

    def _create(self, params: Params) -> str:
        vmid = int(params["vmid"])
        if vmid in self.guests or vmid in self.virtual_machines:
            reason = f"unable to create CT {vmid} - CT {vmid} already exists on node '{self.name}'"
            raise ApiError(500, reason)
        return self._task("vzcreate", params["vmid"], lambda log: self._really_create(params, log))

    def _really_create(self, params: Params, log: list[str]) -> None:
        vmid = int(params["vmid"])
        _, _, file_name = params["ostemplate"].partition(":vztmpl/")
        template = self.templates / file_name
        if not file_name or not template.is_file():
            msg = f"unable to create CT {vmid} - volume '{params['ostemplate']}' does not exist"
            raise TaskError(msg)
        guest = Guest(vmid, self._kept(params))
        made: list[Volume] = []
        try:
            rootfs = split_property(params.get("rootfs", f"{params['storage']}:4"), "volume")
            mounts = {
                key: split_property(params[key], "volume")
                for key in params
                if re.fullmatch(r"mp\d+", key)
            }
            for key, disk in {"rootfs": rootfs, **mounts}.items():
                volume = self._disk(vmid, disk["volume"], made)
                fields = {**disk, "volume": volume.name, "size": f"{volume.size}G"}
                guest.config[key] = join_property(fields, "volume")
            root = self.volumes[guest.volumes()["rootfs"]]
            self.machine.unpack(template, root)
            if params.get("ostype") != "unmanaged":
                self.machine.set_up(guest, root, params)
        except BaseException:
            for volume in made:
                self._free(volume)
            raise
        self.guests[vmid] = guest
        log.append("TASK done")
        if params.get("start") == "1":
            self._start(guest)

    def _kept(self, params: Params) -> dict[str, str]:
        left_out = {
            "vmid",
            "ostemplate",
            "storage",
            "password",
            "ssh-public-keys",
            "start",
            "pool",
            "rootfs",
        }
        config = {
            k: v for k, v in params.items() if k not in left_out and not re.fullmatch(r"mp\d+", k)
        }
        if "tags" in config:
            config["tags"] = ";".join(sorted(config["tags"].lower().replace(",", ";").split(";")))
        for key in [k for k in config if re.fullmatch(r"net\d+", k)]:
            fields = split_property(config[key], "name")
            fields.setdefault(
                "hwaddr",
                f"BC:24:11:{next(self._pids) % 256:02X}:{int(params['vmid']) % 256:02X}:01",
            )
            fields.setdefault("type", "veth")
            config[key] = ",".join(f"{k}={v}" for k, v in sorted(fields.items()))
        return config

    def _disk(self, vmid: int, wanted: str, made: list[Volume]) -> Volume:
        """Return the volume that ``storage:size`` makes, or the existing one that is named."""
        storage, _, rest = wanted.partition(":")
        if wanted.startswith("/"):
            msg = "Only root can pass arbitrary filesystem paths."
            raise TaskError(msg)
        if not rest.isdigit():
            if wanted not in self.volumes:
                msg = f"volume '{wanted}' does not exist"
                raise TaskError(msg)
            return self.volumes[wanted]
        if storage not in self.storages:
            msg = f"storage '{storage}' does not exist"
            raise TaskError(msg)
        name = self._free_name(storage, vmid)
        volume = Volume(name, int(rest))
        self.machine.allocate(volume)
        self.volumes[name] = volume
        made.append(volume)
        return volume

    def _free_name(self, storage: str, vmid: int) -> str:
        names = (f"{storage}:vm-{vmid}-disk-{n}" for n in itertools.count())
        return next(name for name in names if name not in self.volumes)

    def _free(self, volume: Volume) -> None:
        self.machine.free(volume)
        del self.volumes[volume.name]

    def _destroy(self, params: Params, vmid: str) -> str:
        guest = self._guest(vmid)
        if guest.config.get("protection") == "1":
            raise ApiError(500, f"can't remove CT {vmid} - protection mode enabled")
        if guest.running:
            raise ApiError(500, f"unable to destroy CT {vmid} - container is running")
        return self._task("vzdestroy", vmid, lambda log: self._really_destroy(guest, log))

    def _really_destroy(self, guest: Guest, log: list[str]) -> None:
        """Free every volume that carries the id of the container, wherever it is used."""
        for name in dict.fromkeys(guest.volumes().values()):
            volume = self.volumes.get(name)
            if volume is None:
                continue
            if volume.owner == guest.vmid:
                self._free(volume)
            else:
                log.append(f"ignore deletion of '{name}', CT {guest.vmid} isn't the owner!")
        del self.guests[guest.vmid]

    # -- the configuration --

    def _config(self, params: Params, vmid: str) -> dict[str, Any]:
        config = self._guest(vmid).config
        shown: dict[str, Any] = {k: int(v) if k in _NUMBERS else v for k, v in config.items()}
        if "description" in shown:
            shown["description"] += "\n"  # comes back as the comment lines of the file
        shown["digest"] = hashlib.sha1(repr(sorted(config.items())).encode()).hexdigest()  # noqa: S324
        return shown

    def _configure(self, params: Params, vmid: str) -> None:
        guest = self._guest(vmid)
        if not params:
            raise ApiError(500, "no options specified")
        if "features" in params:
            self._refuse_features(params["features"], guest.config.get("features", ""))
        for key in params.get("delete", "").split(","):
            self._delete_option(guest, key)
        given = {k: v for k, v in params.items() if k not in {"delete", "digest"}}
        for key in [k for k in given if re.fullmatch(r"mp\d+", k)]:
            disk = split_property(given.pop(key), "volume")
            made: list[Volume] = []
            volume = self._disk(guest.vmid, disk["volume"], made)
            guest.config[key] = join_property(
                {**disk, "volume": volume.name, "size": f"{volume.size}G"}, "volume"
            )
        guest.config.update(
            {**guest.config, **self._kept({"vmid": vmid, **given})} if given else {}
        )

    def _refuse_features(self, new: str, old: str) -> None:
        asked = {k: v for k, v in split_property(new, "nesting").items() if k != "nesting"}
        known = split_property(old, "nesting") if old else {}
        if any(value != known.get(key, "") for key, value in asked.items()):
            raise ApiError(
                403, "changing feature flags (except nesting) is only allowed for root@pam"
            )

    def _delete_option(self, guest: Guest, key: str) -> None:
        volume = guest.volumes().get(key)
        guest.config.pop(key, None)
        if volume and key.startswith("mp") and self.volumes[volume].owner == guest.vmid:
            number = next(n for n in itertools.count() if f"unused{n}" not in guest.config)
            guest.config[f"unused{number}"] = volume

    def _resize(self, params: Params, vmid: str) -> str:
        guest, key = self._guest(vmid), params["disk"]
        volume = self.volumes[guest.volumes()[key]]
        size = int(params["size"].removesuffix("G"))
        if size < volume.size:
            raise ApiError(500, "unable to shrink disk size")
        volume.size = size
        fields = split_property(guest.config[key], "volume")
        guest.config[key] = join_property({**fields, "size": f"{size}G"}, "volume")
        return self._task("resize", vmid, lambda _log: None)

    def _move_volume(self, params: Params, vmid: str) -> str:
        """Give a volume to another container: it is renamed after its new owner."""
        source, target = self._guest(vmid), self._guest(params["target-vmid"])
        key, target_key = params["volume"], params.get("target-volume", params["volume"])
        if source.running:
            raise ApiError(500, f"cannot move volume of a running container {vmid}")
        if target_key in target.config:
            raise ApiError(
                500, f"Target volume key '{target_key}' is already in use for CT '{target.vmid}'"
            )
        return self._task(
            "move_volume", vmid, lambda _log: self._reassign(source, key, target, target_key)
        )

    def _reassign(self, source: Guest, key: str, target: Guest, target_key: str) -> None:
        fields = split_property(source.config.pop(key), "volume")
        volume = self.volumes.pop(fields["volume"])
        volume.name = self._free_name(volume.name.partition(":")[0], target.vmid)
        self.volumes[volume.name] = volume
        target.config[target_key] = join_property({**fields, "volume": volume.name}, "volume")

    # -- running --

    def _status(self, params: Params, vmid: str) -> dict[str, Any]:
        guest = self._guest(vmid)
        return {
            "status": "running" if guest.running else "stopped",
            "vmid": guest.vmid,
            "type": "lxc",
        }

    def _power(self, params: Params, vmid: str, action: str) -> str:
        guest = self._guest(vmid)
        if action == "start" and guest.running:
            raise ApiError(500, f"CT {vmid} already running")
        if action != "start" and not guest.running:
            raise ApiError(500, f"CT {vmid} not running")
        return self._task(f"vz{action}", vmid, lambda _log: self._do_power(guest, action))

    def _do_power(self, guest: Guest, action: str) -> None:
        if action != "start":
            self.machine.stop(guest, force=action == "stop")
            guest.running = False
        if action in {"start", "reboot"}:
            self._start(guest)

    def _start(self, guest: Guest) -> None:
        disks = guest.volumes()
        missing = [name for name in disks.values() if name not in self.volumes]
        if missing:
            msg = f"volume '{missing[0]}' does not exist"
            raise TaskError(msg)
        paths = {
            "/"
            if key == "rootfs"
            else split_property(guest.config[key], "volume")["mp"]: self.volumes[name]
            for key, name in disks.items()
            if not key.startswith("unused")
        }
        self.machine.start(guest, paths)
        guest.running = True

    def _interfaces(self, params: Params, vmid: str) -> list[dict[str, Any]]:
        guest = self._guest(vmid)
        if not guest.running:
            raise ApiError(500, f"CT {vmid} not running")
        loopback = _interface("lo", "127.0.0.1", 8)
        address = self.machine.address(guest)
        return [loopback, _interface("eth0", address, 24)]

    # -- the firewall --

    def _firewall(self, params: Params, vmid: str) -> dict[str, Any]:
        return self._guest(vmid).firewall

    def _set_firewall(self, params: Params, vmid: str) -> None:
        guest = self._guest(vmid)
        for key in params.get("delete", "").split(","):
            guest.firewall.pop(key, None)
        numbers = {"enable", "dhcp", "ndp", "radv", "macfilter", "ipfilter"}
        guest.firewall.update(
            {
                k: int(v) if k in numbers else v
                for k, v in params.items()
                if k not in {"delete", "digest"}
            }
        )

    def _rules(self, params: Params, vmid: str) -> list[dict[str, Any]]:
        return [{**rule, "pos": n} for n, rule in enumerate(self._guest(vmid).rules)]

    def _add_rule(self, params: Params, vmid: str) -> None:
        rule = {k: int(v) if k == "enable" else v for k, v in params.items() if k != "pos"}
        # A new rule goes to the top.
        self._guest(vmid).rules.insert(0, rule)

    def _rule(self, params: Params, vmid: str, pos: str) -> dict[str, Any]:
        try:
            return {**self._guest(vmid).rules[int(pos)], "pos": pos}  # a text, here
        except IndexError:
            raise ApiError(400, f"no rule at position {pos}") from None

    def _delete_rule(self, params: Params, vmid: str, pos: str) -> None:
        del self._guest(vmid).rules[int(pos)]

    # -- templates --

    def _download(self, params: Params, storage: str) -> str:
        """Fetch a template as a node does: never over another file, only with its checksum."""
        name = params["filename"]
        target = self.templates / name

        def work(log: list[str]) -> None:
            if target.exists():
                found = hashlib.sha256(target.read_bytes()).hexdigest()
                if found != params["checksum"]:
                    wanted = params["checksum"]
                    msg = f"checksum mismatch: got '{found}' != expect '{wanted}', aborting"
                    raise TaskError(msg)
                log.append("OK, got correct file already, no need to download")
                return
            with urllib.request.urlopen(params["url"], timeout=30) as answer:  # noqa: S310
                data = answer.read()
            found = hashlib.sha256(data).hexdigest()
            if found != params["checksum"]:
                msg = f"checksum mismatch: got '{found}' != expect '{params['checksum']}'"
                raise TaskError(msg)
            target.write_bytes(data)

        return self._task("download", name, work)

    # -- tasks --

    def _task(self, kind: str, subject: str, work: Callable[[list[str]], None]) -> str:
        upid = (
            f"UPID:{self.name}:{next(self._pids):08X}:{0x2A0000:08X}:{int(time.time()):08X}:"
            f"{kind}:{subject}:coder@pve!tf:"
        )
        log: list[str] = []
        start = time.monotonic()
        try:
            work(log)
            status = "OK"
        except TaskError as error:
            status = str(error)
            log.append(f"TASK ERROR: {status}")
        self.seconds[f"{kind} {subject}"] = time.monotonic() - start
        self.tasks[upid] = (status, log)
        return upid

    def _task_status(self, params: Params, upid: str) -> dict[str, Any]:
        if upid not in self.tasks:
            raise ApiError(400, "no such task")
        return {
            "upid": upid,
            "node": self.name,
            "status": "stopped",
            "exitstatus": self.tasks[upid][0],
        }

    def _task_log(self, params: Params, upid: str) -> list[dict[str, Any]]:
        return [{"n": n, "t": line} for n, line in enumerate(self.tasks[upid][1], start=1)]


class TaskError(Exception):
    """Ends a task; its text becomes the exit status."""


def _interface(name: str, address: str, prefix: int) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": name,
        "hardware-address": "bc:24:11:00:00:01",
        "hwaddr": "bc:24:11:00:00:01",
    }
    if address:
        shown["inet"] = f"{address}/{prefix}"
        shown["ip-addresses"] = [
            {"ip-address": address, "ip-address-type": "inet", "prefix": prefix}
        ]
    return shown
