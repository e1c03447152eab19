"""Serves a node's API over TLS, as pveproxy does."""

import json
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fakes.lxc_backend import ApiError, Node

TOKEN = "coder@pve!tf=5ec2e700-0000-4000-8000-000000000007"  # noqa: S105


@dataclass(frozen=True)
class Endpoint:
    """Where the API answers, and the certificate that proves it."""

    url: str
    certificate: Path
    token: str = TOKEN


class _Handler(BaseHTTPRequestHandler):
    node: Node
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def _call(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        params = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        params |= dict(urllib.parse.parse_qsl(body, keep_blank_values=True))
        path = urllib.parse.unquote(url.path).removeprefix("/api2/json")
        try:
            if self.headers.get("Authorization") != f"PVEAPIToken={TOKEN}":
                raise ApiError(401, "No ticket")  # noqa: TRY301
            self._answer(200, "OK", {"data": self.node.handle(self.command, path, params)})
        except ApiError as error:
            document: dict[str, Any] = {"data": None, "message": f"{error.reason}\n"}
            if error.errors:
                document["errors"] = error.errors
            self._answer(error.status, error.reason, document)

    do_GET = do_POST = do_PUT = do_DELETE = _call  # noqa: N815

    def _answer(self, status: int, reason: str, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


class Server(ThreadingHTTPServer):
    """A server on a socket that is made elsewhere, perhaps in another network."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(listener.getsockname(), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


@contextmanager
def serving(
    node: Node, folder: Path, *, listener: socket.socket | None = None
) -> Iterator[Endpoint]:
    """Serve *node* for the block, on a free port of 127.0.0.1 unless a *listener* is given."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()[:2]
    certificate = _certificate(folder, host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, folder / "key.pem")
    handler = type("Handler", (_Handler,), {"node": node})
    server = Server(context.wrap_socket(listener, server_side=True), handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield Endpoint(f"https://{host}:{port}/", certificate)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _certificate(folder: Path, host: str) -> Path:
    certificate = folder / "certificate.pem"
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-nodes", "-days", "2", "-subj", "/CN=pve", "-addext", f"subjectAltName=IP:{host}"),
        *("-keyout", str(folder / "key.pem"), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate
