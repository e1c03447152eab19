"""A Proxmox VE cluster with the rules that matter: strict where the real one is strict.

HTTPS with tokens and ACLs, nodes, shared and local storages, worker tasks, and pveproxy's habits.
Read in the public sources of pve-http-server, pve-storage, pve-access-control and pve-manager.

Another area of the API is one module: functions with ``@route(method, path)`` that take the
FakeProxmox and the Call. Faults are put in the way with :meth:`FakeProxmox.inject`.
"""

import contextlib
import email.utils
import http.server
import json
import re
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from fakes import proxmox_tasks, proxmox_upload
from fakes.proxmox_access import Access, Token
from fakes.proxmox_tasks import Task, fail

GIB = 2**30
MAX_POST = 512 * 1024


class Refusal(Exception):  # noqa: N818 - an answer, not a bug
    """An answer with this status; the message is the reason phrase."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


@dataclass
class Node:
    name: str
    online: bool = True
    pve: str = "9.1.1"
    container: str = "6.1.10"
    arch: str = "amd64"


@dataclass
class Storage:
    name: str
    content: str = "vztmpl,iso"
    shared: bool = False
    enabled: bool = True
    active: bool = True
    nodes: tuple[str, ...] = ()
    capacity: int = 50 * GIB


@dataclass
class Call:
    """A request that passed authentication: path parts by name, merged parameters, and who."""

    method: str
    path: str
    values: dict[str, str]
    params: dict[str, str]
    user: str
    template: str = ""
    file: Path | None = None


@dataclass
class Fault:
    """What goes wrong: *action* at *point* for requests that match, *times* times."""

    point: str
    action: Callable[..., Any] | tuple[Any, ...]
    match: str = ""
    times: int = 1
    skip: int = 0


Handler = Callable[["FakeProxmox", Call], Any]
ROUTES: list[tuple[str, re.Pattern[str], str, Handler]] = []


def route(method: str, template: str) -> Callable[[Handler], Handler]:
    """Register a function for ``/nodes/{node}/…``; the last value may hold slashes."""
    pattern = re.sub(r"\{(\w+)\}$", r"(?P<\1>.+)", template)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(pattern), template, handler))
        return handler

    return register


@dataclass
class FakeProxmox:
    """The cluster; use as a context manager. The endpoint is the first node's pveproxy."""

    root: Path
    certificate: Path
    key: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
    quorate: bool = True
    clock_ahead: float = 0
    task_seconds: float = 0
    auth_delay: float = 3
    inactivity: float = 5
    hashes: bool = True
    calls: list[Call] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __enter__(self) -> Self:
        for node in self.nodes.values():
            self.var_tmp(node.name).mkdir(parents=True, exist_ok=True)
        self._server = _Server(self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for task in list(self.tasks.values()):
            if task.thread is not None:
                task.thread.join()
        assert not self.bugs, self.bugs[0]

    # -- what a test prepares and looks at ---------------------------------------------------

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def receiver(self) -> str:
        """The node whose pveproxy takes the requests."""
        return next(iter(self.nodes))

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.method != "GET"]

    def folder(self, node: str, storage: str) -> Path:
        place = "shared" if self.storages[storage].shared else node
        path = self.root / place / storage / "template" / "cache"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def var_tmp(self, node: str) -> Path:
        return self.root / node / "var-tmp"

    def token(self, identity: str, secret: str = "secret") -> str:  # noqa: S107 - a fake's
        """Make a token and return it as PROXMOX_TOKEN holds it."""
        self.access.users.add(identity.split("!", maxsplit=1)[0])
        self.access.tokens[identity] = Token(secret)
        return f"{identity}={secret}"

    def pvesm(self, line: str) -> None:
        """Carry out ``pvesm add dir NAME --path P --content C``."""
        words = line.split()
        if words[:3] != ["pvesm", "add", "dir"]:
            raise ValueError(line)
        options = dict(zip(words[4::2], words[5::2], strict=True))
        self.storages[words[3]] = Storage(words[3], content=options["--content"])

    def inject(
        self,
        point: str,
        *action: Any,
        match: str = "",
        times: int = 1,
        skip: int = 0,
    ) -> None:
        """Let *action* happen at *point* for ``METHOD /path`` (or task kind) matching *match*."""
        self.faults.append(Fault(point, action, match, times, skip))

    def fault(self, point: str, subject: str) -> tuple[Any, ...] | None:
        """Take the next fault of *point* that matches *subject*."""
        with self.lock:
            for fault in self.faults:
                if fault.point == point and fault.times and re.search(fault.match, subject):
                    if fault.skip:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    return tuple(fault.action)  # type: ignore[arg-type]
        return None

    # -- what handlers use -------------------------------------------------------------------

    def now(self) -> float:
        return time.time() + self.clock_ahead

    def may(self, user: str, path: str, *privileges: str) -> bool:
        return set(privileges) <= set(self.access.on(user, path))

    def require(self, call: Call, path: str, *any_of: str) -> None:
        held = self.access.on(call.user, path)
        if not any(name in held for name in any_of):
            raise Refusal(403, f"Permission check failed ({path}, {'|'.join(any_of)})")

    def storage(self, call: Call) -> Storage:
        """Return the storage of a call as check_storage does, with its 500 answers."""
        name, node = call.values["storage"], call.values["node"]
        storage = self.storages.get(name)
        if storage is None:
            raise Refusal(500, f"storage '{name}' does not exist")
        if not storage.enabled:
            raise Refusal(500, f"storage '{name}' is disabled")
        if storage.nodes and node not in storage.nodes:
            raise Refusal(500, f"storage '{name}' is not available on node '{node}'")
        return storage

    def available(self, node: str, storage: Storage) -> int:
        used = sum(file.stat().st_size for file in self.folder(node, storage.name).iterdir())
        return max(0, storage.capacity - used)

    def start(
        self,
        node: str,
        kind: str,
        id_: str,
        user: str,
        work: Callable[[Task], None],
        *,
        temporary: Path | None = None,
        log: tuple[str, ...] = (),
    ) -> str:
        """Start a worker on *node*, which needs quorum; *temporary* goes in the end.

        *log* is what it says at once, before it takes its time.
        """
        if not self.quorate:
            raise Refusal(500, "cluster not ready - no quorum?")
        task = proxmox_tasks.new(node, kind, id_, user, now=self.now())
        task.log += log
        fault = self.fault("task", kind)

        def wrapped(running: Task) -> None:
            try:
                if fault is not None and fault[0] == "fail":
                    fail(fault[1])
                work(running)
            finally:
                if temporary is not None:
                    temporary.unlink(missing_ok=True)
            if fault is not None and fault[0] == "warn":
                running.warn(fault[1])

        task.thread = threading.Thread(
            target=task.run, args=(wrapped,), kwargs={"seconds": self.task_seconds}
        )
        with self.lock:
            self.tasks[task.upid] = task
        task.thread.start()
        return task.upid


