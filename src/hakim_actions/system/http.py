"""HTTP as every command needs it: streamed, hashed on the way, retried within a deadline.

Only this module knows httpx; whatever goes wrong comes out as HttpError.
"""

import email.utils
import enum
import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

import httpx

from hakim_actions.errors import HakimError
from hakim_actions.system import files
from hakim_actions.system.tls import Trust

#: Answers that say "later": https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
_LATER: Final = frozenset({429, 502, 503, 504})
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
#: Bytes of an answer that is kept in memory; every API answer we read is far smaller.
MAX_ANSWER: Final = 32 * 1024 * 1024
_CHUNK: Final = 1024 * 1024
_T = TypeVar("_T")


class Again(enum.Enum):
    """Whether to send a failed request once more."""

    NEVER = enum.auto()
    #: It may have been carried out: only where twice is as good as once.
    IF_IDEMPOTENT = enum.auto()
    #: It was certainly not carried out.
    SAFE = enum.auto()


class HttpError(HakimError):
    """A request without a usable answer."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        body: str = "",
        again: Again = Again.NEVER,
        asked: float | None = None,
    ) -> None:
        """Keep *status* (None: no answer), the start of the *body*, and what a retry would be.

        *asked* is the pause the server wants before it, in seconds.
        """
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body
        self.again = again
        self.asked = asked


class Deadline:
    """A moment in the future, shared by all requests of one job."""

    def __init__(self, seconds: float) -> None:
        """Set it *seconds* from now, on the clock that nobody can turn back."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())

    def check(self, what: str) -> None:
        """Raise HttpError naming *what* when the moment has passed."""
        if not self.remaining():
            msg = f"{what}: not done within {self.seconds:g} seconds."
            raise HttpError(msg, hint="Give it more time, or look why the other side is slow.")


def backoff(attempt: int, *, asked: float | None = None) -> float:
    """Return the pause in seconds after the failed *attempt* (1, 2, …), at least what was *asked*.

    Doubles from half a second up to 30, with jitter, so that many clients do not come back at once.
    """
    pause: float = min(30.0, 0.5 * 2 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 - jitter
    return max(pause, asked or 0.0)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: status, headers with lower-case names, and the whole body."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body, or raise HttpError showing how it starts."""
        try:
            return json.loads(self.body)
        except ValueError:
            start = self.body[:80].decode(errors="replace")
            msg = f"{self.url} answered {self.status} with something that is not JSON: {start!r}."
            raise HttpError(
                msg, hint="Is there a proxy or a login page?", status=self.status
            ) from None


@dataclass(frozen=True, kw_only=True)
class Received:
    """A downloaded file: size in bytes and sha256 as 64 hex digits."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """An answer on its way: status, headers with lower-case names, and the body in pieces."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


@dataclass(kw_only=True)
class Http:
    """A client; use it as a context manager. *headers* go with every request of the same origin.

    httpx drops Authorization when a redirect leaves the origin, so a token never follows one.
    ``deadline`` bounds everything this client does together; ``attempts`` bounds one request.
    ``transport`` and ``sleep`` are for tests.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trust: Trust = field(default_factory=Trust)
    deadline: Deadline = field(default_factory=lambda: Deadline(3600))
    attempts: int = 4
    timeout: float = 30
    proxy: str = ""
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Open the connection pool."""
        self._client = httpx.Client(
            headers=dict(self.headers),
            verify=self.trust.context(),
            transport=self.transport,
            proxy=self.proxy or None,
            timeout=httpx.Timeout(self.timeout, connect=10),
            follow_redirects=True,
            event_hooks={"response": [_refuse_downgrade]},
        )

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        self._client.close()

    def get(self, url: str, **options: Any) -> Answer:
        """Send a GET; see :meth:`request`."""
        return self.request("GET", url, **options)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        content: bytes | None = None,
        json_body: Any = None,
        retry: bool | None = None,
    ) -> Answer:
        """Send one request and return the answer of status 2xx or 3xx, at most MAX_ANSWER bytes.

        Transport errors and the statuses that mean "later" are tried again for idempotent methods,
        or for all with ``retry=True``; a connection that was never made, and 429, always.
        Raises HttpError.
        """
        idempotent = method in _IDEMPOTENT if retry is None else retry

        def once() -> Answer:
            request = self._build(
                method, url, headers=headers, params=params, content=content, json=json_body
            )
            with self._open(request) as response:
                return Answer(
                    url=_shown(request.url),
                    status=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=self._body(response),
                )

        return self._retrying(once, idempotent=idempotent)

    def download(
        self,
        url: str,
        target: Path,
        *,
        sha256: str = "",
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
        on_bytes: Callable[[int], None] = lambda _count: None,
    ) -> Received:
        """Stream *url* into *target*, which appears only when whole and with the right *sha256*.

        *on_bytes* gets the number of bytes so far. Raises HttpError.
        """

        def once() -> Received:
            # A coded body would have another checksum than the file.
            wanted = {"Accept-Encoding": "identity", **(headers or {})}
            request = self._build("GET", url, headers=wanted)
            with self._open(request) as response, files.replacing(target) as stream:
                received = self._copy(response, stream, limit=size, on_bytes=on_bytes)
                _check(received, url=_shown(request.url), sha256=sha256, size=size)
                return received

        return self._retrying(once, idempotent=True)

    @contextmanager
    def streamed(self, url: str) -> Iterator[Incoming]:
        """GET *url* once and hand out the answer as it comes, byte for byte as it was sent.

        Raises HttpError, in the block as well when the answer breaks off.
        """
        request = self._build("GET", url, headers={"Accept-Encoding": "identity"})
        with self._open(request) as response:
            yield Incoming(
                status=response.status_code,
                headers={name.lower(): value for name, value in response.headers.items()},
                pieces=response.iter_raw(),
            )

    def _build(self, method: str, url: str, **options: Any) -> httpx.Request:
        try:
            return self._client.build_request(method, url, **options)
        except httpx.InvalidURL as error:
            msg = f"{url!r} is not a URL: {error}."
            raise HttpError(msg, hint="Expected https://host/path.") from None

    @contextmanager
    def _open(self, request: httpx.Request) -> Iterator[httpx.Response]:
        """Send *request*; the block reads the body. The one place where httpx's errors end."""
        where = f"{request.method} {_shown(request.url)}"
        self.deadline.check(where)
        try:
            response = self._client.send(request, stream=True)
            try:
                if response.status_code >= 400:
                    raise self._refusal(where, response)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise _failure(where, error) from error

    def _refusal(self, where: str, response: httpx.Response) -> HttpError:
        body = self._body(response)[:2000].decode(errors="replace")
        status, asked = response.status_code, _retry_after(response.headers.get("retry-after", ""))
        again = Again.IF_IDEMPOTENT if status in _LATER else Again.NEVER
        # GitHub says "too many requests" as 403 with Retry-After:
        # https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
        if status == 429 or (status == 403 and asked is not None):
            again = Again.SAFE
        return HttpError(
            f"{where} was answered {status} {response.reason_phrase}.",
            hint=body.strip()[:300],
            status=status,
            body=body,
            again=again,
            asked=asked,
        )

    def _body(self, response: httpx.Response) -> bytes:
        parts = bytearray()
        for chunk in response.iter_bytes():
            self.deadline.check(_shown(response.request.url))
            parts += chunk
            if len(parts) > MAX_ANSWER:
                msg = f"{_shown(response.request.url)} answered with more than {MAX_ANSWER} bytes."
                raise HttpError(msg, hint="This is not the document it should be.")
        return bytes(parts)

    def _copy(
        self,
        response: httpx.Response,
        stream: IO[bytes],
        *,
        limit: int | None,
        on_bytes: Callable[[int], None],
    ) -> Received:
        digest, count = hashlib.sha256(), 0
        for chunk in response.iter_raw(_CHUNK):
            self.deadline.check(_shown(response.request.url))
            count += len(chunk)
            if limit is not None and count > limit:
                break  # the check of the size says it
            digest.update(chunk)
            stream.write(chunk)
            on_bytes(count)
        return Received(size=count, sha256=digest.hexdigest())

    def _retrying(self, once: Callable[[], _T], *, idempotent: bool) -> _T:
        for attempt in itertools.count(1):
            try:
                return once()
            except HttpError as error:
                wanted = error.again is Again.SAFE or (
                    idempotent and error.again is Again.IF_IDEMPOTENT
                )
                pause = backoff(attempt, asked=error.asked)
                # A pause that outlasts the deadline would only hide the reason.
                if not wanted or attempt >= self.attempts or pause >= self.deadline.remaining():
                    raise
                self.sleep(pause)
        raise AssertionError  # pragma: no cover - count() never ends


