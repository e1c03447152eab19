"""The one adapter of proxmoxer: typed calls, retries within a deadline, errors for people.

Paths and rules: https://pve.proxmox.com/pve-docs/api-viewer/
"""

import email.utils
import io
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote

import requests
from proxmoxer.backends.https import Backend
from proxmoxer.core import ProxmoxResource, ResourceException
from requests.adapters import HTTPAdapter

from hakim_actions.errors import HakimError, PromotionError
from hakim_actions.promote.endpoint import Endpoint, Token
from hakim_actions.system import tls
from hakim_actions.system.http import Deadline, backoff

_T = TypeVar("_T")

#: Answers that a second try may mend; 595-599 are pveproxy's own "the other node is away".
_PASSING: Final = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
_ATTEMPTS: Final = 4
#: Seconds to connect and between two reads. requests also uses the first while it writes a body,
#: where a node may pause for longer than any connection takes.
_TIMEOUT: Final = (10, 30)
_UPLOAD_TIMEOUT: Final = (60, 120)
#: Seconds from the last byte of a request to the last byte of its answer.
_ANSWER_LIMIT: Final = 60
#: Bytes of a body a write. urllib3's 16 KiB make TLS and Python the limit, not the network.
_BLOCK: Final = 256 * 1024
_UPID: Final = re.compile(r"UPID:(?P<node>[^:]+):(?:[0-9A-Fa-f]+:){3}(?P<type>[^:]*):[^:]*:[^:]+:")


class ApiError(PromotionError):
    """A request the API refused or never answered."""

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = None, passing: bool = False
    ) -> None:
        """Keep *status* (None: no answer), and whether it may be *passing*, so worth a new try."""
        super().__init__(message, hint=hint)
        self.status = status
        self.passing = passing


class LostReplyError(ApiError):
    """A request that starts a task was sent, but no answer came: the task may run or not."""


class Cancelled(HakimError):  # noqa: N818 - not an error of anybody
    """Work that was stopped because the whole run is being stopped."""