# -- pveproxy ------------------------------------------------------------------------------------


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, fake: FakeProxmox) -> None:
        self.fake = fake
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(fake.certificate, fake.key)
        super().__init__(("127.0.0.1", 0), _Proxy)

    def handle_error(self, *_: object) -> None:
        """Clients go away, that is what the tests are about; a bug here must not hide as that."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.fake.bugs.append("".join(traceback.format_exception(error)))


class _Proxy(http.server.BaseHTTPRequestHandler):
    """One connection to pveproxy."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.fake = self.server.fake
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.request.settimeout(self.fake.inactivity)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()
        self.request.close()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def _serve(self) -> None:
        subject = f"{self.command} {self.path}"
        try:
            if self.command == "PUT" and self.path.startswith("/sink/"):
                self._sink()
                return
            if self._strange(self.fake.fault("request", subject)):
                return
            data = self._answer()
            self._reply(200, {"data": data}, fault=self.fake.fault("reply", subject))
        except Refusal as refusal:
            self.fake.refused.append((subject, refusal.status))
            if refusal.status in {401, 403}:
                time.sleep(self.fake.auth_delay)
            body = {"data": None, "message": refusal.message + "\n", "errors": refusal.errors}
            self._reply(refusal.status, body, reason=refusal.message)
            self.close_connection = True
        except (OSError, ssl.SSLError):
            self._abort()

    def _answer(self) -> Any:
        parts = urlsplit(self.path)
        if not parts.path.startswith("/api2/json/"):
            raise Refusal(501, f"method '{self.command}' not available")
        path = unquote(parts.path.removeprefix("/api2/json"))
        user = self._authenticate()
        params = dict(parse_qsl(parts.query, keep_blank_values=True))
        call = Call(self.command, path, {}, params, user)
        if self.headers.get("Transfer-Encoding"):
            raise Refusal(501, "chunked transfer encoding not supported")
        length = int(self.headers.get("Content-Length") or 0)
        upload = re.fullmatch(r"/nodes/([^/]+)/storage/([^/]+)/upload", path)
        if upload and self.command == "POST":
            self._receive(call, upload[2], length)
        elif length > MAX_POST:
            raise Refusal(501, "for data too large")
        elif length:
            body = self.rfile.read(length).decode()
            call.params |= dict(parse_qsl(body, keep_blank_values=True))
        try:
            return self._dispatch(call)
        except Refusal:
            if call.file is not None:
                call.file.unlink(missing_ok=True)
            raise

    def _dispatch(self, call: Call) -> Any:
        for method, pattern, template, handler in ROUTES:
            match = pattern.fullmatch(call.path)
            if match and method == call.method:
                call.values, call.template = match.groupdict(), template
                node = self.fake.nodes.get(call.values.get("node", self.fake.receiver))
                self.fake.calls.append(call)
                if node is None:
                    raise Refusal(500, f"hostname lookup '{call.values['node']}' failed")
                if not node.online:
                    raise Refusal(595, "No route to host")
                return handler(self.fake, call)
        raise Refusal(501, f"Method '{call.method} {call.path}' not implemented")

    def _authenticate(self) -> str:
        match = re.fullmatch(
            r"PVEAPIToken[= ]([^=\s]+)=(\S+)", self.headers.get("Authorization", "")
        )
        if match is None:
            raise Refusal(401, "No ticket")
        token = self.fake.access.tokens.get(match[1])
        expired = token is not None and token.expire and token.expire < self.fake.now()
        if token is None or token.secret != match[2] or expired:
            raise Refusal(401, "Authentication failed!")
        return match[1]

    def _receive(self, call: Call, storage: str, length: int) -> None:
        """Stream an upload to /var/tmp; the right to it is checked before, the rest after."""
        self.close_connection = True
        if "tmpfilename" in call.params:
            raise Refusal(400, "'tmpfilename' query parameter is not allowed for file uploads")
        self.fake.require(call, f"/storage/{storage}", "Datastore.AllocateTemplate")
        form = re.fullmatch(
            r"multipart/form-data; *boundary=(\S+)", self.headers.get("Content-Type", "")
        )
        if form is None or not length:
            raise Refusal(501, "no multipart upload")
        folder = self.fake.var_tmp(self.fake.receiver)
        handle, name = tempfile.mkstemp(prefix="pveupload-", dir=folder)
        whole = False
        try:
            with open(handle, "wb", buffering=0) as save:  # noqa: PTH123 - a descriptor
                done = proxmox_upload.receive(
                    _Reads(self, length),
                    boundary=form[1].strip('"').encode(),
                    length=length,
                    save=save,
                )
            whole = True
        except proxmox_upload.UploadError as error:
            raise Refusal(500, str(error)) from None
        finally:
            if not whole:
                Path(name).unlink()
        call.params |= done.params
        call.file = Path(name)

    def _sink(self) -> None:
        """Store a plain PUT: what other clients are measured with."""
        left = int(self.headers["Content-Length"])
        if self.headers.get("Expect"):
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        reads = _Reads(self, left)
        with tempfile.TemporaryFile(dir=self.fake.var_tmp(self.fake.receiver)) as save:
            while left:
                data = reads()
                left -= len(data)
                save.write(data)
        self._reply(200, {})

    def _strange(self, fault: tuple[Any, ...] | None) -> bool:
        """Do something odd instead of answering; True when it is done."""
        if fault is None:
            return False
        self.close_connection = True
        match fault:
            case ["reset"]:
                raise ConnectionResetError
            case ["status", status, reason]:
                self._reply(status, {"data": None}, reason=reason)
            case ["text", text]:
                self._raw(text.encode())
            case ["drip", event]:
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                while not event.wait(0.05):
                    self.wfile.write(b"X")
            case ["silence", event]:
                event.wait(20)
            case ["do", action]:
                action(self.fake)
                self.close_connection = False
                return False
            case _:
                raise AssertionError(fault)
        return True

    def _reply(self, status: int, document: Any, *, reason: str = "OK", fault: Any = None) -> None:
        body = json.dumps(document).encode()
        match fault:
            case ["lost"]:
                raise ConnectionResetError
            case ["text", text]:
                body = text.encode()
            case ["truncate"]:
                self._raw(body[: len(body) // 2], length=len(body))
                raise ConnectionResetError
            case _:
                pass
        self._raw(body, status=status, reason=reason)

    def _raw(
        self, body: bytes, *, status: int = 200, reason: str = "OK", length: int | None = None
    ) -> None:
        head = (
            f"HTTP/1.1 {status} {reason.splitlines()[0]}\r\n"
            f"Date: {email.utils.formatdate(self.fake.now(), usegmt=True)}\r\n"
            f"Server: pve-api-daemon/3.0\r\n"
            f"Content-Type: application/json;charset=UTF-8\r\n"
            f"Connection: {'close' if self.close_connection else 'Keep-Alive'}\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
        )
        self.wfile.write(head.encode() + body)
        self.wfile.flush()

    def _abort(self) -> None:
        """End the connection as a crash does: nothing more is sent, not even TLS's goodbye."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.request.shutdown(socket.SHUT_RDWR)


class _Reads:
    """The body of an upload, read by read; the first ones are single TLS records."""

    def __init__(self, proxy: _Proxy, length: int) -> None:
        self._proxy = proxy
        self._left = self._length = length
        self._buffer = bytearray(1024 * 1024)

    def __call__(self) -> bytes:
        self._fault()
        seen = self._length - self._left
        if seen < 256 * 1024:
            data = self._proxy.rfile.read1(min(65536, self._left))
            self._left -= len(data)
            return bytes(data)
        size = min(len(self._buffer), self._left)
        count = self._proxy.rfile.readinto(memoryview(self._buffer)[:size])
        self._left -= count
        return bytes(memoryview(self._buffer)[:count])

    def _fault(self) -> None:
        seen = (self._length - self._left) / self._length
        for point, share in (("body:start", 0.0), ("body:middle", 0.4), ("body:end", 0.9)):
            if seen >= share and self._left:
                fault = self._proxy.fake.fault(point, self._proxy.path)
                if fault == ("reset",):
                    raise ConnectionResetError
                if fault is not None and fault[0] == "refuse":
                    raise Refusal(fault[1], fault[2])
                if fault is not None and fault[0] == "do":
                    fault[1](self._proxy.fake)


@contextlib.contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """Serve *folder* by plain HTTP on loopback, as the host of a public release."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
