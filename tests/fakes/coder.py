"""A Coder server with the rules that pushing templates meets.

Statuses, texts and limits are those of coderd (https://github.com/coder/coder, coderd/): files by
content, names once per template, Terraform read at creation, imports that take their time.
"""

import hashlib
import io
import json
import re
import tarfile
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

TOKEN: Final = "abcdefghij-0123456789abcdefghij01"  # noqa: S105
_VERSION_NAME: Final = re.compile(r"[a-zA-Z0-9]+(?:[_.-]{1}[a-zA-Z0-9]+)*")
_TEMPLATE_NAME: Final = re.compile(r"[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")
_VARIABLE: Final = re.compile(r'^variable\s+"(\w+)"\s*\{(.*?)^\}', re.MULTILINE | re.DOTALL)
_NOT_FOUND: Final = "Resource not found or you do not have access to this resource"


class ApiError(Exception):
    """An answer with this status and body."""

    def __init__(self, status: int, message: str, detail: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, **({"detail": detail} if detail else {}), **more}


@dataclass
class Raw:
    """An answer that is not Coder's: a proxy's page, a redirect, a limit."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Version:
    id: str
    name: str
    message: str
    file_id: str
    template_id: str
    values: dict[str, str]
    tags: dict[str, str]
    steps: list[str]
    number: int
    error: str = ""
    error_code: str = ""
    archived: bool = False
    variables: list[dict[str, Any]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.steps[0]


@dataclass
class Template:
    id: str
    name: str
    active_version_id: str
    about: dict[str, Any]


class FakeCoder:
    """The state of a server; ``writes`` counts what is not a GET, ``faults`` replace answers."""

    def __init__(self) -> None:
        self.organizations = {"default": str(uuid.UUID(int=1))}
        self.files: dict[str, bytes] = {}
        self.versions: dict[str, Version] = {}
        self.templates: dict[str, Template] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[tuple[str, str, Callable[[], Raw | ApiError], int]] = []
        self.provisioners: tuple[int, int] = (1, 1)
        self.import_steps = ["pending", "running", "succeeded"]
        self.break_import: Callable[[Version], None] = lambda _version: None
        self.uploads_left = 12
        self.agents: list[tuple[str, str, str]] = []
        self.agent = b"#!/bin/sh\n"
        self.url = ""

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [request for request in self.requests if request[0] != "GET"]

    def fault(
        self, method: str, path: str, answer: Raw | ApiError, *, skip: int = 0, times: int = 1
    ) -> None:
        """Answer requests that match *path* (a regular expression) with *answer*."""
        self.faults += [(method, path, lambda: answer, skip if n == 0 else 0) for n in range(times)]

    def active(self, name: str) -> Version:
        """Return the active version of a template."""
        return self.versions[
            next(t for t in self.templates.values() if t.name == name).active_version_id
        ]

    # -- requests --

    def handle(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> Any:
        for pattern, action in self._routes(method):
            match = re.fullmatch(pattern, path)
            if match:
                arguments = match.groups()
                if method == "GET":
                    return 200, action(query, *arguments)
                return action(body, kind, *arguments)
        raise ApiError(404, "Route not found.")

    def _routes(self, method: str) -> list[tuple[str, Callable[..., Any]]]:
        part = r"([^/]+)"
        routes: dict[str, list[tuple[str, Callable[..., Any]]]] = {
            "GET": [
                ("/buildinfo", lambda _q: {"version": "v2.37.1+abc123"}),
                ("/users/me", lambda _q: {"id": "u", "username": "ci"}),
                ("/users/me/organizations", self._my_organizations),
                (f"/organizations/{part}", self._organization),
                (f"/organizations/{part}/templates/{part}", self._template),
                (
                    f"/templateversions/{part}",
                    lambda _q, v: self._shown(self._advance(self._version(v))),
                ),
                (f"/templateversions/{part}/variables", self._variables),
                (f"/templateversions/{part}/logs", self._logs),
                (f"/templates/{part}/versions", self._versions),
                (f"/templates/{part}/versions/{part}", self._version_named),
            ],
            "POST": [
                ("/files", self._upload),
                (f"/organizations/{part}/templateversions", self._create_version),
                (f"/organizations/{part}/templates", self._create_template),
                (f"/templateversions/{part}/archive", self._archive),
            ],
            "PATCH": [
                (f"/templates/{part}/versions", self._activate),
                (f"/templateversions/{part}/cancel", self._cancel),
            ],
            "DELETE": [(f"/templates/{part}", self._delete_template)],
        }
        return routes.get(method, [])

    def _my_organizations(self, query: dict[str, str]) -> list[dict[str, str]]:
        return [{"id": id_, "name": name} for name, id_ in self.organizations.items()]

    def _organization(self, query: dict[str, str], name: str) -> dict[str, str]:
        for known, id_ in self.organizations.items():
            if name in {known, id_}:
                return {"id": id_, "name": known}
        raise ApiError(404, _NOT_FOUND)

    def _template(self, query: dict[str, str], organization: str, name: str) -> dict[str, Any]:
        for template in self.templates.values():
            if template.name == name:
                return _shown_template(template)
        raise ApiError(404, _NOT_FOUND)

    def _version(self, id_: str) -> Version:
        if id_ not in self.versions:
            raise ApiError(404, _NOT_FOUND)
        return self.versions[id_]

    def _advance(self, version: Version) -> Version:
        """An import goes on between two looks at it."""
        if len(version.steps) > 1:
            version.steps.pop(0)
            version.logs.append(f"Terraform: {version.status}")
            if version.status == "succeeded":
                self.break_import(version)
                self._require_variables(version)
        return version

    def _require_variables(self, version: Version) -> None:
        missing = [v["name"] for v in version.variables if v["required"] and not v["value"]]
        if missing:
            version.steps = ["failed"]
            version.error_code = "REQUIRED_TEMPLATE_VARIABLES"
            version.error = f"required template variables need values: {', '.join(missing)}"

    def _shown(self, version: Version) -> dict[str, Any]:
        count, available = self.provisioners
        return {
            "id": version.id,
            "template_id": version.template_id or None,
            "name": version.name,
            "message": version.message,
            "created_at": f"2026-01-01T00:00:{version.number:06d}Z",
            "archived": version.archived,
            "matched_provisioners": {"count": count, "available": available},
            "job": {
                "id": version.id,
                "status": version.status,
                "file_id": version.file_id,
                "tags": {"owner": "", "scope": "organization", **version.tags},
                **({"error": version.error} if version.error else {}),
                **({"error_code": version.error_code} if version.error_code else {}),
            },
        }

    def _variables(self, query: dict[str, str], id_: str) -> list[dict[str, Any]]:
        version = self._version(id_)
        if version.status in {"pending", "running"}:
            raise ApiError(403, "Job hasn't completed!")
        return [{**v, "value": "" if v["sensitive"] else v["value"]} for v in version.variables]

    def _logs(self, query: dict[str, str], id_: str) -> list[dict[str, Any]]:
        if "follow" in query:
            raise ApiError(426, "WebSocket upgrade required.")
        after = int(query.get("after", 0))
        lines = enumerate(self._version(id_).logs, start=1)
        return [{"id": n, "output": text, "stage": "Import"} for n, text in lines if n > after]

    def _versions(self, query: dict[str, str], template: str) -> list[dict[str, Any]]:
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", 0)) or None
        found = [v for v in self.versions.values() if v.template_id == template and not v.archived]
        end = offset + limit if limit else None
        return [self._shown(v) for v in found[offset:end]]

    def _version_named(self, query: dict[str, str], template: str, name: str) -> dict[str, Any]:
        for version in self.versions.values():
            if version.template_id == template and version.name == name:
                return self._shown(version)
        raise ApiError(404, _NOT_FOUND)

    # -- writes --

    def _upload(self, body: bytes, kind: str) -> tuple[int, Any]:
        if self.uploads_left <= 0:
            raise ApiError(
                429, "You've been rate limited for sending more than 12 requests in 1m0s."
            )
        self.uploads_left -= 1
        if kind != "application/x-tar":
            raise ApiError(400, f'Unsupported content type header "{kind}".')
        id_ = str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(body).hexdigest()))
        status = 200 if id_ in self.files else 201
        self.files[id_] = body
        return status, {"hash": id_}

    def _create_version(self, body: bytes, kind: str, organization: str) -> tuple[int, Any]:
        wanted = json.loads(body)
        name, template = wanted["name"], wanted.get("template_id", "")
        if not _VERSION_NAME.fullmatch(name) or len(name) > 64:
            detail = f'Validation failed for tag "template_version_name" with value: "{name}"'
            raise ApiError(
                400, "Validation failed.", validations=[{"field": "name", "detail": detail}]
            )
        if template and any(
            v.template_id == template and v.name == name for v in self.versions.values()
        ):
            detail = "This value is already in use and should be unique."
            raise ApiError(
                409,
                f'A template version with name "{name}" already exists for this template.',
                validations=[{"field": "name", "detail": detail}],
            )
        sources = self._sources(self.files[wanted["file_id"]])
        values = {item["name"]: item["value"] for item in wanted["user_variable_values"]}
        version = Version(
            id=str(uuid.uuid4()),
            name=name,
            message=wanted["message"],
            file_id=wanted["file_id"],
            template_id=template,
            values=values,
            tags=wanted["tags"],
            steps=list(self.import_steps),
            number=len(self.versions),
            variables=list(_variables(sources, values)),
        )
        self.versions[version.id] = version
        return 201, self._shown(version)

    def _sources(self, data: bytes) -> str:
        """Read the .tf files at the top, as coderd does for workspace tags."""
        with tarfile.open(fileobj=io.BytesIO(data), format=tarfile.USTAR_FORMAT) as archive:
            members = archive.getmembers()
            assert not any(member.pax_headers for member in members), "pax headers break coderd"
            texts = [
                (member.name, (archive.extractfile(member) or io.BytesIO()).read().decode())
                for member in members
                if member.isfile() and "/" not in member.name and member.name.endswith(".tf")
            ]
        for name, text in texts:
            if text.count("{") != text.count("}"):
                detail = f"parse module: {name}:1,1-2: Unclosed configuration block"
                raise ApiError(500, "Internal error checking workspace tags", detail)
        return "\n".join(text for _, text in texts)

    def _create_template(self, body: bytes, kind: str, organization: str) -> tuple[int, Any]:
        wanted = json.loads(body)
        name = wanted["name"]
        if not _TEMPLATE_NAME.fullmatch(name) or len(name) > 32:
            raise ApiError(400, "Validation failed.")
        if len(wanted.get("description", "").encode()) >= 128:
            raise ApiError(
                400,
                "Validation failed.",
                validations=[{"field": "description", "detail": "lt=128"}],
            )
        if any(template.name == name for template in self.templates.values()):
            raise ApiError(409, f'Template with name "{name}" already exists.')
        version = self._version(wanted["template_version_id"])
        template = Template(str(uuid.uuid4()), name, version.id, wanted)
        version.template_id = template.id
        self.templates[template.id] = template
        return 201, _shown_template(template)

    def _activate(self, body: bytes, kind: str, template: str) -> tuple[int, Any]:
        version = self.versions.get(json.loads(body)["id"])
        if version is None:
            raise ApiError(404, "Template version not found.")
        if version.template_id != template:
            raise ApiError(
                400, "The provided template version doesn't belong to the specified template."
            )
        if version.archived:
            raise ApiError(400, "The provided template version is archived.")
        if version.status != "succeeded":
            raise ApiError(403, "Only versions that have been built successfully can be promoted.")
        self.templates[template].active_version_id = version.id
        return 200, {"message": "Updated the active template version!"}

    def _archive(self, body: bytes, kind: str, id_: str) -> tuple[int, Any]:
        version = self._version(id_)
        if version.archived:
            raise ApiError(400, "Template version already archived")
        if any(template.active_version_id == id_ for template in self.templates.values()):
            raise ApiError(500, "Unable to archive specified version, the version is likely in use")
        version.archived = True
        return 200, id_

    def _cancel(self, body: bytes, kind: str, id_: str) -> tuple[int, Any]:
        version = self._version(id_)
        if version.status not in {"pending", "running"}:
            raise ApiError(400, "Job has already completed!")
        version.steps = ["canceled"]
        return 200, {"message": "Job has been marked as canceled..."}

    def _delete_template(self, body: bytes, kind: str, id_: str) -> tuple[int, Any]:
        if id_ not in self.templates:
            raise ApiError(404, _NOT_FOUND)
        del self.templates[id_]
        return 200, {"message": "Template has been deleted!"}


def _variables(sources: str, values: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, body in _VARIABLE.findall(sources):
        default = re.search(r'^\s*default\s*=\s*"?(.*?)"?$', body, re.MULTILINE)
        yield {
            "name": name,
            "value": values.get(name) or (default[1] if default else ""),
            "default_value": default[1] if default else "",
            "required": default is None,
            "sensitive": re.search(r"^\s*sensitive\s*=\s*true", body, re.MULTILINE) is not None,
        }


def _shown_template(template: Template) -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "active_version_id": template.active_version_id,
    }


class _Handler(BaseHTTPRequestHandler):
    fake: FakeCoder
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def _call(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Coder-Session-Token", "")
        if not url.path.startswith("/api/v2/"):
            self._agent(url)
            return
        path = url.path.removeprefix("/api/v2")
        self.fake.requests.append((self.command, path))
        answer = self._fault(path)
        try:
            if isinstance(answer, Raw):
                self._answer(answer.status, answer.body, answer.headers)
                return
            if isinstance(answer, ApiError):
                raise answer
            if token != TOKEN and path != "/buildinfo":
                raise ApiError(401, "You are signed out or your session has expired.")  # noqa: TRY301
            query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
            kind = self.headers.get("Content-Type", "")
            status, document = self.fake.handle(self.command, path, query, body, kind)
            self._json(status, document)
        except ApiError as error:
            self._json(error.status, error.body)

    do_GET = do_POST = do_PATCH = do_DELETE = _call  # noqa: N815

    def _fault(self, path: str) -> Raw | ApiError | None:
        for number, (method, pattern, answer, skip) in enumerate(self.fake.faults):
            if method == self.command and re.fullmatch(pattern, path):
                if skip:
                    self.fake.faults[number] = (method, pattern, answer, skip - 1)
                    return None
                del self.fake.faults[number]
                return answer()
        return None

    def _agent(self, url: urllib.parse.SplitResult) -> None:
        """What a workspace's agent asks: its own program, and to be let in."""
        if url.path.startswith("/bin/coder-linux-"):
            etag = f'"{hashlib.sha256(self.fake.agent).hexdigest()}"'
            if self.headers.get("If-None-Match") == etag:
                self._answer(304, b"", {"ETag": etag})
            else:
                self._answer(200, self.fake.agent, {"ETag": etag})
            return
        self.fake.agents.append((url.path, url.query, self.headers.get("Coder-Session-Token", "")))
        self._json(200, {})

    def _json(self, status: int, document: Any) -> None:
        self._answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def serving(fake: FakeCoder) -> Iterator[FakeCoder]:
    """Serve *fake* on a free port of 127.0.0.1 for the block; its address is in ``fake.url``."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    with running(server):
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield fake


def handler_for(fake: FakeCoder) -> type[BaseHTTPRequestHandler]:
    """Return the handler class, for a server that is made elsewhere."""
    return type("Handler", (_Handler,), {"fake": fake})


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[None]:
    """Run *server* beside the block."""
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
