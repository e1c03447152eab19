"""The store never gives anything but what was put in, and never stops a build."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hakim_actions.image.pieces import Piece, PieceStore

RAW = "a" * 64
SETTINGS = "preset=6"


@pytest.fixture
def store(tmp_path: Path) -> PieceStore:
    return PieceStore(tmp_path / "pieces")


def _files(store: PieceStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def test_what_was_put_is_found_again_also_by_another_process(store: PieceStore) -> None:
    store.put(RAW, SETTINGS, Piece(b"compressed"))
    assert PieceStore(store.folder).get(RAW, SETTINGS) == Piece(b"compressed")


def test_a_piece_tells_what_compressing_it_took(store: PieceStore) -> None:
    store.put(RAW, SETTINGS, Piece(b"compressed", 1.5))
    found = store.get(RAW, SETTINGS)
    assert found is not None
    assert found.seconds == 1.5


def test_a_piece_is_found_by_its_bytes_and_its_settings(store: PieceStore) -> None:
    store.put(RAW, SETTINGS, Piece(b"compressed"))
    assert store.get("b" * 64, SETTINGS) is None
    assert store.get(RAW, "preset=1") is None
    assert store.warnings == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:0],
        lambda content: content[:35],
        lambda content: b"\0" * len(content),
        lambda content: content[:40] + bytes([content[40] ^ 1]) + content[41:],
    ],
    ids=["short", "long", "empty", "no time", "zeros", "one bit"],
)
def test_a_damaged_entry_is_removed_and_can_be_put_again(
    store: PieceStore, damage: Callable[[bytes], bytes]
) -> None:
    store.put(RAW, SETTINGS, Piece(b"compressed" * 9))
    (entry,) = _files(store)
    entry.write_bytes(damage(entry.read_bytes()))
    assert store.get(RAW, SETTINGS) is None
    assert _files(store) == []
    assert "damaged" in store.warnings[0]
    store.put(RAW, SETTINGS, Piece(b"again"))
    assert store.get(RAW, SETTINGS) == Piece(b"again")


def test_an_entry_under_the_name_of_another_is_damaged(store: PieceStore) -> None:
    store.put(RAW, SETTINGS, Piece(b"one"))
    wrong = store.path("b" * 64, SETTINGS)
    wrong.parent.mkdir(exist_ok=True)
    store.path(RAW, SETTINGS).rename(wrong)
    assert store.get("b" * 64, SETTINGS) is None


def test_use_makes_an_entry_young(store: PieceStore) -> None:
    store.put(RAW, SETTINGS, Piece(b"compressed"))
    (entry,) = _files(store)
    os.utime(entry, (1, 1))
    store.get(RAW, SETTINGS)
    assert entry.stat().st_mtime > 1


def test_a_full_disk_is_said_once_and_leaves_no_half_entry(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Path, _target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    store.put(RAW, SETTINGS, Piece(b"one"))
    store.put("b" * 64, SETTINGS, Piece(b"two"))
    assert _files(store) == []
    assert store.warnings == [f"Pieces are not kept in {store.folder}: No space left on device."]


def test_a_folder_that_is_a_file_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "pieces").write_text("in the way")
    store = PieceStore(tmp_path / "pieces")
    store.put(RAW, SETTINGS, Piece(b"one"))
    assert store.get(RAW, SETTINGS) is None
    assert any("not kept" in warning for warning in store.warnings)


def test_two_builds_may_put_and_get_the_same_piece_at_once(store: PieceStore) -> None:
    content = Piece(b"compressed" * 50_000, 0.25)
    seen: list[Piece | None] = []

    def work() -> None:
        for _ in range(20):
            other = PieceStore(store.folder)
            other.put(RAW, SETTINGS, content)
            seen.append(other.get(RAW, SETTINGS))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [content] * 80
    assert len(_files(store)) == 1


def test_no_more_encoders_run_than_there_are_processors(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever builds they belong to."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    running = [0]
    most = [0]
    lock = threading.Lock()

    def work() -> None:
        with PieceStore(store.folder).encoding(threading.Event()):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.05)
            with lock:
                running[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [2]


def test_who_is_stopped_waits_for_no_encoder(
    store: PieceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    stopped = threading.Event()
    stopped.set()
    with store.encoding(threading.Event()), PieceStore(store.folder).encoding(stopped):
        pass


def test_a_folder_that_cannot_be_written_limits_no_encoder(tmp_path: Path) -> None:
    (tmp_path / "pieces").write_text("in the way")
    store = PieceStore(tmp_path / "pieces")
    with store.encoding(threading.Event()), store.encoding(threading.Event()):
        pass
