"""What a token may do, and the lines that grant what it lacks.

Privileges: https://pve.proxmox.com/pve-docs/chapter-pveum.html#pveum_permission_management
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hakim_actions.promote.api import ApiError
from hakim_actions.promote.endpoint import Token


@dataclass(frozen=True, kw_only=True)
class Need:
    """Privileges on an ACL path, the role that carries just them, and what they are for."""

    role: str
    privileges: tuple[str, ...]
    path: str
    purpose: str
    required: bool = True


#: Role → privileges, as docs/how-to/proxmox-token.md makes them.
ROLES: Final[Mapping[str, tuple[str, ...]]] = {
    "HakimPromote": ("Datastore.AllocateTemplate", "Datastore.Audit"),
    "HakimFetch": ("Sys.AccessNetwork",),
    "HakimInspect": ("Sys.Audit",),
    "HakimPrune": ("Datastore.Allocate",),
}


def needs(storage: str, nodes: Iterable[str], *, prune: bool = False) -> list[Need]:
    """Return everything a promotion to *storage* on *nodes* can use, the required first."""
    on_storage = f"/storage/{storage}"
    return [
        _need("HakimPromote", on_storage, "list, upload and check templates"),
        _need("HakimPrune", on_storage, "delete old templates", required=prune),
        *(
            _need("HakimFetch", f"/nodes/{node}", "let the node download by itself", required=False)
            for node in nodes
        ),
        *(
            _need(
                "HakimInspect",
                f"/nodes/{node}",
                "see architecture and pve-container",
                required=False,
            )
            for node in nodes
        ),
    ]


def _need(role: str, path: str, purpose: str, *, required: bool = True) -> Need:
    return Need(role=role, privileges=ROLES[role], path=path, purpose=purpose, required=required)


class Rights:
    """The effective privileges of a token: what its user and itself both have."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        """Take *ask*, which answers ``GET /access/permissions?path=…``.

        The tree without ``path`` would be one request for all, but it leaves out paths where
        nothing is allowed, and what is handed down cannot be read from it for a token.
        """
        self._ask = ask
        self._known: dict[str, set[str]] = {}

    def on(self, path: str) -> set[str]:
        """Return the privileges on *path*; raise ApiError when the server does not say."""
        if path not in self._known:
            answer = self._ask(path)
            if not isinstance(answer, dict) or not isinstance(answer.get(path, {}), dict):
                msg = "GET /access/permissions was answered with something else."
                raise ApiError(msg, hint="Is this Proxmox VE 8 or newer?")
            self._known[path] = set(answer.get(path, {}))
        return self._known[path]

    def lacks(self, need: Need) -> tuple[str, ...]:
        """Return the privileges of *need* that are not there."""
        held = self.on(need.path)
        missing = tuple(name for name in need.privileges if name not in held)
        if missing and need.role == "HakimFetch" and {"Sys.Audit", "Sys.Modify"} <= self.on("/"):
            return ()  # the older of the two ways to this right
        return missing


def grant_lines(need: Need, token: Token) -> tuple[str, ...]:
    """Return the commands for a root shell of any node that grant *need*, and nothing more.

    A token with privilege separation has what its user and itself both have, so both get it.
    """
    privileges = " ".join(need.privileges)
    return (
        f'pveum role add {need.role} --privs "{privileges}"',
        f"pveum acl modify {need.path} --users {token.user} --roles {need.role}",
        f"pveum acl modify {need.path} --tokens '{token.identity}' --roles {need.role}",
    )
