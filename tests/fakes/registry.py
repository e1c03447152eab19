"""A Terraform module registry on loopback that serves interface stubs.

The protocol is https://developer.hashicorp.com/terraform/internals/module-registry-protocol.
"""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

#: ``namespace/name/target`` → the version that is served, from the folder with the middle name.
MODULES: Final = {
    "coder/code-server/coder": "1.5.2",
    "coder/git-clone/coder": "2.0.3",
    "coder/vault-github/coder": "1.1.2",
}


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        module = "/".join(parts[1:4])
        if parts[0] == "archives" and parts[1] in {name.split("/")[1] for name in MODULES}:
            self._answer(200, _packed(self.folder / parts[1]), "application/gzip")
        elif module not in MODULES:
            self._answer(404, b'{"errors":["Not Found"]}')
        elif parts[4:] == ["versions"]:
            document = {"modules": [{"versions": [{"version": MODULES[module]}]}]}
            self._answer(200, json.dumps(document).encode())
        elif parts[4:] == [MODULES[module], "download"]:
            self.send_response(204)
            self.send_header("X-Terraform-Get", f"/archives/{parts[2]}/module.tar.gz")
            self.end_headers()
        else:
            self._answer(404, b'{"errors":["Not Found"]}')

    def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep quiet."""


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return buffer.getvalue()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the stubs in *folder* for the block; yields the base URL of ``modules.v1``."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/modules/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
