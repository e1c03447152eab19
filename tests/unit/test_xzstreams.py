"""Streams that are unpacked side by side give what one after another would, whatever the file."""

import hashlib
import io
import lzma
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakim_actions.image import xzstreams
from hakim_actions.image.entries import EntryStore
from hakim_actions.image.xzreader import ArchiveError, XzReader

PARTS = [random.Random(n).randbytes(40_000) + bytes(3_000_000 * (n % 2)) for n in range(7)]
STREAMS = [lzma.compress(part, preset=0) for part in PARTS]
SMALL = [lzma.compress(bytes([n]) * 100) for n in range(2)]


@pytest.fixture
def kept(tmp_path: Path) -> EntryStore:
    return EntryStore(tmp_path / "unpacked", kind="stream")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one for each stream that is decoded."""
    decode = xzstreams.Unpacking._decode
    streams: list[int] = []

    def counted(self: xzstreams.Unpacking) -> Iterator[bytes]:
        streams.append(1)
        return decode(self)

    monkeypatch.setattr(xzstreams.Unpacking, "_decode", counted)
    return streams


def unpack(data: bytes, kept: EntryStore | None = None) -> tuple[bytes | str, bytes, list[bytes]]:
    """Return what *data* unpacks to or why it does not, and all that was observed."""
    packed: list[bytes] = []
    unpacked: list[bytes] = []
    observe = (unpacked.append,)
    with XzReader(
        io.BytesIO(data), observe=packed.append, observe_unpacked=observe, kept=kept
    ) as reader:
        try:
            found: bytes | str = reader.read(1 << 30)
        except ArchiveError as error:
            found = error.message
        reader.drain()
    return found, b"".join(packed), unpacked


def one_after_another(data: bytes, monkeypatch: pytest.MonkeyPatch) -> bytes | str:
    """Return what comes out if nothing is known about the streams of *data*."""
    with monkeypatch.context() as patch:
        patch.setattr(xzstreams, "_sizes", lambda _: [])
        return unpack(data)[0]


def damaged() -> bytes:
    stream = bytearray(STREAMS[3])
    stream[len(stream) // 2] ^= 0xFF
    return b"".join([*STREAMS[:3], stream, *STREAMS[4:]])


def with_index(stream: bytes, unpadded: int) -> bytes:
    """Return *stream* with an index that claims a block of *unpadded* bytes (below 2**14)."""
    index = bytes([0, 1, unpadded & 0x7F | 0x80, unpadded >> 7, 1])
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    flags = struct.pack("<I", len(index) // 4 - 1) + stream[6:8]
    return stream + index + struct.pack("<I", zlib.crc32(flags)) + flags + b"YZ"


FILES: dict[str, Callable[[], bytes]] = {
    "many streams": lambda: b"".join(STREAMS),
    "one stream": lambda: STREAMS[0],
    "an empty stream between": lambda: STREAMS[0] + lzma.compress(b"") + STREAMS[1],
    "padding between": lambda: STREAMS[0] + bytes(8) + STREAMS[1] + STREAMS[2],
    "padding that is no multiple of four": lambda: STREAMS[0] + bytes(3) + STREAMS[1],
    "padding at the end": lambda: STREAMS[0] + STREAMS[1] + bytes(4),
    "zeros before the first": lambda: bytes(4) + STREAMS[0] + STREAMS[1],
    "a damaged stream": damaged,
    "cut off": lambda: b"".join(STREAMS)[:-2000],
    "the start is missing": lambda: b"".join(STREAMS)[100:],
    "garbage between": lambda: STREAMS[0] + b"garbage!" + STREAMS[1] + STREAMS[2],
    "garbage behind": lambda: STREAMS[0] + STREAMS[1] + b"garbage",
    "nothing": lambda: b"",
    "an index too many, which claims two streams": lambda: with_index(
        SMALL[0] + SMALL[1], len(SMALL[0] + SMALL[1]) - 12
    ),
    "an index too many, which claims itself": lambda: STREAMS[0] + with_index(SMALL[0], 20),
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_the_outcome_is_that_of_one_stream_after_another(
    make: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()

    found, packed, unpacked = unpack(data)

    assert found == one_after_another(data, monkeypatch)
    assert packed == data
    if isinstance(found, bytes):
        assert b"".join(unpacked) == found


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_the_outcome_is_the_same_with_streams_that_are_kept(
    make: Callable[[], bytes], kept: EntryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make()
    expected = one_after_another(data, monkeypatch)
    unpack(b"".join(STREAMS), kept)

    first, second = unpack(data, kept), unpack(data, kept)

    assert first[:2] == second[:2] == (expected, data)
    if isinstance(expected, bytes):
        assert b"".join(first[2]) == b"".join(second[2]) == expected


def test_a_stream_that_another_archive_had_is_not_decoded_again(
    kept: EntryStore, decoded: list[int]
) -> None:
    unpack(b"".join(STREAMS[:5]), kept)
    assert len(decoded) == 5

    found, _, _ = unpack(b"".join(STREAMS), kept)

    assert found == b"".join(PARTS)
    assert len(decoded) == len(STREAMS)


def test_a_kept_stream_that_was_damaged_is_decoded_again(
    kept: EntryStore, decoded: list[int]
) -> None:
    unpack(b"".join(STREAMS), kept)
    decoded.clear()
    victim = max(kept.folder.rglob("*.stream"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)

    found, _, _ = unpack(b"".join(STREAMS), kept)

    assert found == b"".join(PARTS)
    assert len(decoded) == 1
    assert [warning for warning in kept.warnings if "was damaged" in warning]


def test_a_damaged_stream_is_never_kept(kept: EntryStore) -> None:
    good, bad = STREAMS[2], damaged()[sum(map(len, STREAMS[:3])) :][: len(STREAMS[3])]

    assert unpack(damaged(), kept)[0] == unpack(damaged(), kept)[0]

    found = kept.get(hashlib.sha256(good).hexdigest())
    assert found is not None
    assert bytes(found) == PARTS[2]
    assert kept.get(hashlib.sha256(bad).hexdigest()) is None


def test_what_is_no_single_whole_stream_is_not_kept(
    kept: EntryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept are only bytes that unpack to the same wherever they stand."""
    whole, two = len(STREAMS[0]), len(STREAMS[1] + STREAMS[2])
    monkeypatch.setattr(xzstreams, "_sizes", lambda _: [whole, two, 40_000])

    found, _, _ = unpack(b"".join(STREAMS), kept)

    assert found == b"".join(PARTS)
    assert len(list(kept.folder.rglob("*.stream"))) == 1


