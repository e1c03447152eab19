"""One storage of Proxmox VE: bring, prove, swap and remove templates there.

There is no rename and no copy in the API, an upload overwrites in place and unlinks what is there
when it fails, and a download never overwrites: everything here follows from that
(https://git.proxmox.com/?p=pve-storage.git;a=blob;f=src/PVE/API2/Storage/Status.pm).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hakim_actions.errors import PromotionError
from hakim_actions.promote import tasks
from hakim_actions.promote.api import Api, ApiError, LostReplyError, rows
from hakim_actions.promote.base import Landed, Obtain, OnBytes, Proof, Way
from hakim_actions.promote.source import Template
from hakim_actions.promote.state import Stored
from hakim_actions.promote.tasks import TaskError
from hakim_actions.system.http import backoff

_ATTEMPTS: Final = 3
#: Seconds a task may have started before we asked, by the server's clock and its coarse Date.
_SLACK: Final = 3


@dataclass(kw_only=True)
class ProxmoxStore:
    """A storage as seen through *node*; ``shared`` ones are seen by all others too.

    ``may_fetch`` and ``may_delete`` are rights of the token, ``fetch_refusal`` says why the node
    cannot download by itself. ``peers`` are the nodes that may have taken an upload.
    """

    api: Api
    storage: str
    node: str
    shared: bool
    avail: int
    arch: str
    may_fetch: bool
    may_delete: bool
    peers: tuple[str, ...]
    fetch_refusal: str = ""
    keeps_versions: bool = False
    _seen: set[str] = field(default_factory=set, repr=False)

    @property
    def label(self) -> str:
        """``storage`` when it is shared, else ``node/storage``."""
        return self.storage if self.shared else f"{self.node}/{self.storage}"

    def fits(self, template: Template) -> bool:
        """Tell whether the node has the architecture of *template*; unknown means it does."""
        return not self.arch or template.name.arch == self.arch

    def room(self) -> int | None:
        """Return what the storage reports as available."""
        return self.avail

    def way(self, template: Template) -> tuple[Way, str]:
        """Prefer the node's own download: it is atomic there and needs no space in /var/tmp."""
        if not template.url:
            return Way.UPLOAD, "no public URL"
        if not self.may_fetch:
            return Way.UPLOAD, self.fetch_refusal or f"no Sys.AccessNetwork on /nodes/{self.node}"
        return Way.FETCH, "public URL, checked by the node"

    def listing(self) -> dict[str, Stored]:
        """Return the templates of the storage; sizes are exact, also of a file half written."""
        path = f"{self._path}/content"
        found = {}
        for row in rows(self.api.get(path, content="vztmpl"), what=path):
            name = str(row.get("volid", "")).partition(":vztmpl/")[2]
            size, changed = int(row.get("size") or 0), int(row.get("ctime") or 0)
            found[name] = Stored(name=name, size=size, changed=changed)
        return found

    def prove(self, file: str, template: Template) -> bool | None:
        """Let the node hash *file*: a download onto an existing name only compares, never writes.

        None without the right to it, or without a URL to name.
        """
        if not self.may_fetch or not template.url:
            return None
        try:
            self._fetch(template, file)
        except TaskError as error:
            if "checksum mismatch" in error.reason:
                return False
            raise
        return True

    def bring(self, template: Template, file: str, *, obtain: Obtain, on_bytes: OnBytes) -> Landed:
        """Get *template* here as *file*; a leftover of an earlier run under it is replaced."""
        left = file in self.listing()
        if left and self.may_delete:
            self.remove(file)
            left = False
        if self.way(template)[0] is Way.FETCH and not left:
            try:
                self._fetch(template, file)
            except TaskError as error:
                # The file itself is wrong at its source: no other way makes it right.
                if "checksum mismatch" in error.reason:
                    raise
            else:
                return self._arrived(template, file, proof=Proof.SHA256)
        proof = self._upload(template, file, obtain=obtain, on_bytes=on_bytes)
        return self._arrived(template, file, proof=proof)

    def swap(
        self, template: Template, file: str, *, staged: str, obtain: Obtain, on_bytes: OnBytes
    ) -> Landed:
        """Put *template* under *file*, which exists; *staged* stays whatever happens.

        With the right to delete, the old file goes first: containers that are being made from it
        keep reading it, where an upload would change it under them.
        """
        try:
            return self.bring(template, file, obtain=obtain, on_bytes=on_bytes)
        except PromotionError as error:
            msg = f"{file} was not replaced: {error.message}"
            hint = (
                f"The new template is whole and proven as {self.identifier(staged)}: use it, "
                f"or run promote again. {error.hint}"
            )
            status = error.status if isinstance(error, ApiError) else None
            raise ApiError(msg, hint=hint, status=status) from error

    def remove(self, file: str) -> None:
        """Delete *file* and wait until it is gone."""
        path = f"{self._path}/content/{self.identifier(file)}"
        upid = self.api.delete(path)
        if upid is not None:
            tasks.wait(self.api, upid, what=f"Deleting {file} from {self.label}")
        if file in self.listing():
            msg = f"{self.label}: {file} is still there after it was deleted."
            raise PromotionError(msg, hint="See the last imgdel task on the node.")

    def identifier(self, file: str) -> str:
        """Return the volume id, ``storage:vztmpl/file``."""
        return f"{self.storage}:vztmpl/{file}"

    @property
    def _path(self) -> str:
        return f"nodes/{self.node}/storage/{self.storage}"

    def _fetch(self, template: Template, file: str) -> tasks.Done:
        fields = {
            "content": "vztmpl",
            "filename": file,
            "url": template.url,
            "checksum": template.sha256,
            "checksum-algorithm": "sha256",
        }
        return self._task(
            lambda: self.api.post(f"{self._path}/download-url", **fields),
            kind="download",
            file=file,
            nodes=(self.node,),
        )

    def _upload(self, template: Template, file: str, *, obtain: Obtain, on_bytes: OnBytes) -> Proof:
        path = obtain(template)
        done = self._task(
            lambda: self.api.upload(
                f"{self._path}/upload",
                path,
                name=file,
                sha256=template.sha256,
                on_bytes=lambda count: on_bytes(template, count),
            ),
            kind="imgcopy",
            file=file,
            nodes=tuple(dict.fromkeys((self.node, *self.peers))),
        )
        # The server says so when it compared; a proxy or a parser that lost the field would not.
        if any(line.endswith("checksum verified") for line in done.log):
            return Proof.SHA256
        return Proof.SHA256 if self.prove(file, template) else Proof.SIZE

    def _task(
        self, start: Callable[[], str], *, kind: str, file: str, nodes: tuple[str, ...]
    ) -> tasks.Done:
        """Start a task and wait for its end; a lost answer never starts it twice."""
        what = f"{'Fetching' if kind == 'download' else 'Uploading'} {file} to {self.label}"
        since = self.api.server_time() - _SLACK
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                upid = start()
                break
            except ApiError as error:
                lost = isinstance(error, LostReplyError)
                if not (lost or error.passing):
                    raise
                found = self._found(kind, file, nodes=nodes, since=since) if lost else None
                if found is not None:
                    upid = found
                    break
                if attempt == _ATTEMPTS:
                    raise
                self.api.pause(backoff(attempt), what=what)
        else:
            raise AssertionError  # pragma: no cover - the last attempt raises
        self._seen.add(upid)
        return tasks.wait(self.api, upid, what=what)

    def _found(self, kind: str, file: str, *, nodes: tuple[str, ...], since: float) -> str | None:
        return tasks.find(
            self.api, kind=kind, file=file, nodes=nodes, since=since, known=self._seen
        )

    def _arrived(self, template: Template, file: str, *, proof: Proof) -> Landed:
        """Compare what the storage lists with what was sent: the size, to the byte."""
        stored = self.listing().get(file)
        if stored is None or stored.size != template.size:
            has = "does not list it" if stored is None else f"has {stored.size} bytes of it"
            msg = f"{self.label} {has}: {file} should have {template.size} bytes."
            raise PromotionError(msg, hint="Run promote again; the file there is not used.")
        return Landed(stored=stored, proof=proof)
