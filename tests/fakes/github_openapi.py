"""GitHub's own description of its API, from npm, to hold requests and the fake's replies against.

The package is fetched once through the npm client (so from whatever registry it is set up for),
checked against the integrity below, and kept in ``.cache``; only the few paths we use are kept.
"""

import base64
import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

import jsonschema
from fakes.github import Exchange

PACKAGE: Final = "@octokit/openapi"
VERSION: Final = "23.0.2"
INTEGRITY: Final = (
    "sha512-pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5e"
    "ZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=="
)
_CACHE: Final = Path(__file__).resolve().parents[2] / ".cache" / "github-openapi"
_MEMBER: Final = "package/generated/api.github.com.json"
_WANTED: Final = re.compile(r"/repos/\{owner\}/\{repo\}/(releases(/.*)?|commits/\{ref\})")
#: Where the description is narrower than the server: (schema, property) → what it says besides.
#: A cut upload leaves state "starter": https://docs.github.com/rest/releases/assets
_WIDER: Final = {("release-asset", "state"): ["starter"]}


class UnavailableError(Exception):
    """There is no npm here, and nothing in the cache."""


class Description:
    """The part of the description that is about releases, ready to check exchanges."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Take a reduced description."""
        self._document = document
        self._paths = [
            (re.compile(re.sub(r"\{ref\}", ".+", re.sub(r"\{(?!ref)\w+\}", "[^/]+", path))), item)
            for path, item in sorted(
                document["paths"].items(), key=lambda entry: "{" in entry[0][-5:]
            )
        ]

    def problems(self, exchange: Exchange) -> list[str]:
        """Return what in request and reply is not as described."""
        label = f"{exchange.method} {exchange.route} → {exchange.status}"
        operation = self._operation(exchange)
        if operation is None:
            return [f"{label}: no such operation"]
        found = [*self._query(operation, exchange), *self._request(operation, exchange)]
        return [f"{label}: {problem}" for problem in [*found, *self._reply(operation, exchange)]]

    def _operation(self, exchange: Exchange) -> dict[str, Any] | None:
        for pattern, item in self._paths:
            if pattern.fullmatch(exchange.route) and exchange.method.lower() in item:
                operation: dict[str, Any] = item[exchange.method.lower()]
                return operation
        return None

    def _query(self, operation: dict[str, Any], exchange: Exchange) -> list[str]:
        parameters = [self._resolved(it) for it in operation.get("parameters", [])]
        known = {it["name"]: it for it in parameters if it["in"] == "query"}
        unknown = [
            f"query parameter {it!r} is unknown" for it in exchange.query.keys() - known.keys()
        ]
        needed = [name for name, it in known.items() if it.get("required")]
        return unknown + [f"query {it!r} is missing" for it in needed if it not in exchange.query]

    def _request(self, operation: dict[str, Any], exchange: Exchange) -> list[str]:
        if exchange.is_upload or exchange.body is None:
            return []
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        unknown = exchange.body.keys() - schema["properties"].keys()
        return [f"unknown field {name!r}" for name in unknown] + self._check(exchange.body, schema)

    def _reply(self, operation: dict[str, Any], exchange: Exchange) -> list[str]:
        if exchange.status in {401, 403}:
            return []  # any operation may answer so; the description does not repeat it
        described = operation["responses"].get(str(exchange.status))
        if described is None:
            # 422 of DELETE on an immutable release and the like: newer than the description.
            return [] if exchange.status == 422 else ["this status is not described"]
        content = self._resolved(described).get("content", {}).get("application/json")
        if content is None or exchange.reply is None:
            return []
        return self._check(exchange.reply, content["schema"])

    def _resolved(self, item: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in item:
            _, _, kind, name = item["$ref"].split("/")
            found: dict[str, Any] = self._document["components"][kind][name]
            return found
        return item

    def _check(self, instance: Any, schema: dict[str, Any]) -> list[str]:
        whole = {**schema, "components": self._document["components"]}
        validator = jsonschema.Draft202012Validator(whole)
        return [
            f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(instance)
        ]


def load() -> Description:
    """Return the description, fetched if need be; raise UnavailableError where that cannot be."""
    kept = _CACHE / f"releases-{VERSION}.json"
    if not kept.is_file():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with (_CACHE / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.is_file():
                _write(kept, _reduced(_fetched()))
    return Description(json.loads(kept.read_text()))


def _fetched() -> dict[str, Any]:
    npm = shutil.which("npm")
    if npm is None:
        msg = "npm is not installed"
        raise UnavailableError(msg)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            msg = f"npm pack failed: {done.stderr.strip()[-200:]}"
            raise UnavailableError(msg)
        package = next(Path(folder).glob("*.tgz"))
        digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        assert f"sha512-{digest}" == INTEGRITY, f"{PACKAGE}@{VERSION} is not what it was"
        with tarfile.open(package) as archive:
            member = archive.extractfile(_MEMBER)
            assert member is not None
            document: dict[str, Any] = json.load(member)
    return document


def _reduced(document: dict[str, Any]) -> dict[str, Any]:
    """Keep the paths we use and what they refer to, as JSON Schema 2020-12 understands it."""
    for (schema, name), values in _WIDER.items():
        document["components"]["schemas"][schema]["properties"][name]["enum"] += values
    paths = {path: item for path, item in document["paths"].items() if _WANTED.fullmatch(path)}
    components: dict[str, dict[str, Any]] = {}
    waiting = [paths]
    while waiting:
        for kind, name in re.findall(r"#/components/(\w+)/([\w.-]+)", json.dumps(waiting.pop())):
            if name not in components.setdefault(kind, {}):
                components[kind][name] = document["components"][kind][name]
                waiting.append(components[kind][name])
    reduced: dict[str, Any] = _nullable({"paths": paths, "components": components})
    return reduced


def _nullable(node: Any) -> Any:
    """Turn OpenAPI 3.0's ``nullable`` into what JSON Schema has for it; drop the examples."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    changed = {
        key: _nullable(value) for key, value in node.items() if key not in {"examples", "example"}
    }
    if changed.get("nullable") is True:
        del changed["nullable"]
        return {"anyOf": [changed, {"type": "null"}]}
    return changed


def _write(path: Path, document: dict[str, Any]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(document))
    temporary.replace(path)
