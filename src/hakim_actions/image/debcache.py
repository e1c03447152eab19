"""Keeps Debian packages between builds: a proxy on loopback that remembers what never changes.

debootstrap, and apt in the image, ask it because it is their ``http_proxy``; nothing of it gets
into the image. It keeps what a URL can only ever mean one thing for: packages, which have their
version in their name, and indices that are named by their hash. All else it passes through.
https goes past it: only a proxy that breaks the encryption could keep that.

What is kept need not be trusted. apt and debootstrap check every package against the signed index
of the archive, so a wrong entry can fail a build, and never get into an image. An entry whose bytes
changed on the disk is not served, and one that a build asks for again is fetched again.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Final

from hakim_actions.system.http import Deadline, Http, HttpError, Incoming

#: Packages (name_version_architecture.deb), and indices by hash:
#: https://wiki.debian.org/DebianRepository/Format
_CONSTANT: Final = re.compile(
    r"http://[^?#]+/([^/?#]+_[^/?#]+_[a-z0-9-]+\.deb|by-hash/SHA256/[0-9a-f]{64})"
)
#: Headers of an answer that the client gets, too.
_PASSED: Final = ("content-type", "content-length", "last-modified")
#: Longer than any build (seconds).
_LONGEST: Final = 86_400
#: Seconds that a client may be silent in the middle of something.
_PATIENCE: Final = 300

OnWarning = Callable[[str], None]


class DebStore:
    """A folder of files by URL, which many builds may read and fill at the same time.

    The name of an entry ends with its sha256, so a damaged one is found when it is opened. Entries
    are written beside and renamed; a kill leaves at most a dot file. After the first entry that
    cannot be written (disk full, read-only) none is kept, and nothing else changes.
    """

    def __init__(self, folder: Path, *, on_warning: OnWarning = lambda _text: None) -> None:
        """Use *folder*, which is made when the first file is kept."""
        self.folder = folder
        self._warn = on_warning
        self._writable = True

    def open(self, url: str) -> IO[bytes] | None:
        """Return the content of *url*, or None when there is none that is whole."""
        for path in self._entries(url):
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                stream = stack.enter_context(path.open("rb"))
                if hashlib.file_digest(stream, "sha256").hexdigest() == path.suffix[1:]:
                    os.utime(path)  # who cleans up removes what was not used for longest
                    stream.seek(0)
                    stack.pop_all()
                    return stream
                path.unlink()
                self._warn(f"{path} was damaged; {url} is downloaded again.")
        return None

    @contextlib.contextmanager
    def adding(self, url: str) -> Iterator[Callable[[bytes], None]]:
        """Hand out a function that takes *url* piece by piece; the end of the block keeps it."""
        beside = self._beside()
        if beside is None:
            yield _ignore
            return
        digest = hashlib.sha256()

        def take(piece: bytes) -> None:
            digest.update(piece)
            with self._trying():
                beside.write(piece)

        with contextlib.ExitStack() as stack:
            stack.callback(Path(beside.name).unlink, missing_ok=True)
            stack.callback(beside.close)
            yield take
            with self._trying():
                beside.close()
            if self._writable:
                self._keep(Path(beside.name), url, digest.hexdigest())

    def _beside(self) -> IO[bytes] | None:
        with self._trying():
            if self._writable:
                self.folder.mkdir(parents=True, exist_ok=True)
                return tempfile.NamedTemporaryFile(prefix=".", dir=self.folder, delete=False)
        return None

    def _keep(self, beside: Path, url: str, sha256: str) -> None:
        with self._trying():
            for path in self._entries(url):
                path.unlink(missing_ok=True)
            beside.replace(self.folder / f"{_key(url)}.{sha256}")

    def _entries(self, url: str) -> list[Path]:
        return list(self.folder.glob(f"{_key(url)}.*"))

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._writable:
                self._warn(f"Packages are not kept in {self.folder}: {error.strerror}.")
            self._writable = False


def _ignore(_piece: bytes) -> None:
    """Take what is not kept; see :meth:`DebStore.adding`."""


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


class DebProxy(ThreadingHTTPServer):
    """The proxy of one build. *served* and *fetched* count bytes from the store and from outside.

    It answers only who knows its :attr:`url`, because it listens where every user of the machine
    can reach it.
    """

    daemon_threads = True

    def __init__(self, store: DebStore, http: Http) -> None:
        """Listen on a free port of 127.0.0.1; *http* asks the mirrors."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.store = store
        self.http = http
        self.served = self.fetched = 0
        self._user = f"build:{secrets.token_hex(16)}"
        self._given: set[str] = set()
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        """The value of ``http_proxy``."""
        return f"http://{self._user}@127.0.0.1:{self.server_port}"

    def allows(self, authorization: str) -> bool:
        """Tell whether the header Proxy-Authorization is that of :attr:`url`."""
        expected = f"Basic {base64.b64encode(self._user.encode()).decode()}"
        return hmac.compare_digest(authorization.encode(), expected.encode())

    def kept(self, url: str) -> IO[bytes] | None:
        """Return what is kept for *url* when it is asked for the first time.

        A client that asks again did not get what the archive's index promises.
        """
        with self._guard:
            again = url in self._given
            self._given.add(url)
        return None if again else self.store.open(url)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print what is a mistake of ours; clients that are gone are none."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def count(self, *, served: int = 0, fetched: int = 0) -> None:
        """Add to the counts of bytes."""
        with self._guard:
            self.served += served
            self.fetched += fetched


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client, which may ask for many files one after another."""

    server: DebProxy
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    disable_nagle_algorithm = True  # or each small package would wait for an acknowledgement

    def do_GET(self) -> None:
        """Answer from the store, or pass the answer of the mirror through."""
        if not self.server.allows(self.headers.get("Proxy-Authorization", "")):
            self.send_error(407, "Use the whole URL of the proxy")
        elif not self.path.startswith("http://"):
            self.send_error(400, "Not a request to a proxy for http")
        else:
            self._answer(self.path)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing: apt and debootstrap tell what failed."""

    def _answer(self, url: str) -> None:
        constant = _CONSTANT.fullmatch(url) is not None
        kept = self.server.kept(url) if constant else None
        self._started = False
        try:
            if kept is not None:
                with kept:
                    self._serve(kept)
            else:
                self._pass(url, keep=constant)
        except HttpError as error:
            self._fail(error)
        except OSError:
            self.close_connection = True  # the client is gone

    def _serve(self, kept: IO[bytes]) -> None:
        size = os.fstat(kept.fileno()).st_size
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.server.count(served=size)
        self.connection.sendfile(kept)

    def _pass(self, url: str, *, keep: bool) -> None:
        with self.server.http.streamed(url) as incoming:
            self._start(incoming)
            # Without its length nobody can tell a whole answer from a part of it.
            whole = incoming.status == 200 and "content-length" in incoming.headers
            kept = self.server.store.adding(url) if keep and whole else nullcontext(_ignore)
            last = b""
            with kept as take:
                for piece in incoming.pieces:
                    self.wfile.write(last)
                    self.server.count(fetched=len(piece))
                    take(piece)
                    last = piece
            self.wfile.write(last)  # who has it all can count on it being kept

    def _start(self, incoming: Incoming) -> None:
        self.send_response(incoming.status)
        for name in _PASSED:
            if name in incoming.headers:
                self.send_header(name, incoming.headers[name])
        if "content-length" not in incoming.headers:
            self.send_header("Connection", "close")
        self.end_headers()
        self._started = True

    def _fail(self, error: HttpError) -> None:
        """Tell the client, or, when half of an answer is out already, hang up."""
        if self._started:
            self.close_connection = True
        else:
            self.send_error(error.status or 502)


@contextlib.contextmanager
def proxy(store: DebStore, *, http: Http | None = None) -> Iterator[DebProxy]:
    """Run a proxy in front of *store* beside the block.

    It is a thread of this process, so nothing is left of it, however the process ends.
    """
    with (
        http or Http(deadline=Deadline(_LONGEST)) as client,
        DebProxy(store, client) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
