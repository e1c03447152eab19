"""Coder's REST API, as far as pushing templates needs it, with errors in people's words.

https://coder.com/docs/reference/api
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import quote

from hakim_actions.errors import TemplateError
from hakim_actions.system.http import Answer, Deadline, Http, HttpError
from hakim_actions.system.tls import Trust

#: Statuses of a job that still runs; https://coder.com/docs/reference/api/schemas
RUNNING: Final = frozenset({"pending", "running", "canceling"})


class CoderError(TemplateError):
    """Coder refused a request; *status* is None when there was no answer."""

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        """Keep *status* beside the message."""
        super().__init__(message, hint=hint)
        self.status = status


class _NoRedirects(Http):
    """A client that stays where it is: a redirect would take the session token to another host."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._client.follow_redirects = False


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a template and the job that imports it."""

    id: str
    template_id: str
    name: str
    message: str
    status: str
    error: str
    error_code: str
    file_id: str
    tags: Mapping[str, str]
    provisioners: int | None
    available: int | None
    archived: bool
    created_at: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Read a TemplateVersion."""
        job = document["job"]
        matched = document.get("matched_provisioners") or {}
        return cls(
            id=document["id"],
            template_id=document.get("template_id") or "",
            name=document["name"],
            message=document.get("message") or "",
            status=job["status"],
            error=job.get("error") or "",
            error_code=job.get("error_code") or "",
            file_id=job.get("file_id") or "",
            # Coder sets these two itself.
            tags={k: v for k, v in (job.get("tags") or {}).items() if k not in {"owner", "scope"}},
            provisioners=matched.get("count"),
            available=matched.get("available"),
            archived=bool(document.get("archived")),
            created_at=document.get("created_at") or "",
        )


@dataclass(frozen=True, kw_only=True)
class RemoteTemplate:
    """A template as Coder has it."""

    id: str
    name: str
    active_version_id: str


@dataclass(frozen=True, kw_only=True)
class RemoteVariable:
    """A variable of a version; the value of a sensitive one comes back empty."""

    name: str
    value: str
    default: str
    required: bool
    sensitive: bool


