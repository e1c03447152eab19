"""A publisher is killed at every moment there is; the next run must put everything right."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from fakes import github, github_client, publications
from fakes.github import Exchange, GitHub
from fakes.publications import Made

from hakim_actions.artifact import SUMS_NAME, parse_sums
from hakim_actions.system.files import sha256_file

TAG = "v1.2.0"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Made(archive=b"x" * 3_000_000)
    return publications.write_all(tmp_path_factory.mktemp("walk") / "out", base=made)


@pytest.fixture
def server() -> Iterator[GitHub]:
    with github.running() as running:
        yield running


class Murder:
    """Kills the client when a certain request comes in, goes out, or has brought so many bytes."""

    def __init__(self, server: GitHub, *, request: int = 0, reply: int = 0, byte: int = 0) -> None:
        self.victim: ForkServerProcess | None = None
        self.done = False
        self._request, self._reply, self._byte = request, reply, byte
        server.on_request, server.on_reply = self._before, self._after
        server.on_body = self._within

    def _before(self, exchange: Exchange) -> None:
        if self._strike(exchange.number == self._request):
            raise ConnectionResetError  # and so the request is not carried out

    def _after(self, exchange: Exchange) -> None:
        self._strike(exchange.number == self._reply)

    def _within(self, _exchange: Exchange, count: int) -> None:
        self._strike(0 < self._byte <= count)

    def _strike(self, is_time: bool) -> bool:
        if not is_time or self.done or self.victim is None or self.victim.pid is None:
            return False
        self.done = True
        os.kill(self.victim.pid, signal.SIGKILL)
        return True


def _requests(out: Path, tmp_path: Path) -> int:
    """Return how many requests an undisturbed run makes."""
    with github.running() as server:
        argv = ["publish", "--target", "github", str(out)]
        assert github_client.run(argv, server.environment(), log=tmp_path / "log") == 0
        return len(server.exchanges)


def _assert_sound(server: GitHub) -> None:
    """One complete release, or none: whatever is visible is whole."""
    for release in server.of_tag(TAG):
        if not release["draft"]:
            assert len(release["assets"]) == 6
            assert all(asset["state"] == "uploaded" for asset in release["assets"])


def _killed_then_repeated(server: GitHub, murder: Murder, out: Path, log: Path) -> None:
    argv = ["publish", "--target", "github", "--parallel", "2", str(out)]
    murder.victim = github_client.start(argv, server.environment(), log=log)
    murder.victim.join(60)
    assert murder.done, log.read_text()
    assert murder.victim.exitcode == -signal.SIGKILL
    _assert_sound(server)
    assert len(server.of_tag(TAG)) <= 1
    murder.victim = None
    assert github_client.run(argv, server.environment(), log=log) == 0, log.read_text()
    (release,) = server.of_tag(TAG)
    assert not release["draft"]
    _assert_sound(server)


def test_killed_around_every_request(out: Path, tmp_path: Path) -> None:
    """Before each request is carried out, and after each whose answer is never heard."""
    count = _requests(out, tmp_path)
    assert count * 2 >= 20, "fewer moments than promised"
    for number in range(1, count + 1):
        for moment in ("request", "reply"):
            with github.running() as server:
                murder = Murder(server, **{moment: number})
                _killed_then_repeated(server, murder, out, tmp_path / f"{moment}-{number}.log")


@pytest.mark.parametrize("byte", [1, 100_000, 1_000_000, 2_000_000, 2_999_999, 3_000_000])
def test_killed_in_the_middle_of_a_file(
    server: GitHub, out: Path, tmp_path: Path, byte: int
) -> None:
    _killed_then_repeated(server, Murder(server, byte=byte), out, tmp_path / "log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda it: it.name)
def test_a_polite_end_is_quick_and_leaves_one_draft(
    server: GitHub, out: Path, tmp_path: Path, number: signal.Signals
) -> None:
    argv = ["publish", "--target", "github", str(out)]
    victim = github_client.start(argv, server.environment(), log=tmp_path / "log")
    sent = threading.Event()

    def end(exchange: Exchange) -> None:
        if exchange.is_upload and not sent.is_set() and victim.pid is not None:
            sent.set()
            os.kill(victim.pid, number)
        if exchange.is_upload:
            time.sleep(0.5)

    server.on_request = end
    victim.join(20)
    assert victim.exitcode == 128 + number, (tmp_path / "log").read_text()
    (draft,) = server.of_tag(TAG)
    assert draft["draft"]
    server.on_request = lambda _exchange: None
    assert github_client.run(argv, server.environment(), log=tmp_path / "log") == 0
    _assert_sound(server)


def test_two_at_once_publish_one(server: GitHub, out: Path, tmp_path: Path) -> None:
    """Whoever wins, what is visible is whole, and one more run clears what the loser left."""
    argv = ["publish", "--target", "github", str(out)]
    server.on_reply = lambda _exchange: _assert_sound(server)
    both = [
        github_client.start(argv, server.environment(), log=tmp_path / f"log{number}")
        for number in range(2)
    ]
    for process in both:
        process.join(60)
    assert github_client.run(argv, server.environment(), log=tmp_path / "log") == 0
    (release,) = server.of_tag(TAG)
    assert not release["draft"]
    _assert_sound(server)


def test_the_folder_target_is_killed_before_every_change(out: Path, tmp_path: Path) -> None:
    """The same for a folder: before each file system call that changes something."""
    killed = 0
    for number in range(1, 200):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        argv = ["publish", str(out), "--to", str(folder)]
        code = github_client.run(argv, {}, log=tmp_path / "log", die_at=(folder, number))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        if (folder / TAG).exists():
            _assert_whole(folder / TAG)
        assert github_client.run(argv, {}, log=tmp_path / "log") == 0, (
            tmp_path / "log"
        ).read_text()
        _assert_whole(folder / TAG)
        assert (folder / "latest" / SUMS_NAME).is_file()
        assert (folder / "index.html").is_file()
        left = {path.name for path in folder.iterdir()} - {".lock", TAG, "latest", "index.html"}
        assert left <= _orphans(folder), left
    assert killed >= 20


def _assert_whole(folder: Path) -> None:
    sums = parse_sums((folder / SUMS_NAME).read_text(), source="the release")
    assert len(sums) == 5
    assert {name: sha256_file(folder / name) for name in sums} == sums


def _orphans(folder: Path) -> set[str]:
    """Return the hidden temporary files that a kill in the middle of a write may leave."""
    return {path.name for path in folder.iterdir() if path.name.startswith(".index.html.")}
