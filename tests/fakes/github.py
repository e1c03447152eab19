"""A GitHub that keeps state, behaves like the real one on releases, and misbehaves on demand.

It holds one repository under ``/api/v3`` (uploads under ``/api/uploads``), on loopback. Small
assets are kept, of large ones only size and sha256. With a validator, every request and every
reply is checked against GitHub's published description; what does not fit is in ``violations``.
"""

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

API: Final = "/api/v3"
UPLOADS: Final = "/api/uploads"
TOKEN: Final = "ghs_fixture-token-with-contents-write"  # noqa: S105 - known to this fake only
READ_TOKEN: Final = "ghs_fixture-token-that-may-only-read"  # noqa: S105
REPOSITORY: Final = "acme/images"
KEPT: Final = 1 << 20
_STAMP: Final = "2026-01-01T00:00:00Z"
#: GitHub renames what it does not like in the names of assets.
_RENAMED: Final = re.compile(r"[^A-Za-z0-9._+-]")


class Validator(Protocol):
    """Checks one exchange against a description of the API."""

    def problems(self, exchange: "Exchange") -> list[str]:
        """Return what does not fit."""
        ...


@dataclass(kw_only=True)
class Exchange:
    """One request with its reply, as JSON where it is JSON."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    status: int = 0
    reply: Any = None
    next_page: str = ""

    @property
    def is_upload(self) -> bool:
        return self.path.startswith(UPLOADS)

    @property
    def route(self) -> str:
        """The path as GitHub's description has it, without the prefix of this server."""
        return self.path.removeprefix(API).removeprefix(UPLOADS)


@dataclass(kw_only=True)
class Fault:
    """Something that goes wrong with the first *times* requests of *method* whose path matches.

    ``status`` answers with it. ``after`` carries the request out first, and then answers with the
    status or, where that is 0, breaks the connection: a lost reply. ``at_byte`` breaks an upload
    there. ``slow`` waits that many seconds before the answer. ``leaves`` is the state of the asset
    that a failed upload leaves behind.
    """

    method: str
    path: str
    times: int = 1
    status: int = 0
    message: str = "Server Error"
    headers: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, str]] = field(default_factory=list)
    after: bool = False
    at_byte: int | None = None
    slow: float = 0.0
    leaves: str = ""

    def takes(self, exchange: Exchange) -> bool:
        hit = self.method == exchange.method and re.search(self.path, exchange.path) is not None
        if not hit or self.times <= 0:
            return False
        self.times -= 1
        return True


