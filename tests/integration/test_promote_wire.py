"""What really goes over the wire: pveproxy reads uploads by order and by the luck of its reads."""

import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.certificates import make_certificate

from hakim_actions.promote.api import Api
from hakim_actions.promote.endpoint import Endpoint, Token
from hakim_actions.system.http import Deadline
from hakim_actions.system.tls import Trust

UPID = "UPID:pve1:00001000:002A0000:6B044837:imgcopy::hakim@pve!ci:"
NAME = "hakim-base-trixie-amd64.tar.xz"


@contextmanager
def recorder(folder: Path) -> Iterator[tuple[Api, list[bytes]]]:
    """Take one request, record by record of TLS, and answer it with a UPID."""
    certificate, key = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    records: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as channel:
                left = None
                while left is None or left > 0:
                    record = channel.recv(1 << 20)
                    records.append(record)
                    if left is None and b"\r\n\r\n" in record:
                        match = re.search(rb"Content-Length: (\d+)\r\n", record)
                        assert match is not None
                        left = int(match[1]) - len(record.split(b"\r\n\r\n", 1)[1])
                    elif left is not None:
                        left -= len(record)
                body = b'{"data":"%s"}' % UPID.encode()
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                channel.sendall(head + body)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        endpoint = Endpoint.parse(f"https://127.0.0.1:{port}", trust=Trust(ca_file=certificate))
        token = Token.parse("hakim@pve!ci=secret", source="test")
        yield Api(endpoint, token, deadline=Deadline(30)), records
        thread.join()


@pytest.mark.parametrize("size", [5_000, 12_000_000], ids=["from memory", "streamed"])
def test_an_upload_is_what_the_parser_of_pveproxy_takes(tmp_path: Path, size: int) -> None:
    content = hashlib.shake_128(b"content").digest(size)
    file = tmp_path / "other-name-on-this-machine"
    file.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    sent: list[int] = []
    with recorder(tmp_path) as (api, records):
        upid = api.upload(
            "nodes/pve1/storage/tmpl/upload", file, name=NAME, sha256=sha256, on_bytes=sent.append
        )
    assert upid == UPID
    assert sent[-1] == size
    assert sent == sorted(sent)

    head, _, rest = records[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api2/json/nodes/pve1/storage/tmpl/upload HTTP/1.1\r\n")
    assert b"Authorization: PVEAPIToken=hakim@pve!ci=secret" in head
    assert b"Transfer-Encoding" not in head
    assert b"Expect" not in head
    boundary = re.search(rb"Content-Type: multipart/form-data; boundary=(\S+)", head)
    assert boundary is not None

    first = rest or records[1]
    delimiter = b"--" + boundary[1] + b"\r\n"
    parts = first.split(delimiter)
    fields = [re.search(rb'name="([^"]+)"', part) for part in parts[1:]]
    names = [field[1].decode() for field in fields if field is not None]
    # In one record, in this order, all headers of the file whole, Content-Disposition first.
    assert names == ["content", "checksum-algorithm", "checksum", "filename"]
    disposition, _, start = parts[4].partition(b"\r\n\r\n")
    expected = f'Content-Disposition: form-data; name="filename"; filename="{NAME}"'
    assert disposition.split(b"\r\n")[0].decode() == expected
    assert start
    assert content.startswith(start[: min(len(start), size)])

    body = b"".join([rest, *records[1:]])
    assert body.split(b"\r\n\r\n", 4)[4] == content + b"\r\n--" + boundary[1] + b"--\r\n"
    assert f"\r\n\r\n{sha256}\r\n".encode() in first