def _failure(where: str, error: Exception) -> HttpError:
    """Translate what httpx raised while sending or receiving."""
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.UnsupportedProtocol):
        return HttpError(f"{where} failed: {text}", hint="Expected an http:// or https:// address.")
    if "CERTIFICATE_VERIFY_FAILED" in text or "fingerprint" in text:
        return HttpError(
            f"{where} failed: the certificate is not trusted ({text}).",
            hint="Give the CA that signed it, or pin its fingerprint.",
        )
    # A connection that was never made has carried nothing.
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return HttpError(
        f"{where} failed: {text}.",
        hint="Check the address and the network between here and there.",
        again=Again.SAFE if unsent else Again.IF_IDEMPOTENT,
    )


def _check(received: Received, *, url: str, sha256: str, size: int | None) -> None:
    if size is not None and received.size != size:
        msg = f"{url} sent {received.size} bytes or more, expected {size}."
        again = Again.IF_IDEMPOTENT if received.size < size else Again.NEVER
        raise HttpError(msg, hint="The transfer was cut, or the file was replaced.", again=again)
    if sha256 and received.sha256 != sha256:
        msg = f"{url} has sha256 {received.sha256}, expected {sha256}."
        raise HttpError(
            msg, hint="The file was replaced after its checksum was made; do not use it."
        )


def _refuse_downgrade(response: httpx.Response) -> None:
    target = response.headers.get("location", "")
    if not response.has_redirect_location or response.url.scheme != "https":
        return
    if response.url.join(target).scheme == "http":
        msg = f"{_shown(response.url)} redirects to plain http."
        raise HttpError(msg, hint="Use the address it should have led to, with https.")


def _shown(url: httpx.URL) -> str:
    """Return *url* for messages: signed links and passwords keep what is secret in them."""
    return str(url.copy_with(query=None, fragment=None, username=None, password=None))


def _retry_after(value: str) -> float | None:
    """Read Retry-After, seconds or a date; None when it is absent or nonsense."""
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