class _BrokenError(Exception):
    """The connection is to be cut."""


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of the fake
    def __init__(
        self, status: int, message: str, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.document: dict[str, Any] = {
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": str(status),
        }
        if errors is not None:
            self.document["errors"] = errors


@dataclass
class GitHub:
    """The state, the rules, and the record of what was asked. Tests may change all of it."""

    tags: dict[str, str] = field(default_factory=dict)
    releases: dict[int, dict[str, Any]] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    immutable: bool = False
    burned: set[str] = field(default_factory=set)
    protected: str = ""
    digests: bool = True
    faults: list[Fault] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    validator: Validator | None = None
    #: Called when a request has come in and when its reply is about to go out.
    on_request: Callable[[Exchange], None] = lambda _exchange: None
    on_reply: Callable[[Exchange], None] = lambda _exchange: None
    on_body: Callable[[Exchange, int], None] = lambda _exchange, _count: None
    base: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    next_id: int = 1000

    @property
    def api_url(self) -> str:
        return self.base + API

    def environment(self, **more: str) -> dict[str, str]:
        """Return the variables by which a command finds this server."""
        return {
            "GITHUB_API_URL": self.api_url,
            "GITHUB_SERVER_URL": self.base,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_TOKEN": TOKEN,
            **more,
        }

    def of_tag(self, tag: str) -> list[dict[str, Any]]:
        """Return all releases and drafts of *tag*."""
        return [release for release in self.releases.values() if release["tag_name"] == tag]

    def published(self, tag: str) -> dict[str, Any] | None:
        """Return the visible release of *tag*."""
        return next((release for release in self.of_tag(tag) if not release["draft"]), None)

    def add_release(self, tag: str, *, draft: bool = False, body: str = "") -> dict[str, Any]:
        """Put a release there, as if somebody had made it."""
        release = self._new_release({"tag_name": tag, "draft": draft, "body": body, "name": tag})
        if not draft:
            self._make_visible(release, "true")
        return release

    def add_asset(
        self, release: dict[str, Any], name: str, data: bytes, *, state: str = "uploaded"
    ) -> dict[str, Any]:
        """Put an asset there."""
        digest = hashlib.sha256(data).hexdigest()
        asset = self._asset(release, name, size=len(data), digest=digest, state=state)
        self.contents[asset["id"]] = data
        return asset

    def writes(self) -> list[Exchange]:
        """Return the requests that change something."""
        return [
            exchange
            for exchange in self.exchanges
            if exchange.method != "GET" and "generate-notes" not in exchange.path
        ]

    # The rules

    def answer(self, exchange: Exchange) -> tuple[int, Any]:
        """Carry out everything but an upload; return status and document (None: no content)."""
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, exchange.route)
            if match and exchange.method == method:
                self._check_repository(exchange)
                return action(self, exchange, *match.groups())
        raise _Refusal(404, "Not Found")

    def authorize(self, exchange: Exchange) -> None:
        """Refuse unknown tokens, and those that may only read."""
        token = exchange.headers.get("authorization", "").partition(" ")[2]
        if token not in {TOKEN, READ_TOKEN}:
            raise _Refusal(401, "Bad credentials")
        exchange.headers["may-write"] = str(token == TOKEN)
        if exchange.method != "GET" and token == READ_TOKEN:
            raise _Refusal(403, "Resource not accessible by integration")

    def _check_repository(self, exchange: Exchange) -> None:
        if not exchange.route.startswith(f"/repos/{REPOSITORY}/"):
            raise _Refusal(404, "Not Found")

    def _list(self, exchange: Exchange) -> tuple[int, Any]:
        may_write = exchange.headers["may-write"] == "True"
        found = [it for it in self.releases.values() if may_write or not it["draft"]]
        return 200, _page(list(reversed(found)), exchange)

    def _create(self, exchange: Exchange) -> tuple[int, Any]:
        body = exchange.body
        tag = body["tag_name"]
        if tag in self.burned and not body.get("draft"):
            raise _burned()
        if not body.get("draft") and self.published(tag):
            raise _Refusal(422, "Validation Failed", [_problem("already_exists", "tag_name")])
        release = self._new_release(body)
        if not release["draft"]:
            self._make_visible(release, body.get("make_latest", "true"))
        return 201, release

    def _read(self, exchange: Exchange, number: str) -> tuple[int, Any]:
        release = self._release(number)
        if release["draft"] and exchange.headers["may-write"] != "True":
            raise _Refusal(404, "Not Found")
        return 200, release

    def _read_by_tag(self, _exchange: Exchange, tag: str) -> tuple[int, Any]:
        release = self.published(unquote(tag))
        if release is None:
            raise _Refusal(404, "Not Found")
        return 200, release

    def _change(self, exchange: Exchange, number: str) -> tuple[int, Any]:
        release, body = self._release(number), exchange.body
        tag = body.get("tag_name", release["tag_name"])
        if release["immutable"] and tag != release["tag_name"]:
            raise _Refusal(422, "Cannot change the tag of an immutable release")
        becomes_visible = release["draft"] and body.get("draft") is False
        if becomes_visible:
            self._check_visible(tag)
        kept = ("tag_name", "name", "body", "draft", "prerelease", "target_commitish")
        release.update({key: body[key] for key in kept if key in body})
        if becomes_visible:
            self._make_visible(release, body.get("make_latest", "true"))
        return 200, release

    def _delete(self, _exchange: Exchange, number: str) -> tuple[int, Any]:
        del self.releases[self._release(number)["id"]]
        return 204, None

    def _list_assets(self, exchange: Exchange, number: str) -> tuple[int, Any]:
        return 200, _page(self._release(number)["assets"], exchange)

    def _read_asset(self, exchange: Exchange, number: str) -> tuple[int, Any]:
        _, asset = self._find_asset(number)
        if exchange.headers.get("accept") == "application/octet-stream":
            return 200, self.contents[asset["id"]]
        return 200, asset

    def _delete_asset(self, _exchange: Exchange, number: str) -> tuple[int, Any]:
        release, asset = self._find_asset(number)
        if release["immutable"]:
            raise _Refusal(422, "Cannot delete asset from an immutable release")
        release["assets"].remove(asset)
        return 204, None

    def _notes(self, exchange: Exchange) -> tuple[int, Any]:
        body = exchange.body
        previous = body.get("previous_tag_name", "the beginning")
        text = f"## What's Changed\n* from {previous}\n"
        return 200, {"name": body["tag_name"], "body": text}

    def _commit(self, _exchange: Exchange, reference: str) -> tuple[int, Any]:
        tag = unquote(reference).removeprefix("tags/")
        if tag not in self.tags:
            raise _Refusal(422, f"No commit found for SHA: {unquote(reference)}")
        return 200, self._commit_document(self.tags[tag])

    def check_upload(self, exchange: Exchange) -> dict[str, Any]:
        """Check everything GitHub knows before the body has come; return the release."""
        match = re.fullmatch(rf"/repos/{REPOSITORY}/releases/(\d+)/assets", exchange.route)
        if match is None:
            raise _Refusal(404, "Not Found")
        release = self._release(match[1])
        if release["immutable"]:
            raise _Refusal(422, "Cannot upload assets to an immutable release.")
        name = exchange.query.get("name", "")
        if not name or "content-length" not in exchange.headers:
            raise _Refusal(400, "Bad Content-Length")
        if any(asset["name"] == _RENAMED.sub(".", name) for asset in release["assets"]):
            raise _Refusal(
                422, "Validation Failed", [_problem("already_exists", "name", "ReleaseAsset")]
            )
        return release

    def store_upload(
        self, exchange: Exchange, *, size: int, digest: str, data: bytes
    ) -> tuple[int, Any]:
        """Take an asset whose body has come whole."""
        release = self.check_upload(exchange)
        name = _RENAMED.sub(".", exchange.query["name"])
        asset = self._asset(release, name, size=size, digest=digest, state="uploaded")
        self.contents[asset["id"]] = data
        return 201, asset

    def leave_starter(self, exchange: Exchange) -> None:
        """Keep what a broken upload leaves: an asset without content that occupies the name."""
        try:
            release = self.check_upload(exchange)
        except _Refusal:
            return
        name = _RENAMED.sub(".", exchange.query["name"])
        self._asset(release, name, size=0, digest="", state="starter")

    def _check_visible(self, tag: str) -> None:
        if tag in self.burned:
            raise _burned()
        if self.published(tag):
            raise _Refusal(422, "Validation Failed", [_problem("already_exists", "tag_name")])
        if self.protected and re.fullmatch(self.protected, tag) and tag not in self.tags:
            message = "Cannot create ref due to creations being restricted by repository rule."
            raise _Refusal(422, "Validation Failed", [{"code": "custom", "message": message}])

    def _make_visible(self, release: dict[str, Any], make_latest: str) -> None:
        tag = release["tag_name"]
        self.tags.setdefault(tag, release["target_commitish"])
        page = f"{self.base}/{REPOSITORY}/releases/tag/{tag}"
        release.update(published_at=_STAMP, immutable=self.immutable, html_url=page)
        if make_latest == "true" and not release["prerelease"]:
            self.latest = release["id"]

    latest: int = 0

    def _release(self, number: str) -> dict[str, Any]:
        release = self.releases.get(int(number))
        if release is None:
            raise _Refusal(404, "Not Found")
        return release

    def _find_asset(self, number: str) -> tuple[dict[str, Any], dict[str, Any]]:
        for release in self.releases.values():
            for asset in release["assets"]:
                if asset["id"] == int(number):
                    return release, asset
        raise _Refusal(404, "Not Found")

    def _number(self) -> int:
        self.next_id += 1
        return self.next_id

    def _new_release(self, body: dict[str, Any]) -> dict[str, Any]:
        number = self._number()
        url = f"{self.api_url}/repos/{REPOSITORY}/releases/{number}"
        page = f"{self.base}/{REPOSITORY}/releases"
        upload_url = f"{self.base}{UPLOADS}{url.removeprefix(self.api_url)}/assets"
        draft = bool(body.get("draft"))
        release: dict[str, Any] = {
            "url": url,
            "assets_url": f"{url}/assets",
            "upload_url": upload_url + "{?name,label}",
            "html_url": f"{page}/tag/{'untagged-' + str(number) if draft else body['tag_name']}",
            "id": number,
            "node_id": f"RE_{number}",
            "author": self._user(),
            "tag_name": body["tag_name"],
            "target_commitish": body.get("target_commitish", "main"),
            "name": body.get("name"),
            "body": body.get("body"),
            "draft": draft,
            "prerelease": bool(body.get("prerelease")),
            "immutable": False,
            "created_at": _STAMP,
            "published_at": None,
            "tarball_url": None,
            "zipball_url": None,
            "assets": [],
        }
        self.releases[number] = release
        return release

    def _asset(
        self, release: dict[str, Any], name: str, *, size: int, digest: str, state: str
    ) -> dict[str, Any]:
        number = self._number()
        asset = {
            "url": f"{self.api_url}/repos/{REPOSITORY}/releases/assets/{number}",
            "browser_download_url": f"{self.base}/{REPOSITORY}/releases/download/{name}",
            "id": number,
            "node_id": f"RA_{number}",
            "name": name,
            "label": "",
            "state": state,
            "content_type": "application/octet-stream",
            "size": size,
            "digest": f"sha256:{digest}" if digest and self.digests else None,
            "download_count": 0,
            "created_at": _STAMP,
            "updated_at": _STAMP,
            "uploader": self._user(),
        }
        release["assets"].append(asset)
        return asset

    def _user(self) -> dict[str, Any]:
        links = (
            "avatar_url events_url followers_url following_url gists_url html_url"
            " organizations_url received_events_url repos_url starred_url subscriptions_url url"
        )
        document: dict[str, Any] = dict.fromkeys(links.split(), f"{self.base}/users/bot")
        identity = {"login": "bot", "id": 1, "node_id": "U_1", "type": "Bot", "site_admin": False}
        return document | identity | {"gravatar_id": ""}

    def _commit_document(self, sha: str) -> dict[str, Any]:
        url = f"{self.api_url}/repos/{REPOSITORY}/commits/{sha}"
        person = {"name": "A", "email": "a@example.org", "date": _STAMP}
        commit = {
            "url": url,
            "author": person,
            "committer": person,
            "message": "A commit",
            "comment_count": 0,
            "tree": {"sha": sha, "url": url},
            "verification": {
                "verified": False,
                "reason": "unsigned",
                "payload": None,
                "signature": None,
                "verified_at": None,
            },
        }
        return {
            "url": url,
            "sha": sha,
            "node_id": "C_1",
            "html_url": url,
            "comments_url": url,
            "commit": commit,
            "author": None,
            "committer": None,
            "parents": [],
        }


