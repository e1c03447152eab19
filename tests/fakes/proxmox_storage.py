"""The routes of the fake cluster that promotion uses: access, nodes, storages, tasks."""

import contextlib
import hashlib
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from fakes.proxmox import Call, FakeProxmox, Refusal, Storage, route
from fakes.proxmox_tasks import Task, TaskFailure, fail

TEMPLATE = re.compile(r"[^/]+\.(tar|tar\.(gz|xz|zst|bz2))", re.IGNORECASE)
FORMATS = {"gz": "tgz", "xz": "txz", "zst": "tzst", "bz2": "tbz2", "tar": "tar"}


# -- access, nodes -------------------------------------------------------------------------------


@route("GET", "/version")
@route("GET", "/nodes/{node}/version")
def _version(fake: FakeProxmox, call: Call) -> Any:
    node = fake.nodes[call.values.get("node", fake.receiver)]
    return {"version": node.pve, "release": ".".join(node.pve.split(".")[:2]), "repoid": "f4f4f4f4"}


@route("GET", "/access/permissions")
def _permissions(fake: FakeProxmox, call: Call) -> Any:
    if path := call.params.get("path"):
        return {path: {n: int(p) for n, p in fake.access.on(call.user, path).items()}}
    return fake.access.permissions(call.user)


@route("GET", "/nodes")
def _nodes(fake: FakeProxmox, _call: Call) -> Any:
    return [
        {
            "node": node.name,
            "id": f"node/{node.name}",
            "type": "node",
            "status": "online" if node.online else "offline",
        }
        for node in fake.nodes.values()
    ]


@route("GET", "/nodes/{node}/apt/versions")
def _packages(fake: FakeProxmox, call: Call) -> Any:
    fake.require(call, f"/nodes/{call.values['node']}", "Sys.Audit")
    node = fake.nodes[call.values["node"]]
    return [
        {"Package": "pve-manager", "OldVersion": node.pve, "Version": "9.9.9", "Arch": node.arch},
        {"Package": "pve-container", "Version": node.container, "Arch": "all"},
    ]


# -- storages ------------------------------------------------------------------------------------


@route("GET", "/nodes/{node}/storage")
def _storages(fake: FakeProxmox, call: Call) -> Any:
    node, wanted = call.values["node"], call.params.get("storage")
    if wanted is not None and wanted not in fake.storages:
        raise Refusal(400, "Parameter verification failed.", {"storage": "No such storage."})
    found = []
    for storage in fake.storages.values():
        held = fake.access.on(call.user, f"/storage/{storage.name}")
        visible = {"Datastore.Audit", "Datastore.AllocateSpace"} & set(held)
        here = not storage.nodes or node in storage.nodes
        if visible and here and wanted in {None, storage.name}:
            found.append(_status(fake, node, storage))
    return found


def _status(fake: FakeProxmox, node: str, storage: Storage) -> dict[str, object]:
    active = storage.enabled and storage.active
    avail = fake.available(node, storage) if active else 0
    total = storage.capacity if active else 0
    return {
        "storage": storage.name,
        "type": "nfs" if storage.shared else "dir",
        "content": storage.content,
        "enabled": int(storage.enabled),
        "active": int(active),
        "shared": int(storage.shared),
        "total": total,
        "avail": avail,
        "used": total - avail,
    }


@route("GET", "/nodes/{node}/storage/{storage}/content")
def _content(fake: FakeProxmox, call: Call) -> Any:
    name = call.values["storage"]
    fake.require(call, f"/storage/{name}", "Datastore.Audit", "Datastore.AllocateSpace")
    storage = fake.storage(call)
    if not storage.active:
        raise Refusal(500, f"storage '{name}' is not online")
    if call.params.get("content") not in {None, "vztmpl"}:
        return []
    items = []
    for file in fake.folder(call.values["node"], name).iterdir():
        if TEMPLATE.fullmatch(file.name):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                items.append(
                    {
                        "volid": f"{name}:vztmpl/{file.name}",
                        "content": "vztmpl",
                        "format": FORMATS[file.name.rsplit(".", 1)[1].lower()],
                        "size": stat.st_size,
                        "ctime": int(stat.st_mtime),
                    }
                )
    return sorted(items, key=lambda item: str(item["volid"]).lower())


