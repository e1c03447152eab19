"""Every precondition of a push to Coder, and what grants the one that is missing."""

from collections.abc import Iterator, Mapping

from hakim_actions.coder.api import Coder
from hakim_actions.errors import HakimError
from hakim_actions.system.finding import Finding
from hakim_actions.system.http import Deadline

#: Seconds for all questions together.
_PATIENCE = 30


def findings(env: Mapping[str, str]) -> Iterator[Finding]:
    """Yield one finding after the other; stops where the next one could not be found out."""
    url, token = env.get("CODER_URL", ""), env.get("CODER_SESSION_TOKEN", "")
    yield Finding(
        check="address",
        ok=bool(url),
        detail=url or "CODER_URL is not set",
        fix=() if url else ("export CODER_URL=https://coder.example.com",),
    )
    yield Finding(
        check="token",
        ok=bool(token),
        detail="CODER_SESSION_TOKEN is set" if token else "CODER_SESSION_TOKEN is not set",
        fix=() if token else ("coder tokens create --name hakim-actions --lifetime 8760h",),
    )
    if url and token:
        with Coder(url=url, token=token, deadline=Deadline(_PATIENCE)) as coder:
            yield from _server(coder, env.get("CODER_ORGANIZATION", ""))


def _server(coder: Coder, organization: str) -> Iterator[Finding]:
    try:
        yield Finding(check="server", ok=True, detail=f"Coder {coder.server_version()}")
        yield Finding(check="login", ok=True, detail=f"as {coder.user()}")
        coder.organization(organization)
        yield Finding(check="organization", ok=True, detail=organization or "the only one")
    except HakimError as error:
        fix = (f"# {error.hint}",) if error.hint else ()
        yield Finding(check="access", ok=False, detail=error.message, fix=fix)
    # Whether its owner may push is not told by the API: it refuses the push itself.
    yield Finding(
        check="role",
        ok=None,
        detail="the token's owner needs Template Admin",
        fix=("coder users edit-roles <name> --roles template-admin",),
    )
