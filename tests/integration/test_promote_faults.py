"""Everything that can go wrong while a template in use is replaced.

After each fault a good template is in the storage, and a second run ends with the new one.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.promotions import BASE, TOKEN, Site, publish, site, watched
from fakes.proxmox import FakeProxmox, serving_files

from hakim_actions.promote import api, storage, tasks

CONTRACT = f"{BASE}.tar.xz"
STAGED = f"{BASE}_v2.tar.xz"
#: Larger than what proxmoxer sends from memory, so that bodies are streamed.
LARGE = 11 * 2**20
FOREVER = 99


@dataclass(frozen=True)
class Case:
    """A named fault: what is put in the way, what the first run returns, what mends it."""

    name: str
    arrange: Callable[[FakeProxmox], None]
    first: int
    size: int = 60_000
    fetch: bool = False
    prune: bool = False
    mend: Callable[[FakeProxmox], None] = lambda _fake: None


def _fault(point: str, *action: object, **options: object) -> Callable[[FakeProxmox], None]:
    return lambda fake: fake.inject(point, *action, **options)  # type: ignore[arg-type]


def _revoke(fake: FakeProxmox) -> None:
    fake.access.tokens[TOKEN].secret = "other"  # noqa: S105


def _restore(fake: FakeProxmox) -> None:
    fake.access.tokens[TOKEN].secret = "secret"  # noqa: S105


def _offline(fake: FakeProxmox) -> None:
    """Let the target node vanish for a while, as during a reboot of its pveproxy."""
    fake.inject("request", "status", 595, "No route to host", match="/tasks/", times=3)


def _no_quorum(fake: FakeProxmox) -> None:
    fake.quorate = False


def _quorum(fake: FakeProxmox) -> None:
    fake.quorate = True


def _skewed(seconds: float) -> Callable[[FakeProxmox], None]:
    def arrange(fake: FakeProxmox) -> None:
        fake.clock_ahead = seconds
        fake.inject("reply", "lost", match="POST .*/upload")

    return arrange


def _gone_url(fake: FakeProxmox) -> None:
    """The file vanishes from its public place after the plan saw it there."""
    public = fake.root.parent / "public" / "v2" / CONTRACT
    fake.inject(
        "request", "do", lambda _: public.unlink(missing_ok=True), match="POST .*/download-url"
    )


def _other_url(fake: FakeProxmox) -> None:
    public = fake.root.parent / "public" / "v2" / CONTRACT
    public.write_bytes(public.read_bytes()[::-1])


def _right_url(fake: FakeProxmox) -> None:
    public = fake.root.parent / "public" / "v2" / CONTRACT
    public.write_bytes(public.read_bytes()[::-1])


UPLOAD = "POST .*/upload"
CASES = [
    # The body is cut.
    Case("reset at the start of the body", _fault("body:start", "reset", times=3), 7, LARGE),
    Case("reset in the middle of the body", _fault("body:middle", "reset", times=3), 7, LARGE),
    Case("reset at the end of the body", _fault("body:end", "reset", times=3), 7, LARGE),
    Case("reset once: sent again", _fault("body:middle", "reset"), 0, LARGE),
    Case("full /var/tmp: the connection just ends", _fault("body:start", "reset", times=3), 7),
    # The server refuses.
    Case("503 before the body", _fault("request", "status", 503, "busy", match=UPLOAD), 0),
    Case("502 for good", _fault("request", "status", 502, "gone", match=UPLOAD, times=FOREVER), 7),
    Case("500 for the upload",
         _fault("body:end", "refuse", 500, "upload failed", times=FOREVER), 7, LARGE),
    Case("403 with the body under way",
         _fault("body:middle", "refuse", 403, "no", times=FOREVER), 7, LARGE),
    Case("401 midway: token revoked", _fault("body:end", "do", _revoke), 7, LARGE, mend=_restore),
    Case("quorum lost", _no_quorum, 7, mend=_quorum),
    # The task fails, or only says less than it should.
    Case("task error", _fault("task", "fail", "command 'cp' failed", match="imgcopy"), 7),
    Case("checksum mismatch", _fault("task", "fail", "checksum mismatch: got 'a'"), 7),
    Case("disk full on the node", _fault("copy", "full", match="_v2"), 7),
    Case("node dies while it copies", _fault("copy", "die", match="_v2"), 7),
    Case("task log lost its end", _fault("task", "fail", "unexpected status"), 7),
    Case("WARNINGS is success", _fault("task", "warn", "something is odd", match="imgcopy"), 0),
    # The answer is lost or wrong.
    Case("reply lost after the task started", _fault("reply", "lost", match=UPLOAD), 0),
    Case("truncated reply", _fault("reply", "truncate", match=UPLOAD), 0),
    Case("non-JSON 200 for the upload", _fault("reply", "text", "<html>hi", match=UPLOAD), 0),
    Case("JSON without a UPID", _fault("reply", "text", '{"data":null}', match=UPLOAD), 0),
    Case("non-JSON 200 for a read", _fault("reply", "text", "<html>hi", match="GET .*/content"), 0),
    Case("clock of the node a day ahead, reply lost", _skewed(86400), 0),
    Case("clock of the node a day behind, reply lost", _skewed(-86400), 0),
    Case("reset of a read", _fault("request", "reset", match="GET .*/storage"), 0),
    Case("node away while the task runs", _offline, 0),
    Case("listing fails after the upload",
         _fault("request", "status", 500, "stale", match="GET .*/content", skip=1), 7),
    # The swap itself fails: the new one stays under its versioned name.
    Case("swap: disk full", _fault("copy", "full", match=f"{BASE}.tar"), 7),
    Case("swap: node dies while it copies", _fault("copy", "die", match=f"{BASE}.tar"), 7),
    Case("swap: old one deleted, then task error",
         _fault("task", "fail", "command 'cp' failed", match="imgcopy", skip=1), 7, prune=True),
    Case("swap: reply of the deletion lost",
         _fault("reply", "lost", match="DELETE"), 0, prune=True),
    Case("swap: deletion fails",
         _fault("task", "fail", "rm failed", match="imgdel"), 7, prune=True),
    # The node downloads by itself.
    Case("download: reply lost", _fault("reply", "lost", match="download-url"), 0, fetch=True),
    Case("download: the URL is gone", _gone_url, 7, fetch=True),
    Case("download: other content at the URL", _other_url, 7, fetch=True, mend=_right_url),
    Case("download: task error",
         _fault("task", "fail", "download failed: wget", match="download"), 0, fetch=True),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LOOKS", 2)
    monkeypatch.setattr(tasks, "_LOOK_PAUSE", 0.1)
    for module in (api, storage):
        monkeypatch.setattr(module, "backoff", lambda _attempt: 0.01)


@contextlib.contextmanager
def _releases(here: Site, case: Case) -> Iterator[tuple[list[str], list[str], set[str]]]:
    """Yield how to name the old and the new release, and the checksums of both."""
    with contextlib.ExitStack() as stack:
        public = here.root / "public"
        folders = [publish(public / v, v, size=case.size) for v in ("v1", "v2")]
        good = here.known(folders[0]) | here.known(folders[1])
        if case.fetch:
            url = stack.enter_context(serving_files(public))
            places = [f"{url}{folder.name}/index.json" for folder in folders]
        else:
            places = [str(folder) for folder in folders]
        old, new = (["--from", place] for place in places)
        yield old, new, good


def test_there_are_enough_different_faults() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 25


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_costs_no_template_and_a_second_run_finishes(tmp_path: Path, case: Case) -> None:
    with (
        site(tmp_path, fetch=case.fetch, prune=case.prune) as here,
        _releases(here, case) as (old, new, good),
    ):
        assert here.run("promote", *old) == 0
        fake = here.fake
        case.arrange(fake)
        with watched(fake.folder("pve1", "tmpl"), good) as bad:
            assert here.run("promote", *new) == case.first
            fake.faults.clear()
            case.mend(fake)
            if case.name == "download: the URL is gone":
                publish(tmp_path / "again", "v2", size=case.size)
                (tmp_path / "again" / CONTRACT).rename(tmp_path / "public" / "v2" / CONTRACT)
            assert here.run("promote", *new) == 0
        assert bad == []
        expected = (tmp_path / "public" / "v2" / CONTRACT).read_bytes()
        assert here.stored()[CONTRACT] == expected
        assert list(fake.var_tmp("pve1").iterdir()) == []
        fake.calls.clear()
        assert here.run("promote", *new) == 0
        assert fake.writes == []


@pytest.mark.parametrize("kind", ["upload", "download-url"])
def test_a_lost_reply_does_not_send_twice(tmp_path: Path, kind: str) -> None:
    case = Case("", lambda _: None, 0, fetch=kind == "download-url")
    with site(tmp_path, fetch=case.fetch) as here, _releases(here, case) as (old, _, _):
        here.fake.task_seconds = 0.3  # the task still runs when it is looked for
        here.fake.inject("reply", "lost", match=kind)
        assert here.run("promote", *old) == 0
        assert len([call for call in here.fake.writes if kind in call.path]) == 1


def test_a_failed_swap_says_which_template_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("", lambda _: None, 0)
    with site(tmp_path) as here, _releases(here, case) as (old, new, _):
        here.run("promote", *old)
        here.fake.inject("copy", "full", match=f"{BASE}.tar")
        assert here.run("promote", *new) == 7
        assert f"tmpl:vztmpl/{STAGED}" in capsys.readouterr().err


def test_a_dripping_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_ANSWER_LIMIT", 0.5)
    case = Case("", lambda _: None, 0)
    done = threading.Event()
    with site(tmp_path) as here, _releases(here, case) as (old, _, _):
        here.fake.inject("request", "drip", done, match="GET .*/nodes$")
        assert here.run("promote", *old) == 0  # the second try is answered at once
        done.set()


def test_the_deadline_ends_a_task_that_never_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case("", lambda _: None, 0)
    with site(tmp_path) as here, _releases(here, case) as (old, _, _):
        here.fake.task_seconds = 3
        assert here.run("promote", *old, "--timeout", "1") == 7
        assert "not done within 1 seconds" in capsys.readouterr().err
        here.fake.task_seconds = 0
        for task in here.fake.tasks.values():
            assert task.thread is not None
            task.thread.join()
        assert here.run("promote", *old) == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_client_leaves_the_old_template_and_no_rest(
    tmp_path: Path, number: signal.Signals
) -> None:
    case = Case("", lambda _: None, 0, size=LARGE)
    started, go_on = threading.Event(), threading.Event()

    def hold(_fake: FakeProxmox) -> None:
        started.set()
        go_on.wait(20)

    with site(tmp_path) as here, _releases(here, case) as (old, new, good):
        assert here.run("promote", *old) == 0
        here.fake.inject("body:middle", "do", hold)
        argv = [*new, "--endpoint", here.fake.url, "--ca-file", str(here.fake.certificate)]
        argv += ["--storage", "tmpl", "--state", str(here.state)]
        with watched(here.fake.folder("pve1", "tmpl"), good) as bad:
            with subprocess.Popen(
                [sys.executable, "-m", "hakim_actions", "promote", *argv],
                env={"PROXMOX_TOKEN": here.token, "PYTHONPATH": os.pathsep.join(sys.path),
                     "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
                stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            ) as child:  # fmt: skip
                assert started.wait(20)
                child.send_signal(number)
                go_on.set()
                code = child.wait(20)
            assert code == (-number if number is signal.SIGKILL else 128 + number)
            assert here.run("promote", *new) == 0
        assert bad == []
        assert list(here.fake.var_tmp("pve1").iterdir()) == []
        if number is not signal.SIGKILL:
            assert list(tmp_path.glob("hakim-promote-*")) == []


def test_what_is_done_stays_done_when_one_node_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with site(tmp_path, nodes=("pve1", "pve2", "pve3")) as here:
        folder = here.release("v1", variants=("base", "php"))
        here.fake.inject("task", "fail", "import failed", match="imgcopy", skip=3)
        assert here.promote(folder, "--json", "--parallel", "1") == 7
        steps = json.loads(capsys.readouterr().out)["steps"]
        assert [step["result"] for step in steps].count("failed") == 1
        here.fake.calls.clear()
        assert here.promote(folder) == 0
        assert len(here.fake.writes) == 1