class Api:
    """The calls promotion needs. Safe to share between threads.

    Every method raises ApiError; reads are tried again while *deadline* lasts.
    """

    def __init__(self, endpoint: Endpoint, token: Token, *, deadline: Deadline) -> None:
        """Prepare the client; nothing is sent."""
        self.endpoint = endpoint
        self.token = token
        self.deadline = deadline
        self.stop = threading.Event()
        #: Seconds the server's clock is ahead of ours, from the Date of its last answer.
        self.clock_skew = 0.0
        self._sessions: list[requests.Session] = []
        self._context = endpoint.trust.context(answer_limit=_ANSWER_LIMIT)
        self._reader = self._resource(_TIMEOUT)
        self._sender = self._resource(_UPLOAD_TIMEOUT)

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions:
            session.close()

    def get(self, path: str, /, **params: str | int) -> Any:
        """Read *path* (below /api2/json, without a leading slash)."""
        return self._repeating(lambda: self._call("get", path, params), what=f"GET /{path}")

    def post(self, path: str, /, **fields: str | int) -> str:
        """Start a task and return its UPID; LostReplyError when it may run without our knowing."""
        return self._start(lambda: self._call("post", path, fields), path=path)

    def delete(self, path: str) -> str | None:
        """Delete *path*; a UPID when the server does it later. Deleting twice is harmless."""
        done = self._repeating(lambda: self._call("delete", path, {}), what=f"DELETE /{path}")
        return done if done is None else _upid(done, path)

    def upload(
        self, path: str, file: Path, *, name: str, sha256: str, on_bytes: Callable[[int], None]
    ) -> str:
        """Send *file* as template *name* to ``…/upload`` and return the UPID of the copy.

        The server's parser takes the fields in exactly this order, and the checksum only before
        the file: https://git.proxmox.com/?p=pve-http-server.git;a=blob;f=src/PVE/APIServer/AnyEvent.pm
        """
        with _Body(file, name=name, on_bytes=on_bytes, stop=self.stop) as body:
            fields = {
                "content": "vztmpl",
                "checksum-algorithm": "sha256",
                "checksum": sha256,
                "filename": body,
            }
            try:
                return self._start(
                    lambda: self._call("post", path, fields, sender=self._sender), path=path
                )
            except LostReplyError as error:
                if body.whole:
                    raise
                # The server waits for Content-Length bytes before it starts anything.
                raise ApiError(error.message, hint=error.hint, passing=True) from error

    def server_time(self) -> float:
        """Return the server's time (seconds since 1970): clocks differ, and its tasks use its."""
        return time.time() + self.clock_skew

    def pause(self, seconds: float, *, what: str) -> None:
        """Wait, but not beyond the deadline, and end at once when the run is stopped."""
        if self.stop.wait(min(seconds, self.deadline.remaining())):
            msg = f"{what} was stopped."
            raise Cancelled(msg)
        self.check_deadline(what)

    def check_deadline(self, what: str) -> None:
        """Raise ApiError naming *what* when the time is over."""
        if not self.deadline.remaining():
            msg = f"{what}: not done within {self.deadline.seconds:g} seconds."
            raise ApiError(
                msg, hint="Run it again, it goes on where it stopped; or raise --timeout."
            )

    def _start(self, call: Callable[[], Any], *, path: str) -> str:
        self.check_deadline(f"POST /{path}")
        return _upid(call(), path)

    def _repeating(self, call: Callable[[], _T], *, what: str) -> _T:
        for attempt in itertools.count(1):
            self.check_deadline(what)
            try:
                return call()
            except ApiError as error:
                if not error.passing or attempt >= _ATTEMPTS:
                    raise
                self.pause(backoff(attempt), what=what)
        raise AssertionError  # pragma: no cover - count() never ends

    def _call(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any],
        *,
        sender: ProxmoxResource | None = None,
    ) -> Any:
        resource = (sender or self._reader)([quote(part, safe="!@:") for part in path.split("/")])
        what = f"{method.upper()} /{path}"
        try:
            answer = getattr(resource, method)(**fields)
        except ResourceException as error:
            raise _refused(error, what=what) from None
        except requests.RequestException as error:
            raise self._unanswered(error, what=what, starts=method == "post") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _nonsense(what, f"a JSON document without data ({error!r})") from None
        if isinstance(answer, dict) and isinstance(answer.get("errors"), bytes):
            raise _nonsense(what, repr(answer["errors"][:60]))
        return answer

    def _unanswered(self, error: requests.RequestException, *, what: str, starts: bool) -> ApiError:
        reason = _root(error)
        where = self.endpoint.authority
        if isinstance(error, requests.exceptions.SSLError) and "VERIFY" in reason.upper():
            return self._untrusted(reason)
        if isinstance(error, requests.exceptions.SSLError) and "WRONG_VERSION" in reason.upper():
            return ApiError(f"{where} does not speak TLS.", hint=_WRONG_PORT)
        if "fingerprint" in reason:
            return ApiError(
                f"{where}: {reason}.",
                hint="Either the node has a new certificate, or somebody is in between: compare "
                "with 'pvenode cert info' on the node before you change --fingerprint.",
            )
        never_sent = isinstance(error, requests.exceptions.ConnectTimeout) or any(
            word in reason
            for word in ("refused", "resolve", "not known", "unreachable", "No route")
        )
        if never_sent:
            return ApiError(f"Cannot reach {where}: {reason}.", hint=_WRONG_PORT, passing=True)
        kind = LostReplyError if starts else ApiError
        return kind(
            f"{what} at {where} was not answered: {reason}.",
            hint="The node, its pveproxy or the network between went away; see the node's log "
            "('No space left on device' there means a full /var/tmp).",
            passing=not starts,
        )

    def _untrusted(self, reason: str) -> ApiError:
        shown = tls.peer_fingerprint(self.endpoint.host, self.endpoint.port)
        return ApiError(
            f"The certificate of {self.endpoint.authority} is not trusted ({reason}).",
            hint=f"Its SHA-256 fingerprint is {shown}. Compare it with 'pvenode cert info' on the "
            f"node, then give --fingerprint {shown}, or --ca-file with /etc/pve/pve-root-ca.pem.",
        )

    def _resource(self, timeout: tuple[int, int]) -> ProxmoxResource:
        backend = Backend(
            self.endpoint.authority,
            user=self.token.user,
            token_name=self.token.name,
            token_value=self.token.secret,
            timeout=timeout,
            verify_ssl=True,
        )
        session, trust = backend.get_session(), self.endpoint.trust
        session.mount("https://", _Adapter(self._context, fingerprint=trust.fingerprint))
        self._sessions.append(session)
        session.hooks["response"].append(self._note_clock)
        return ProxmoxResource(
            base_url=backend.get_base_url(), session=session, serializer=backend.get_serializer()
        )

    def _note_clock(self, response: requests.Response, **_: object) -> None:
        try:
            server = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
        except ValueError:
            return
        self.clock_skew = server.timestamp() - time.time()


