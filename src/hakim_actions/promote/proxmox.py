"""Promotion into the storages of a Proxmox VE cluster, through its API."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.promote import compat, rights
from hakim_actions.promote.api import Api, ApiError, rows
from hakim_actions.promote.base import Settings, Store, Survey
from hakim_actions.promote.endpoint import Endpoint
from hakim_actions.promote.rights import Need, Rights
from hakim_actions.promote.source import Template
from hakim_actions.promote.storage import ProxmoxStore

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
#: Proxmox VE itself is only built for this architecture, which counts where nobody may ask.
_USUAL_ARCH: Final = "amd64"


def connect(settings: Settings) -> "Proxmox":
    """Return the cluster that *settings* name; raise ConfigurationError for what is missing."""
    problems = []
    if settings.endpoint is None:
        problems.append("--endpoint is missing: https://<any node of the cluster>:8006.")
    if settings.token is None:
        problems.append("No token: set PROXMOX_TOKEN, or give --token-file.")
    if not settings.storage:
        problems.append("--storage is missing: the storage that holds container templates.")
    if settings.endpoint is None or settings.token is None or problems:
        msg = "The Proxmox target is not described."
        raise ConfigurationError(msg, hint="See docs/how-to/promote.md.", problems=problems)
    api = Api(settings.endpoint, settings.token, deadline=settings.deadline)
    return Proxmox(
        api=api,
        endpoint=settings.endpoint,
        storage=settings.storage,
        nodes=settings.nodes,
        parallel=settings.parallel,
    )


def rights_of(api: Api) -> Rights:
    """Return the rights of the token *api* uses, asked for path by path."""
    return Rights(lambda path: api.get("access/permissions", path=path))


@dataclass(frozen=True, kw_only=True)
class Node:
    """What was seen of a node; ``storage`` is None when it has none of that name."""

    name: str
    pve: str = ""
    container: str = ""
    arch: str = ""
    storage: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Proxmox:
    """A cluster or a single node; the API of one node answers for all."""

    api: Api
    endpoint: Endpoint
    storage: str
    nodes: tuple[str, ...] = ()
    parallel: int = 4
    _problems: list[str] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The endpoint's address."""
        return self.endpoint.url

    def stop(self) -> None:
        """End all transfers and waits."""
        self.api.stop.set()

    def close(self) -> None:
        """Close the connections."""
        self.api.close()

    def survey(self, templates: Sequence[Template], *, prune: bool = False) -> Survey:
        """Read rights, nodes, versions and the storage; every problem at once."""
        self._problems, self._notes = [], []
        held = rights_of(self.api)
        names = self._chosen()
        self._check_rights(held, rights.needs(self.storage, (), prune=prune))
        if self._problems:
            return self._result([])
        seen = self._each(lambda name: self._look(name, held), names)
        self._remark(seen, templates)
        fit = [node for node in seen if self._usable(node)]
        if any(node.storage and node.storage.get("shared") for node in fit):
            fit = fit[:1]
        stores = self._each(lambda node: self._store(node, held, names, templates), fit)
        return self._result(stores)

    def _result(self, stores: Sequence[Store]) -> Survey:
        return Survey(stores=stores, notes=tuple(self._notes), problems=tuple(self._problems))

    def _each(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Do *work* for all *items*, a few at a time, and keep their order."""
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(work, items))

    def _check_rights(self, held: Rights, needed: Iterable[Need]) -> None:
        for need in needed:
            missing = held.lacks(need)
            if missing and need.required:
                self._problems.append(
                    f"The token {self.api.token.identity} lacks {' and '.join(missing)} on "
                    f"{need.path} (to {need.purpose})."
                )

    def _chosen(self) -> list[str]:
        """Return the nodes to work on: those asked for, or all that are online."""
        status = {
            str(row.get("node")): str(row.get("status"))
            for row in rows(self.api.get("nodes"), what="nodes")
        }
        for name in self.nodes:
            if name not in status:
                self._problems.append(f"--node '{name}': {did_you_mean(name, sorted(status))}")
            elif status[name] != "online":
                self._problems.append(f"--node '{name}' is {status[name]}.")
        away = sorted(name for name, is_ in status.items() if is_ != "online")
        if away and not self.nodes:
            self._notes.append(f"Not online, left out: {', '.join(away)}. Promote again later.")
        return sorted(
            name
            for name, is_ in status.items()
            if is_ == "online" and (not self.nodes or name in self.nodes)
        )

    def _look(self, name: str, held: Rights) -> Node:
        version = self.api.get(f"nodes/{name}/version")
        inspects = not held.lacks(_inspection(name))
        packages = self._packages(name) if inspects else {}
        manager = packages.get("pve-manager", {})
        return Node(
            name=name,
            pve=str(version.get("version", "")) if isinstance(version, dict) else "",
            container=_installed(packages.get("pve-container", {})),
            arch=str(manager.get("Arch") or _USUAL_ARCH),
            storage=self._status(name),
        )

    def _packages(self, name: str) -> dict[str, dict[str, Any]]:
        path = f"nodes/{name}/apt/versions"
        return {str(row.get("Package")): row for row in rows(self.api.get(path), what=path)}

    def _status(self, name: str) -> dict[str, Any] | None:
        path = f"nodes/{name}/storage"
        try:
            found = rows(self.api.get(path, storage=self.storage), what=path)
        except ApiError as error:
            if error.status != 400:  # "No such storage."
                raise
            found = []
        return next((row for row in found if row.get("storage") == self.storage), None)

    def _usable(self, node: Node) -> bool:
        """Tell whether the storage can be used on *node*; note why not."""
        where = f"--storage '{self.storage}' on {node.name}"
        status = node.storage
        if status is None:
            path = f"nodes/{node.name}/storage"
            known = [str(row.get("storage")) for row in rows(self.api.get(path), what=path)]
            self._problems.append(f"{where} does not exist. {did_you_mean(self.storage, known)}")
        elif not int(status.get("enabled", 1)):
            self._problems.append(f"{where} is disabled: pvesm set {self.storage} --disable 0")
        elif "vztmpl" not in str(status.get("content", "")).split(","):
            content = f"{status.get('content', '')},vztmpl".lstrip(",")
            self._problems.append(
                f"{where} does not hold container templates: "
                f"pvesm set {self.storage} --content {content}"
            )
        elif not int(status.get("active", 1)):
            self._problems.append(f"{where} is not active: is it mounted and reachable?")
        else:
            return True
        return False

    def _store(
        self, node: Node, held: Rights, names: Sequence[str], templates: Sequence[Template]
    ) -> Store:
        status = node.storage or {}
        may_fetch = not held.lacks(_fetching(node.name))
        refusal = self._refusal(node.name, templates) if may_fetch else ""
        prune = next(n for n in rights.needs(self.storage, ()) if n.role == "HakimPrune")
        return ProxmoxStore(
            api=self.api,
            storage=self.storage,
            node=node.name,
            shared=bool(int(status.get("shared", 0))),
            avail=int(status.get("avail") or 0),
            arch=node.arch,
            may_fetch=may_fetch and not refusal,
            may_delete=not held.lacks(prune),
            peers=tuple(names),
            fetch_refusal=refusal,
        )

    def _refusal(self, node: str, templates: Sequence[Template]) -> str:
        """Ask the node for the head of one file: one answer stands for all of a release."""
        url = next((template.url for template in templates if template.url), "")
        if not url:
            return ""
        try:
            self.api.get(f"nodes/{node}/query-url-metadata", url=url)
        except ApiError as error:
            if error.status is None:
                raise
            return f"{node} cannot reach the URL"
        return ""

    def _remark(self, seen: Sequence[Node], templates: Sequence[Template]) -> None:
        """Say once what holds for several nodes alike."""
        releases = {template.name.release for template in templates}
        said: dict[str, list[str]] = {}
        for node in seen:
            for line in compat.advice(pve=node.pve, container=node.container, releases=releases):
                said.setdefault(line, []).append(node.name)
            if not node.container:
                line = (
                    f"architecture taken as {node.arch} and pve-container not known: "
                    f"no Sys.Audit on /nodes/<node> (optional)"
                )
                said.setdefault(line, []).append(node.name)
        self._notes += [f"{', '.join(nodes)}: {line}." for line, nodes in said.items()]


def _inspection(node: str) -> Need:
    return next(n for n in rights.needs("", [node]) if n.role == "HakimInspect")


def _fetching(node: str) -> Need:
    return next(n for n in rights.needs("", [node]) if n.role == "HakimFetch")


def _installed(package: dict[str, Any]) -> str:
    """Return the installed version: OldVersion where an update is waiting as Version."""
    return str(package.get("OldVersion") or package.get("Version") or "")
