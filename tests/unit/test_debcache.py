"""The cache of packages gives what the mirror gave, less often, and never stops a build."""

import base64
import contextlib
import http.client
import io
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from hakim_actions.image.debcache import DebProxy, DebStore, proxy
from hakim_actions.system.http import Http

MIRROR = "http://mirror.test/debian"
PACKAGE = f"{MIRROR}/pool/main/b/bash/bash_5.2.37-2%2bb5_amd64.deb"
BY_HASH = f"{MIRROR}/dists/trixie/main/binary-amd64/by-hash/SHA256/{'a' * 64}"
IN_RELEASE = f"{MIRROR}/dists/trixie/InRelease"


class Pieces(httpx.SyncByteStream):
    """A body that comes piece by piece."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


def sent(pieces: Iterable[bytes], *, size: int | None = None) -> httpx.Response:
    """Return an answer that says its size in bytes; where it is not given, that of *pieces*."""
    size = sum(map(len, pieces)) if size is None else size
    return httpx.Response(200, stream=Pieces(pieces), headers={"content-length": str(size)})


class Mirror:
    """Answers each URL with a text of its own that also counts the requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[httpx.Request], httpx.Response] = self.count

    def count(self, request: httpx.Request) -> httpx.Response:
        number = self.asked.count(str(request.url))
        return sent([f"{request.url} number {number}".encode()])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        return self.answer(request)


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "debs"


@dataclass(frozen=True)
class Build:
    """A build with a proxy of its own, and what it was warned of."""

    proxy: DebProxy
    warnings: list[str]

    @contextlib.contextmanager
    def open(
        self, url: str, *, user: str = "", method: str = "GET"
    ) -> Iterator[http.client.HTTPResponse]:
        where = urlsplit(self.proxy.url)
        connection = http.client.HTTPConnection(str(where.hostname), where.port or 0, timeout=10)
        user = user or f"{where.username}:{where.password}"
        basic = base64.b64encode(user.encode()).decode()
        with contextlib.closing(connection):
            connection.request(method, url, headers={"Proxy-Authorization": f"Basic {basic}"})
            with connection.getresponse() as response:
                yield response

    def get(self, url: str) -> bytes:
        with self.open(url) as response:
            assert response.status == 200
            return response.read()


NewBuild = Callable[[], contextlib.AbstractContextManager[Build]]


@pytest.fixture
def build(folder: Path, mirror: Mirror) -> NewBuild:
    """Return what starts another build on the same folder."""

    @contextlib.contextmanager
    def started() -> Iterator[Build]:
        warnings: list[str] = []
        store = DebStore(folder, on_warning=warnings.append)
        with proxy(store, http=Http(transport=httpx.MockTransport(mirror))) as running:
            yield Build(running, warnings)

    return started


def entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", [PACKAGE, BY_HASH])
def test_two_builds_download_it_once(build: NewBuild, mirror: Mirror, url: str) -> None:
    with build() as first:
        content = first.get(url)
    with build() as second:
        assert second.get(url) == content
        assert (second.proxy.served, second.proxy.fetched) == (len(content), 0)
    assert mirror.asked == [url]


@pytest.mark.parametrize(
    "url",
    [
        IN_RELEASE,
        f"{MIRROR}/dists/trixie/main/binary-amd64/Packages.xz",
        f"{MIRROR}/pool/main/b/bash/bash.deb",
        f"{PACKAGE}?version=1",
    ],
)
def test_what_may_change_is_asked_for_each_time(
    build: NewBuild, mirror: Mirror, folder: Path, url: str
) -> None:
    with build() as one:
        assert one.get(url) != one.get(url)
    assert mirror.asked == [url, url]
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda _: b"",
        lambda content: bytes([content[0] ^ 1]) + content[1:],
    ],
    ids=["short", "long", "empty", "one bit"],
)
def test_a_damaged_entry_is_downloaded_again(
    build: NewBuild, mirror: Mirror, folder: Path, damage: Callable[[bytes], bytes]
) -> None:
    with build() as first:
        first.get(PACKAGE)
    (entry,) = entries(folder)
    entry.write_bytes(damage(entry.read_bytes()))

    with build() as second:
        assert second.get(PACKAGE).endswith(b"number 2")
    with build() as third:
        assert third.get(PACKAGE).endswith(b"number 2")
    assert mirror.asked == [PACKAGE] * 2
    assert len(entries(folder)) == 1
    assert "was damaged" in second.warnings[0]


