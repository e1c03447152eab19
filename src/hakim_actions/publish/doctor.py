"""Every precondition of a release on GitHub, and what grants the one that is missing."""

from collections.abc import Iterator, Mapping

from hakim_actions.errors import HakimError
from hakim_actions.publish.github_api import PUBLIC_API
from hakim_actions.system.finding import Finding
from hakim_actions.system.http import Deadline, Http

#: Seconds for all questions together.
_PATIENCE = 30


def findings(env: Mapping[str, str], *, http: Http | None = None) -> Iterator[Finding]:
    """Yield one finding after the other; stops where the next one could not be found out."""
    repository, token = env.get("GITHUB_REPOSITORY", ""), env.get("GITHUB_TOKEN", "")
    yield Finding(
        check="repository",
        ok=bool(repository),
        detail=repository or "GITHUB_REPOSITORY is not set",
        fix=() if repository else ("export GITHUB_REPOSITORY=owner/name",),
    )
    yield Finding(
        check="token",
        ok=bool(token),
        detail="GITHUB_TOKEN is set" if token else "GITHUB_TOKEN is not set",
        fix=() if token else ("# in a workflow: env: GITHUB_TOKEN: ${{ github.token }}",),
    )
    if repository and token:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        api = env.get("GITHUB_API_URL") or PUBLIC_API
        with http or Http(headers=headers, deadline=Deadline(_PATIENCE)) as client:
            yield _right_to_write(client, f"{api}/repos/{repository}")


def _right_to_write(client: Http, url: str) -> Finding:
    """Ask what the token may do in the repository; drafts need the right to push."""
    check = "contents: write"
    try:
        rights = client.get(url).json().get("permissions") or {}
    except HakimError as error:
        fix = ("# check the name, and that the token belongs to this server and may read it",)
        return Finding(check=check, ok=False, detail=error.message, fix=fix)
    if rights.get("push"):
        return Finding(check=check, ok=True, detail="the token may make releases")
    return Finding(
        check=check,
        ok=False,
        detail="the token may not write",
        fix=("# in a workflow: permissions: contents: write", "# a fine-grained token: Contents"),
    )