@dataclass(kw_only=True)
class Coder:
    """A Coder server; use as a context manager. All requests together end by *deadline*."""

    url: str
    token: str = field(repr=False)
    trust: Trust = field(default_factory=Trust)
    deadline: Deadline = field(default_factory=lambda: Deadline(900))

    def __enter__(self) -> Self:
        """Open the connection pool."""
        self._http = _NoRedirects(
            headers={"Coder-Session-Token": self.token, "Accept": "application/json"},
            trust=self.trust,
            deadline=self.deadline,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._http.__exit__()

    def server_version(self) -> str:
        """Return the version of the server; proves that there is one."""
        return str(self._get("/buildinfo", "the server's version").get("version", "unknown"))

    def user(self) -> str:
        """Return the name of the token's owner; proves the token."""
        return str(self._get("/users/me", "the owner of the token")["username"])

    def organization(self, name: str) -> str:
        """Return the id of the organization *name*, or of the only one when it is empty."""
        if name:
            what = f"organization '{name}'"
            return str(self._get(f"/organizations/{quote(name, safe='')}", what)["id"])
        mine = self._get("/users/me/organizations", "the organizations of the token's owner")
        if len(mine) == 1:
            return str(mine[0]["id"])
        names = ", ".join(sorted(organization["name"] for organization in mine))
        msg = f"The token's owner is in {len(mine)} organizations: {names}."
        raise CoderError(msg, hint="Name one with --organization or CODER_ORGANIZATION.")

    def template(self, organization: str, name: str) -> RemoteTemplate | None:
        """Return the template *name*, or None when there is none that the token may see."""
        try:
            found = self._get(
                f"/organizations/{organization}/templates/{name}", f"template '{name}'"
            )
        except CoderError as error:
            if error.status == 404:
                return None
            raise
        return RemoteTemplate(
            id=found["id"], name=found["name"], active_version_id=found["active_version_id"]
        )

    def version(self, version_id: str) -> Version:
        """Return a version by its id."""
        return Version.read(self._get(f"/templateversions/{version_id}", "a template version"))

    def version_named(self, template_id: str, name: str) -> Version:
        """Return a template's version by its name."""
        path = f"/templates/{template_id}/versions/{quote(name, safe='')}"
        return Version.read(self._get(path, f"version '{name}'"))

    def versions(self, template_id: str) -> list[Version]:
        """Return all versions of a template that are not archived, the newest first."""
        found: list[Version] = []
        while True:
            path = f"/templates/{template_id}/versions?limit=50&offset={len(found)}"
            page = [Version.read(item) for item in self._get(path, "the versions of a template")]
            found += page
            if len(page) < 50:
                return sorted(found, key=lambda version: version.created_at, reverse=True)

    def variables(self, version_id: str) -> list[RemoteVariable]:
        """Return the variables of a version whose import is over."""
        found = self._get(f"/templateversions/{version_id}/variables", "the variables of a version")
        return [
            RemoteVariable(
                name=item["name"],
                value=item.get("value") or "",
                default=item.get("default_value") or "",
                required=bool(item.get("required")),
                sensitive=bool(item.get("sensitive")),
            )
            for item in found
        ]

    def logs(self, version_id: str, after: int) -> list[tuple[int, str]]:
        """Return (id, line) of what the import logged after the line with the id *after*."""
        # Never with `follow`: its mere presence makes the server speak WebSocket.
        found = self._get(
            f"/templateversions/{version_id}/logs?after={after}", "the logs of an import"
        )
        return [(item["id"], item.get("output") or item.get("stage") or "") for item in found]

    def upload(self, data: bytes) -> str:
        """Upload a tar and return the id of the file; the same bytes are the same file."""
        answer = self._call(
            "POST",
            "/files",
            "the upload",
            content=data,
            headers={"Content-Type": "application/x-tar"},
            retry=True,
        )
        return str(answer["hash"])  # so called, and yet an id

    def create_version(
        self,
        organization: str,
        *,
        name: str,
        message: str,
        file_id: str,
        template_id: str = "",
        variables: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> Version:
        """Create a version, inactive; a name that is taken is a CoderError with status 409."""
        body: dict[str, Any] = {
            "name": name,
            "message": message,
            "storage_method": "file",
            "file_id": file_id,
            "provisioner": "terraform",
            "tags": dict(tags),
            "user_variable_values": [
                {"name": key, "value": value} for key, value in sorted(variables.items())
            ],
        }
        if template_id:
            body["template_id"] = template_id
        path = f"/organizations/{organization}/templateversions"
        return Version.read(self._call("POST", path, f"version '{name}'", json_body=body))

    def create_template(
        self, organization: str, *, name: str, version_id: str, about: Mapping[str, str]
    ) -> RemoteTemplate:
        """Create a template with a first, active version."""
        body = {"name": name, "template_version_id": version_id, **about}
        path = f"/organizations/{organization}/templates"
        made = self._call("POST", path, f"template '{name}'", json_body=body)
        return RemoteTemplate(
            id=made["id"], name=made["name"], active_version_id=made["active_version_id"]
        )

    def delete_template(self, template: RemoteTemplate) -> None:
        """Delete a template; Coder refuses while it has workspaces."""
        self._call("DELETE", f"/templates/{template.id}", f"template '{template.name}'")

    def activate(self, template: RemoteTemplate, version_id: str) -> None:
        """Make a version the one that new workspaces get."""
        body = {"id": version_id}
        what = f"the active version of '{template.name}'"
        self._call("PATCH", f"/templates/{template.id}/versions", what, json_body=body, retry=True)

    def cancel(self, version_id: str) -> None:
        """Stop an import."""
        self._call("PATCH", f"/templateversions/{version_id}/cancel", "an import")

    def archive(self, version_id: str) -> None:
        """Archive a version that nothing uses."""
        self._call("POST", f"/templateversions/{version_id}/archive", "a template version")

    def _get(self, path: str, what: str) -> Any:
        return self._call("GET", path, what)

    def _call(self, method: str, path: str, what: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, f"{self.url.rstrip('/')}/api/v2{path}", **options)
        except HttpError as error:
            raise self._explained(error, what) from None
        return self._parsed(answer)

    def _parsed(self, answer: Answer) -> Any:
        if 300 <= answer.status < 400 and answer.status != 304:
            target = answer.headers.get("location", "another address")
            msg = f"{self.url} sends requests on to {target}, where the token must not go."
            raise CoderError(msg, hint="Set CODER_URL to the address that Coder itself uses.")
        if not answer.body:
            return {}
        if "html" in answer.headers.get("content-type", "") or answer.body.lstrip()[:1] == b"<":
            msg = f"{self.url} answered with a web page instead of Coder's API."
            raise CoderError(
                msg, hint="Check CODER_URL; is there a login page or a proxy in front of Coder?"
            )
        try:
            return answer.json()
        except HttpError as error:
            raise CoderError(error.message, hint=error.hint) from None

    def _explained(self, error: HttpError, what: str) -> CoderError:
        said = _said(error.body)
        status = error.status
        if status is None:
            return CoderError(f"Coder cannot be reached: {error.message}", hint=error.hint)
        if error.body.lstrip().startswith("<"):
            msg = f"{self.url} answered {status} with a web page instead of Coder's API."
            return CoderError(
                msg, hint="Check CODER_URL, and what stands in front of Coder.", status=status
            )
        message, hint = _EXPLAINED.get(status, ("Coder refuses {what}: {said}", ""))
        if status == 500 and _is_name_conflict(error.body):
            status = 409  # as servers before 2.20 say it
        elif status == 500 and "workspace tags" in error.body:
            message, hint = "Coder cannot read the Terraform files for {what}: {said}", _VALIDATE
        return CoderError(
            message.format(what=what, said=said or f"status {status}"), hint=hint, status=status
        )


_VALIDATE: Final = "Run 'hakim-actions validate-templates'; it finds the place."

#: Status → (message, hint).
_EXPLAINED: Final = {
    401: (
        "Coder does not accept the session token.",
        "It is wrong or has expired: make one with 'coder tokens create --lifetime 8760h'.",
    ),
    403: (
        "Coder does not allow this for {what}: {said}",
        "The token's owner needs the role Template Admin.",
    ),
    404: (
        "Coder does not know {what}, or the token's owner may not see it.",
        "Coder answers both alike: check the name, and that the owner is Template Admin there.",
    ),
    413: (
        "The upload is larger than something in front of Coder allows: {said}",
        "Look at the proxy.",
    ),
    429: (
        "Coder takes no more requests for now: {said}",
        "Uploads are limited to 12 a minute for each user; try again in a minute.",
    ),
}


def _said(body: str) -> str:
    """Return what an error document of Coder says, in one line."""
    try:
        document = json.loads(body)
        parts = [document["message"], document.get("detail") or ""]
        parts += [f"{v['field']}: {v['detail']}" for v in document.get("validations") or ()]
    except (ValueError, KeyError, TypeError):
        return " ".join(body.split())[:300]
    return _joined(parts)


def _joined(parts: Iterable[str]) -> str:
    return " ".join(" ".join(part.split()) for part in parts if part)[:1000]


def _is_name_conflict(body: str) -> bool:
    return "unique constraint" in body or "duplicate key" in body