_Action = Callable[..., tuple[int, Any]]
_REPO: Final = r"/repos/[^/]+/[^/]+"
_ROUTES: Final[tuple[tuple[str, str, _Action], ...]] = (
    ("GET", rf"{_REPO}/releases", GitHub._list),
    ("POST", rf"{_REPO}/releases", GitHub._create),
    ("POST", rf"{_REPO}/releases/generate-notes", GitHub._notes),
    ("GET", rf"{_REPO}/releases/tags/([^/]+)", GitHub._read_by_tag),
    ("GET", rf"{_REPO}/releases/assets/(\d+)", GitHub._read_asset),
    ("DELETE", rf"{_REPO}/releases/assets/(\d+)", GitHub._delete_asset),
    ("GET", rf"{_REPO}/releases/(\d+)/assets", GitHub._list_assets),
    ("GET", rf"{_REPO}/releases/(\d+)", GitHub._read),
    ("PATCH", rf"{_REPO}/releases/(\d+)", GitHub._change),
    ("DELETE", rf"{_REPO}/releases/(\d+)", GitHub._delete),
    ("GET", rf"{_REPO}/commits/(.+)", GitHub._commit),
)


def _problem(code: str, name: str, resource: str = "Release") -> dict[str, str]:
    return {"resource": resource, "code": code, "field": name}


