"""The strict fake keeps the habits of pveproxy that promotion has to live with."""

import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from fakes.promotions import Site, site
from fakes.proxmox import FakeProxmox

PATH = "/api2/json/nodes/pve1/storage/tmpl"
BOUNDARY = "b0undary"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, fetch=True, prune=True) as made:
        yield made


def connect(here: Site) -> http.client.HTTPSConnection:
    parts = urlsplit(here.fake.url)
    context = ssl.create_default_context(cafile=str(here.fake.certificate))
    return http.client.HTTPSConnection(str(parts.hostname), parts.port, context=context, timeout=20)


def ask(
    here: Site, method: str, path: str, *, body: bytes = b"", token: str = "", **headers: str
) -> tuple[int, str]:
    """Send a request as it is and return status and reason."""
    connection = connect(here)
    given = {"Authorization": f"PVEAPIToken={token or here.token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body or None, headers=given)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.reason


def form(name: str, content: bytes = b"content") -> bytes:
    head = "Content-Disposition: form-data; "
    return (
        f'--{BOUNDARY}\r\n{head}name="content"\r\n\r\nvztmpl\r\n'
        f'--{BOUNDARY}\r\n{head}name="filename"; filename="{name}"\r\n\r\n'
    ).encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip


def upload(here: Site, name: str) -> tuple[int, str]:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return ask(here, "POST", f"{PATH}/upload", body=form(name), Content_Type=kind)


def wait(here: Site) -> None:
    for task in list(here.fake.tasks.values()):
        assert task.thread is not None
        task.thread.join()


def test_a_refusal_of_the_token_takes_three_seconds(here: Site) -> None:
    here.fake.auth_delay = FakeProxmox.auth_delay
    start = time.monotonic()
    status, reason = ask(here, "GET", "/api2/json/nodes", token="hakim@pve!ci=other")  # noqa: S106
    assert (status, reason) == (401, "Authentication failed!")
    assert time.monotonic() - start >= 3


def test_names_are_rewritten_without_a_word(here: Site) -> None:
    assert upload(here, "../dir\\a b+c~.tar.xz")[0] == 200
    wait(here)
    assert here.stored() == {"a_b_c_.tar.xz": b"content"}


def test_an_upload_overwrites(here: Site) -> None:
    (here.fake.folder("pve1", "tmpl") / "a.tar.xz").write_bytes(b"old")
    upload(here, "a.tar.xz")
    wait(here)
    assert here.stored() == {"a.tar.xz": b"content"}


def announce(here: Site, path: str, **headers: str) -> tuple[int, str]:
    """Send only the headers of a POST: these answers come before any of the body is read."""
    connection = connect(here)
    connection.putrequest("POST", path)
    for name, value in {"Authorization": f"PVEAPIToken={here.token}", **headers}.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.reason


def test_chunked_bodies_are_not_implemented(here: Site) -> None:
    assert announce(here, f"{PATH}/upload", Transfer_Encoding="chunked") == (
        501,
        "chunked transfer encoding not supported",
    )


def test_a_large_post_to_a_wrong_address_is_not_implemented(here: Site) -> None:
    wrong = "/api2/json/nodes/pve1/storage//upload"
    assert announce(here, wrong, Content_Length="600000") == (501, "for data too large")


def test_a_pause_in_the_body_ends_the_connection_and_leaves_nothing(here: Site) -> None:
    here.fake.inactivity = 0.3
    connection = connect(here)
    connection.putrequest("POST", f"{PATH}/upload")
    connection.putheader("Authorization", f"PVEAPIToken={here.token}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(form("a.tar.xz")[:200])
    with pytest.raises((http.client.HTTPException, OSError)):
        connection.getresponse()
    connection.close()
    assert list(here.fake.var_tmp("pve1").iterdir()) == []
    assert here.stored() == {}


def test_a_download_without_checksum_refuses_to_overwrite(here: Site) -> None:
    (here.fake.folder("pve1", "tmpl") / "a.tar.xz").write_bytes(b"old")
    fields = {"content": "vztmpl", "filename": "a.tar.xz", "url": "http://127.0.0.1:9/a"}
    assert ask(here, "POST", f"{PATH}/download-url", body=urlencode(fields).encode())[0] == 200
    wait(here)
    (task,) = here.fake.tasks.values()
    assert str(task.exitstatus).startswith("refusing to override existing file")


def test_a_deletion_is_a_task_and_may_be_repeated(here: Site) -> None:
    (here.fake.folder("pve1", "tmpl") / "a.tar.xz").write_bytes(b"old")
    for _ in range(2):
        assert ask(here, "DELETE", f"{PATH}/content/tmpl:vztmpl/a.tar.xz")[0] == 200
    wait(here)
    assert [task.exitstatus for task in here.fake.tasks.values()] == ["OK", "OK"]
    assert here.stored() == {}


def test_the_task_of_an_upload_runs_where_it_was_received(tmp_path: Path) -> None:
    with site(tmp_path, nodes=("pve1", "pve2")) as here:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        path = PATH.replace("pve1", "pve2")
        ask(here, "POST", f"{path}/upload", body=form("a.tar.xz"), Content_Type=kind)
        wait(here)
        assert [task.node for task in here.fake.tasks.values()] == ["pve1"]
        assert here.stored("pve2") == {"a.tar.xz": b"content"}
