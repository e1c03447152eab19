"""Upload $PATHS as the artifact $NAME; with $PATTERN, download what fits it into $PATHS instead.

The requests are those of the real actions: https://github.com/actions/toolkit/tree/main/packages/artifact
"""

import base64
import fnmatch
import io
import json
import os
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

SERVICE = "twirp/github.actions.results.api.v1.ArtifactService"


def backend_ids() -> dict[str, str]:
    """Read from the token which run and job this is: its scope is Actions.Results:RUN:JOB."""
    claims = os.environ["ACTIONS_RUNTIME_TOKEN"].split(".")[1]
    scope = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["scp"]
    run, job = next(s for s in scope.split() if s.startswith("Actions.Results:")).split(":")[1:]
    return {"workflowRunBackendId": run, "workflowJobRunBackendId": job}


def send(method: str, url: str, data: bytes | None, **headers: str) -> bytes:
    request = urllib.request.Request(url, data=data, method=method, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - loopback
        content: bytes = reply.read()
        return content


def call(method: str, /, **fields: Any) -> dict[str, Any]:
    url = f"{os.environ['ACTIONS_RESULTS_URL'].rstrip('/')}/{SERVICE}/{method}"
    token = f"Bearer {os.environ['ACTIONS_RUNTIME_TOKEN']}"
    body = json.dumps({**backend_ids(), **fields}).encode()
    reply = send("POST", url, body, **{"Authorization": token, "Content-Type": "application/json"})
    document: dict[str, Any] = json.loads(reply)
    return document


def zipped(paths: list[Path]) -> bytes:
    """Like the real action: folders are taken whole, but for hidden files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in paths:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file() and not file.name.startswith("."):
                    archive.write(file, file.relative_to(path if path.is_dir() else path.parent))
    return stream.getvalue()


def upload(name: str, paths: list[Path]) -> None:
    content = zipped(paths)
    url = call("CreateArtifact", name=name, version=4)["signedUploadUrl"]
    send("PUT", f"{url}&comp=block&blockid=MA==", content)
    send("PUT", f"{url}&comp=blocklist", b"")
    call("FinalizeArtifact", name=name, size=str(len(content)))


def download(pattern: str, folder: Path) -> None:
    for artifact in call("ListArtifacts").get("artifacts", []):
        name = artifact["name"]
        if fnmatch.fnmatch(name, pattern):
            url = call("GetSignedArtifactURL", name=name)["signedUrl"]
            with zipfile.ZipFile(io.BytesIO(send("GET", url, None))) as archive:
                archive.extractall(folder / name)


if os.environ["PATTERN"]:
    download(os.environ["PATTERN"], Path(os.environ["PATHS"]))
else:
    lines = filter(None, os.environ["PATHS"].splitlines())
    upload(os.environ["NAME"], [Path(line) for line in lines if not line.startswith("!")])
