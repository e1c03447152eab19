"""Every precondition of a promotion to Proxmox VE, and the line that grants what is missing."""

from collections.abc import Iterator
from contextlib import closing

from hakim_actions.errors import HakimError
from hakim_actions.promote import proxmox, rights
from hakim_actions.promote.api import Api, rows
from hakim_actions.promote.base import Settings
from hakim_actions.promote.endpoint import Token
from hakim_actions.promote.rights import Need
from hakim_actions.system.finding import Finding


def findings(settings: Settings) -> Iterator[Finding]:
    """Yield one finding after the other; stops where the next one could not be found out."""
    with closing(proxmox.connect(settings)) as target:
        yield from _examine(target, settings)


def _examine(target: proxmox.Proxmox, settings: Settings) -> Iterator[Finding]:
    api = target.api
    try:
        version = api.get("version")
        yield Finding(
            check="endpoint, certificate and token",
            ok=True,
            detail=f"{target.name} is Proxmox VE {version.get('version')}, as {api.token.identity}",
        )
        online = sorted(
            str(row.get("node"))
            for row in rows(api.get("nodes"), what="nodes")
            if row.get("status") == "online"
        )
    except HakimError as error:
        yield _failure("endpoint, certificate and token", error)
        return
    chosen = [name for name in online if not settings.nodes or name in settings.nodes]
    yield from _rights(api, settings.storage, chosen)
    yield from _storage(target)


def _rights(api: Api, storage: str, nodes: list[str]) -> Iterator[Finding]:
    held = proxmox.rights_of(api)
    made: set[str] = set()
    for need in rights.needs(storage, nodes):
        missing = held.lacks(need)
        lines = _grant(need, api.token, made) if missing else ()
        yield Finding(
            check=f"{', '.join(missing or need.privileges)} on {need.path}",
            ok=(not missing) or (False if need.required and need.role != "HakimPrune" else None),
            detail=f"to {need.purpose}",
            fix=lines,
        )


def _grant(need: Need, token: Token, made: set[str]) -> tuple[str, ...]:
    """Return the lines for *need*, with the role only where it was not made a line before."""
    role, *entries = rights.grant_lines(need, token)
    if need.role in made:
        return tuple(entries)
    made.add(need.role)
    return (role, *entries)


def _storage(target: proxmox.Proxmox) -> Iterator[Finding]:
    check = f"storage {target.storage}"
    try:
        survey = target.survey(())
    except HakimError as error:
        yield _failure(check, error)
        return
    for problem in survey.problems:
        if "lacks" not in problem:  # said above, with the lines that grant it
            yield Finding(check=check, ok=False, detail=problem)
    for store in survey.stores:
        gigabytes = (store.room() or 0) / 1e9
        yield Finding(check=f"storage {store.label}", ok=True, detail=f"{gigabytes:.1f} GB free")
    for note in survey.notes:
        yield Finding(check="nodes", ok=None, detail=note)


def _failure(check: str, error: HakimError) -> Finding:
    return Finding(check=check, ok=False, detail=error.message, fix=(f"# {error.hint}",))