def test_what_unpacks_to_much_is_not_kept(
    kept: EntryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xzstreams, "_LONGEST_KEPT", 100_000)

    assert unpack(b"".join(STREAMS), kept)[0] == b"".join(PARTS)

    assert len(list(kept.folder.rglob("*.stream"))) == sum(len(part) <= 100_000 for part in PARTS)


@pytest.mark.parametrize("lie", [[1000], [7, 7], [40_000] * 3, [len(STREAMS[0]) + 12, 10**6]])
def test_wrong_places_of_streams_change_nothing(
    lie: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xzstreams, "_sizes", lambda _: lie)

    found, packed, _ = unpack(b"".join(STREAMS))

    assert found == b"".join(PARTS)
    assert packed == b"".join(STREAMS)


def test_every_stream_is_found_from_the_end_of_the_file() -> None:
    sizes = xzstreams._sizes(io.BytesIO(b"".join(STREAMS)))

    assert sizes == [len(stream) for stream in STREAMS]


def test_what_stands_behind_a_long_stream_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    long = lzma.compress(random.Random(9).randbytes(100_000))
    monkeypatch.setattr(xzstreams, "_LONGEST", len(long) - 1)
    data = STREAMS[0] + STREAMS[1] + long + STREAMS[2]

    sizes = xzstreams._sizes(io.BytesIO(data))

    assert sizes == [len(STREAMS[0]), len(STREAMS[1])]
    assert len(unpack(data)[0]) == sum(map(len, PARTS[:3])) + 100_000


def test_the_next_stream_is_unpacked_while_the_first_is_read() -> None:
    streams = xzstreams.StreamsAhead(io.BytesIO(b"".join(STREAMS)), lambda _: None)
    first = streams.next_stream()
    assert first is not None
    second = streams._ahead[0]

    assert second._ready.acquire(timeout=30)

    assert second._pieces[0] == PARTS[1][: xzstreams.PIECE]
    streams.stop()


def test_a_stream_that_unpacks_to_much_waits_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xzstreams, "_WAITING", 4)
    unpacking = xzstreams.Unpacking(lzma.compress(bytes(64 << 20), preset=0))
    time.sleep(0.5)

    assert len(unpacking._pieces) == 4

    assert sum(len(piece) for piece in iter(unpacking.next, None)) == 64 << 20


def test_no_thread_is_left_when_a_reader_is_left_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xzstreams, "_WAITING", 4)
    before = set(threading.enumerate())
    data = 3 * lzma.compress(bytes(16 << 20), preset=0)

    with XzReader(io.BytesIO(data), observe=lambda _: None) as reader:
        assert reader.read(1) == b"\0"
        assert set(threading.enumerate()) > before

    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)
    assert set(threading.enumerate()) <= before


def test_nothing_is_unpacked_for_what_is_only_to_be_hashed() -> None:
    data = 100 * lzma.compress(bytes(1 << 20), preset=0)
    packed = bytearray()
    reader = XzReader(io.BytesIO(data), observe=packed.extend)
    before = threading.active_count()

    reader.drain()

    assert packed == data
    assert threading.active_count() == before