_WRONG_PORT: Final = "Is the name right, is the node up, and is it the port of pveproxy (8006)?"


class _Adapter(HTTPAdapter):
    """requests with our TLS context, larger writes, and no redirects to anywhere else."""

    def __init__(self, context: Any, *, fingerprint: str) -> None:
        self._context = context
        self._pin = {"assert_fingerprint": fingerprint} if fingerprint else {}
        super().__init__(pool_maxsize=64)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options, ssl_context=self._context, blocksize=_BLOCK)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, **options, ssl_context=self._context)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        # requests would add its own CA bundle to the context and set the mode of verification.
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        # The context compares a pinned fingerprint itself; told of it, urllib3 knows it is checked.
        return host, {"ssl_context": self._context, **self._pin}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave everything to the context."""


class _Body(io.FileIO):
    """A file that proxmoxer sends under another *name*, counted, and stopped with the run."""

    def __init__(
        self, file: Path, *, name: str, on_bytes: Callable[[int], None], stop: threading.Event
    ) -> None:
        super().__init__(file)
        self._size = file.stat().st_size
        self._sent = 0
        self._on_bytes = on_bytes
        self._stop = stop
        self.name = name

    @property
    def whole(self) -> bool:
        """Whether the last byte was handed over."""
        return self._sent >= self._size

    def read(self, size: int | None = -1) -> bytes:
        if self._stop.is_set():
            msg = f"The upload of {self.name} was stopped."
            raise Cancelled(msg)
        data = super().read(-1 if size is None else size) or b""
        self._sent += len(data)
        self._on_bytes(self._sent)
        return data


def task_node(upid: str) -> str:
    """Return the node a task runs on: the one that took the request, not always its target."""
    match = _UPID.match(upid)
    return match["node"] if match else ""


def rows(answer: Any, *, what: str) -> list[dict[str, Any]]:
    """Return *answer* as the list of objects it should be, or raise ApiError naming *what*."""
    if isinstance(answer, list) and all(isinstance(row, dict) for row in answer):
        return cast("list[dict[str, Any]]", answer)
    raise _nonsense(what, json.dumps(answer, default=repr)[:60])


def _upid(answer: Any, path: str) -> str:
    if isinstance(answer, str) and _UPID.match(answer):
        return answer
    # Something was accepted, yet nobody says what: look for the task before sending again.
    error = _nonsense(path, repr(answer)[:60])
    raise LostReplyError(error.message, hint=error.hint)


def _nonsense(what: str, got: str) -> ApiError:
    return ApiError(
        f"{what} was answered with {got}.",
        hint="That is not a Proxmox VE API. Is there a proxy in between, or the wrong port?",
        passing=True,
    )


def _refused(error: ResourceException, *, what: str) -> ApiError:
    status, said = int(error.status_code), str(error.content or error.status_message or "").strip()
    if isinstance(error.errors, Mapping):
        said += "".join(f"; {name}: {text}" for name, text in sorted(error.errors.items()))
    hints = {
        401: "The token is wrong, expired or disabled: 'pveum user token list <user>' on a node.",
        403: "The token lacks a right: 'hakim-actions doctor proxmox' names it.",
        404: _WRONG_PORT,
        501: "That is not a call this server knows. Is it Proxmox VE 8 or newer?",
    }
    hint = hints.get(status, "See the task log and the journal of the node.")
    if "quorum" in said or "cluster not ready" in said:
        hint = "The cluster has no quorum: nothing can change until enough nodes are back."
    return ApiError(
        f"{what} was answered {status} {said}.",
        hint=hint,
        status=status,
        passing=status in _PASSING,
    )


def _root(error: BaseException) -> str:
    """Return what the innermost exception says, without the wrapping of three libraries."""
    while True:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    text = str(error) or type(error).__name__
    return re.sub(r"^\[\w+: (\w+)\]", r"\1", text).rstrip(".")