def test_what_a_build_asks_for_again_was_wrong_and_is_replaced(
    build: NewBuild, mirror: Mirror, folder: Path
) -> None:
    """Apt and debootstrap try again when a package has not the hash of the index."""
    with build() as first:
        first.get(PACKAGE)
    with build() as second:
        assert second.get(PACKAGE).endswith(b"number 1")
        assert second.get(PACKAGE).endswith(b"number 2")
    with build() as third:
        assert third.get(PACKAGE).endswith(b"number 2")
    assert len(entries(folder)) == 1


def test_the_client_gets_bytes_before_the_mirror_has_sent_all(
    build: NewBuild, mirror: Mirror
) -> None:
    """A package that takes minutes would otherwise run into the timeout of apt."""
    read = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"first"
        yield b"second"
        assert read.wait(10)
        yield b"last"

    mirror.answer = lambda _: sent(slowly(), size=15)
    with build() as one, one.open(PACKAGE) as response:
        assert response.read(5) == b"first"
        read.set()
        assert response.read() == b"secondlast"


def test_an_answer_that_breaks_off_is_told_and_not_kept(
    build: NewBuild, mirror: Mirror, folder: Path
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        msg = "connection reset"
        raise httpx.ReadError(msg)

    mirror.answer = lambda _: sent(broken(), size=9)
    with build() as one, one.open(PACKAGE) as response, pytest.raises(http.client.IncompleteRead):
        response.read()
    assert entries(folder) == []


def test_an_answer_of_unknown_length_is_not_kept(
    build: NewBuild, mirror: Mirror, folder: Path
) -> None:
    mirror.answer = lambda _: httpx.Response(200, stream=Pieces([b"some"]))
    with build() as one:
        assert one.get(PACKAGE) == b"some"
    assert not folder.exists()


@pytest.mark.parametrize(("status", "told"), [(404, 404), (503, 503)])
def test_what_the_mirror_refuses_is_passed_on(
    build: NewBuild, mirror: Mirror, status: int, told: int
) -> None:
    mirror.answer = lambda _: httpx.Response(status)
    with build() as one, one.open(PACKAGE) as response:
        assert response.status == told


def test_a_dead_mirror_is_a_bad_gateway(build: NewBuild, mirror: Mirror) -> None:
    def dead(_request: httpx.Request) -> httpx.Response:
        msg = "refused"
        raise httpx.ConnectError(msg)

    mirror.answer = dead
    with build() as one, one.open(PACKAGE) as response:
        assert response.status == 502


def test_a_folder_that_cannot_be_made_costs_a_warning(
    build: NewBuild, mirror: Mirror, folder: Path
) -> None:
    folder.write_text("a file where the folder should be")
    with build() as one:
        assert one.get(PACKAGE).endswith(b"number 1")
        assert one.get(BY_HASH).endswith(b"number 1")
    (warning,) = one.warnings
    assert str(folder) in warning


def test_a_full_disk_costs_a_warning(
    build: NewBuild, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def full(*_args: object, **_options: object) -> io.FileIO:
        name = folder / ".full"
        name.symlink_to("/dev/full")
        return io.FileIO(name, "w")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with build() as one:
        assert one.get(PACKAGE).endswith(b"number 1")
        assert one.get(BY_HASH).endswith(b"number 1")
    (warning,) = one.warnings
    assert "No space left" in warning
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "user", "method", "status"),
    [
        (PACKAGE, "build:guessed", "GET", 407),
        ("/etc/passwd", "", "GET", 400),
        ("file:///etc/passwd", "", "GET", 400),
        ("https://mirror.test/a_1_all.deb", "", "GET", 400),
        ("mirror.test:443", "", "CONNECT", 501),
    ],
)
def test_nobody_else_gets_through(
    build: NewBuild, mirror: Mirror, *, url: str, user: str, method: str, status: int
) -> None:
    with build() as one, one.open(url, user=user, method=method) as response:
        assert response.status == status
    assert mirror.asked == []


def test_many_at_once_get_each_what_they_asked_for(build: NewBuild, folder: Path) -> None:
    urls = [f"{MIRROR}/pool/p{number}_1_all.deb" for number in range(20)]
    with build() as one, build() as other, ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda url: (url, one.get(url), other.get(url)), urls):
            url, *contents = found
            assert all(content.startswith(f"{url} ".encode()) for content in contents)
    assert len(entries(folder)) == len(urls)


def test_nothing_listens_after_the_build(build: NewBuild) -> None:
    with build() as one:
        one.get(PACKAGE)
    with pytest.raises(ConnectionRefusedError):
        one.get(PACKAGE)