@route("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}")
def _delete(fake: FakeProxmox, call: Call) -> Any:
    name, node = call.values["storage"], call.values["node"]
    fake.require(call, f"/storage/{name}", "Datastore.Allocate")
    fake.storage(call)
    file = fake.folder(node, name) / call.values["volume"].rpartition("/")[2]

    def work(task: Task) -> None:
        if file.exists():
            file.unlink()
        else:
            task.warn(f"disk image '{file}' does not exist")
            task.warnings = 0  # a plain warn() of Perl: the task still ends with OK

    upid = fake.start(node, "imgdel", f"{file.name}@{name}", call.user, work)
    if "delay" in call.params:
        thread = fake.tasks[upid].thread
        assert thread is not None
        thread.join(int(call.params["delay"]))
        return None if fake.tasks[upid].exitstatus == "OK" else upid
    return upid


def _target(fake: FakeProxmox, call: Call) -> tuple[Storage, str]:
    """Check what upload and download-url both check, in their order; return the file's name."""
    storage = fake.storage(call)
    if call.params.get("content") not in {"iso", "vztmpl", "import"}:
        raise Refusal(400, "Parameter verification failed.", {"content": "invalid value"})
    if ("checksum" in call.params) != ("checksum-algorithm" in call.params):
        raise Refusal(400, "Parameter verification failed.", {"checksum": "missing dependency"})
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", re.sub(r"^.*[/\\]", "", call.params["filename"].strip()))
    if not TEMPLATE.fullmatch(name):
        errors = {"filename": "wrong file extension"}
        raise Refusal(400, "Parameter verification failed.", errors)
    if call.params["content"] not in storage.content.split(","):
        raise Refusal(
            500, f"storage '{storage.name}' does not support '{call.params['content']}' content"
        )
    return storage, name


def _digest(path: Path, params: dict[str, str]) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, params["checksum-algorithm"]).hexdigest()


@route("POST", "/nodes/{node}/storage/{storage}/upload")
def _upload(fake: FakeProxmox, call: Call) -> Any:
    storage, name = _target(fake, call)
    node, temporary = call.values["node"], call.file
    assert temporary is not None
    target = fake.folder(node, storage.name) / name
    fault = fake.fault("copy", name)

    def work(task: Task) -> None:
        if "checksum" in call.params and fake.hashes:
            got, expect = _digest(temporary, call.params), call.params["checksum"]
            if got != expect.lower():
                fail(f"checksum mismatch: got '{got}' != expect '{expect}'")
            task.log.append("calculating checksum...OK, checksum verified")
        room = fake.available(node, storage)
        _copy(task, temporary, target, room=room, fault=fault)
        task.log.append("finished file import successfully")

    # The worker runs where the request was received, whichever node the file is for.
    log = (
        f"starting file import from: {temporary}",
        f"target node: {node}",
        f"target file: {target}",
        f"file size is: {temporary.stat().st_size}",
    )
    return fake.start(fake.receiver, "imgcopy", "", call.user, work, temporary=temporary, log=log)