def _burned() -> _Refusal:
    message = "tag_name was used by an immutable release"
    return _Refusal(422, "Validation Failed", [{"code": "custom", "message": message}])


def _page(items: list[Any], exchange: Exchange) -> list[Any]:
    """Return the page that was asked for, and link to the next one if there is one."""
    size = int(exchange.query.get("per_page", "30"))
    number = int(exchange.query.get("page", "1"))
    if len(items) > number * size:
        exchange.next_page = f"?per_page={size}&page={number + 1}"
    return items[(number - 1) * size : number * size]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer: two would wait 40 ms for each other (Nagle and delayed ACK).
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Stay quiet; ``exchanges`` is the log."""

    def _serve(self) -> None:
        github = self.server.github
        exchange = self._exchange(github)
        try:
            github.on_request(exchange)
            fault = next((it for it in github.faults if it.takes(exchange)), None)
            if exchange.is_upload:
                self._upload(github, exchange, fault)
            else:
                self._api(github, exchange, fault)
        except (_BrokenError, ConnectionError, TimeoutError):
            self.close_connection = True
            self._cut()

    def _exchange(self, github: GitHub) -> Exchange:
        parts = urlsplit(self.path)
        exchange = Exchange(
            number=0,
            method=self.command,
            path=parts.path,
            query={name: values[0] for name, values in parse_qs(parts.query).items()},
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        if not exchange.is_upload:
            length = int(exchange.headers.get("content-length", "0"))
            exchange.body = json.loads(self.rfile.read(length)) if length else None
        with github.lock:
            exchange.number = len(github.exchanges) + 1
            github.exchanges.append(exchange)
        return exchange

    def _api(self, github: GitHub, exchange: Exchange, fault: Fault | None) -> None:
        if fault and not fault.after:
            self._fail(fault, exchange)
            return
        with github.lock:
            try:
                github.authorize(exchange)
                status, document = github.answer(exchange)
            except _Refusal as refusal:
                status, document = refusal.status, refusal.document
            data = _encoded(document)
        if fault:
            self._fail(fault, exchange)
            return
        self._reply(github, exchange, status, data)

    def _upload(self, github: GitHub, exchange: Exchange, fault: Fault | None) -> None:
        try:
            with github.lock:
                github.authorize(exchange)
                github.check_upload(exchange)
        except _Refusal as refusal:
            # Like the real one, it answers before it has read the body.
            self.close_connection = True
            self._reply(github, exchange, refusal.status, _encoded(refusal.document))
            self._drain(exchange)
            return
        broken = fault.at_byte if fault else None
        received = self._receive(github, exchange, stop_at=broken)
        if received is None or (fault and not fault.after and broken is None):
            with github.lock:
                if received is None or (fault and fault.leaves):
                    github.leave_starter(exchange)
            if received is None or fault is None:
                raise _BrokenError
            self._fail(fault, exchange)
            return
        size, digest, data = received
        with github.lock:
            try:
                status, document = github.store_upload(
                    exchange, size=size, digest=digest, data=data
                )
            except _Refusal as refusal:
                status, document = refusal.status, refusal.document
        if fault:
            self._fail(fault, exchange)
            return
        self._reply(github, exchange, status, _encoded(document))

    def _receive(
        self, github: GitHub, exchange: Exchange, *, stop_at: int | None
    ) -> tuple[int, str, bytes] | None:
        """Read the body; return None when it ended early, or had to be cut at *stop_at*."""
        length = int(exchange.headers["content-length"])
        digest, kept, count = hashlib.sha256(), bytearray(), 0
        while count < length:
            if stop_at is not None and count >= stop_at:
                return None
            wanted = min(length - count, KEPT, (stop_at or length) - count if stop_at else length)
            try:
                piece = self.rfile.read1(wanted)
            except OSError:
                return None
            if not piece:
                return None
            count += len(piece)
            digest.update(piece)
            if length <= KEPT:
                kept += piece
            github.on_body(exchange, count)
        return count, digest.hexdigest(), bytes(kept)

    def _drain(self, exchange: Exchange) -> None:
        """Take what still comes, for a moment, so that the answer is not lost in a reset."""
        self.connection.settimeout(0.5)
        left = int(exchange.headers.get("content-length", "0"))
        while left > 0:
            try:
                piece = self.rfile.read1(KEPT)
            except OSError:
                return
            if not piece:
                return
            left -= len(piece)

    def _fail(self, fault: Fault, exchange: Exchange) -> None:
        time.sleep(fault.slow)
        if not fault.status:
            raise _BrokenError
        document: dict[str, Any] = {"message": fault.message}
        if fault.errors:
            document["errors"] = fault.errors
        exchange.status = fault.status
        self._send(fault.status, json.dumps(document).encode(), fault.headers)

    def _reply(self, github: GitHub, exchange: Exchange, status: int, data: bytes) -> None:
        exchange.status = status
        is_file = exchange.headers.get("accept") == "application/octet-stream"
        exchange.reply = None if is_file else _decoded(data)
        with github.lock:
            if github.validator is not None:
                github.violations += github.validator.problems(exchange)
        github.on_reply(exchange)
        links = {}
        if exchange.next_page:
            url = f"{github.base}{exchange.path}{exchange.next_page}"
            links["Link"] = f'<{url}>; rel="next"'
        self._send(status, data, links)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def _cut(self) -> None:
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _encoded(document: Any) -> bytes:
    if document is None:
        return b""
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    github: GitHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that dies is what this server is for."""


@contextmanager
def running(
    github: GitHub | None = None, *, validator: Validator | None = None
) -> Iterator[GitHub]:
    """Serve *github* (or a new one) on a free port of loopback for the block."""
    github = github or GitHub()
    github.validator = validator
    server = _Server(("127.0.0.1", 0), _Handler)
    server.github = github
    github.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
    )
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