def _copy(
    task: Task,
    source: Path,
    target: Path,
    *,
    room: int,
    fault: tuple[Any, ...] | None,
) -> None:
    """Copy as cp does: over what is there, not atomically; on failure unlink the target."""
    task.log.append(f"command: cp -- {source} {target}")
    room += target.stat().st_size if target.exists() else 0
    size = source.stat().st_size
    try:
        with source.open("rb") as origin, target.open("wb") as copy:
            if fault is not None or size > room:
                copy.write(origin.read(size // 2))
                copy.flush()
                if fault is not None and fault[0] == "hold":
                    fault[1].set()
                    fault[2].wait(20)
                    copy.write(origin.read())
                    return
                if fault is not None and fault[0] == "die":
                    return  # the node lost power: half a file, and no clean-up
                fail("import failed: cp: No space left on device")
            shutil.copyfileobj(origin, copy, 1024 * 1024)
    except TaskFailure:
        target.unlink(missing_ok=True)
        raise
    finally:
        if fault is not None and fault[0] == "die":
            task.log.append("")
            fail("unexpected status")


@route("POST", "/nodes/{node}/storage/{storage}/download-url")
def _download(fake: FakeProxmox, call: Call) -> Any:
    node, name = call.values["node"], call.values["storage"]
    fake.require(call, f"/storage/{name}", "Datastore.AllocateTemplate")
    _require_network(fake, call)
    storage, file = _target(fake, call)
    if not re.match(r"https?://.", call.params.get("url", "")):
        raise Refusal(400, "Parameter verification failed.", {"url": "value does not match"})
    target = fake.folder(node, storage.name) / file

    def work(task: Task) -> None:
        if target.exists():
            _existing(task, target, call.params)
        else:
            _fetch(fake, task, target, call.params, storage)

    return fake.start(node, "download", file, call.user, work)


def _existing(task: Task, target: Path, params: dict[str, str]) -> None:
    if "checksum" not in params:
        fail(f"refusing to override existing file '{target}'")
    got = _digest(target, params)
    if got != params["checksum"]:
        fail(f"checksum mismatch: got '{got}' != expect '{params['checksum']}', aborting")
    task.log.append("OK, got correct file already, no need to download")


def _fetch(
    fake: FakeProxmox, task: Task, target: Path, params: dict[str, str], storage: Storage
) -> None:
    temporary = target.with_name(f"{target.name}.tmp_dwnl.{task.upid.split(':')[2]}")
    task.log.append(f"downloading {params['url']} to {target}")
    try:
        try:
            request = urllib.request.urlopen(params["url"], timeout=10)  # noqa: S310 - loopback
            with request as answer, temporary.open("wb") as stream:
                shutil.copyfileobj(answer, stream, 1024 * 1024)
        except (urllib.error.URLError, OSError, ValueError):
            fail(f"download failed: command 'wget {params['url']}' failed: exit code 8")
        if temporary.stat().st_size > fake.available(task.node, storage) + temporary.stat().st_size:
            fail("download failed: command 'wget …' failed: exit code 3")
        if "checksum" in params:
            got = _digest(temporary, params)
            if got != params["checksum"]:
                fail(f"checksum mismatch: got '{got}' != expect '{params['checksum']}'")
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def _require_network(fake: FakeProxmox, call: Call) -> None:
    node = call.values["node"]
    if fake.may(call.user, "/", "Sys.Audit", "Sys.Modify"):
        return
    if not fake.may(call.user, f"/nodes/{node}", "Sys.AccessNetwork"):
        raise Refusal(403, f"Permission check failed (/nodes/{node}, Sys.AccessNetwork)")


@route("GET", "/nodes/{node}/query-url-metadata")
def _metadata(fake: FakeProxmox, call: Call) -> Any:
    _require_network(fake, call)
    request = urllib.request.Request(call.params["url"], method="HEAD")  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return {"size": int(answer.headers.get("Content-Length") or 0)}
    except (urllib.error.URLError, OSError) as error:
        raise Refusal(500, f"invalid server response: '{error}'") from None


# -- tasks ---------------------------------------------------------------------------------------


def _task(fake: FakeProxmox, call: Call) -> Task:
    upid = call.values["upid"]
    if not re.fullmatch(r"UPID:[^:]+:(?:[0-9A-F]+:){3}[^:]*:[^:]*:[^:]+:", upid):
        raise Refusal(400, f"unable to parse worker upid '{upid}'")
    task = fake.tasks.get(upid)
    if task is None or task.node != call.values["node"]:
        raise Refusal(400, "no such task")
    if task.user != call.user and not fake.may(call.user, f"/nodes/{task.node}", "Sys.Audit"):
        raise Refusal(403, f"Permission check failed (/nodes/{task.node}, Sys.Audit)")
    return task


@route("GET", "/nodes/{node}/tasks/{upid}/status")
def _task_status(fake: FakeProxmox, call: Call) -> Any:
    task = _task(fake, call)
    if task.exitstatus is None:
        return {**task.row(), "status": "running"}
    return {**task.row(), "status": "stopped", "exitstatus": task.exitstatus}


@route("GET", "/nodes/{node}/tasks/{upid}/log")
def _task_log(fake: FakeProxmox, call: Call) -> Any:
    lines = _task(fake, call).log or ["no content"]
    limit = int(call.params.get("limit", "50")) or len(lines)
    return [{"n": number, "t": line} for number, line in enumerate(lines, start=1)][:limit]


@route("GET", "/nodes/{node}/tasks")
def _tasks(fake: FakeProxmox, call: Call) -> Any:
    params, node = call.params, call.values["node"]
    sees_all = fake.may(call.user, f"/nodes/{node}", "Sys.Audit")
    found = []
    for task in sorted(fake.tasks.values(), key=lambda task: -task.starttime):
        running = task.exitstatus is None
        wanted = {"all": True, "active": running}.get(params.get("source", "archive"), not running)
        if (
            wanted
            and task.node == node
            and (sees_all or task.user == call.user)
            and params.get("typefilter", task.kind) == task.kind
            and task.starttime >= int(params.get("since", "0"))
        ):
            found.append({**task.row(), "status": "RUNNING" if running else task.exitstatus})
    return found[: int(params.get("limit", "50"))]
