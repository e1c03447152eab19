"""Makes the artifact: from the tar that distrobuilder leaves to a deterministic ``.tar.xz``.

An ``.xz`` file may be several streams, one after another
(https://tukaani.org/xz/xz-file-format.txt, section 2). Each piece of the tar is a stream of its
own: pieces are compressed side by side, and one that a store has is not compressed again.

Each worker reads its piece twice, once for the hash and once to compress it, so no piece is ever
in memory as a whole and the memory needed does not depend on the size of the image.
"""

import contextlib
import hashlib
import lzma
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import BuildError
from hakim_actions.image import order, tar, ustar
from hakim_actions.image.inventory import InventoryReader
from hakim_actions.image.pieces import Piece, PieceStore
from hakim_actions.image.stopwatch import Stopwatch
from hakim_actions.system.files import replacing

#: A build machine is often small: packing stays under 400 MiB. Encoders get most of that, packed
#: pieces that wait for one before them the rest, but for what Python and the members need.
ENCODER_MEMORY: Final = 288 << 20
WAITING_MEMORY: Final = 72 << 20
#: The dictionaries of xz's presets 0 to 9; https://www.mankier.com/1/xz
_DICTIONARY: Final = tuple(n << 18 for n in (1, 4, 8, 16, 16, 32, 32, 64, 128, 256))
#: From this preset on, a match of 48 bytes is long enough instead of 64, and the best of 20 is good
#: enough instead of 48: a fifth less work for 0.4 % of the size, which our order more than wins
#: back (docs/adr/0003-incremental-xz.md).
_SLOW_LEVEL: Final = 6
_FASTER: Final = {"nice_len": 48, "depth": 20}
#: Bytes of encoder memory for a byte of dictionary, with liblzma's binary tree match finder.
_MEMORY_FACTOR: Final = 12
_CHUNK: Final = 1 << 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class PackReport:
    """What was packed. Sizes are in bytes, *sha256* is that of the ``.tar.xz``.

    *bytes_compressed* are raw bytes of pieces that were not in the store. *store_seconds* were
    spent on reading and writing it, *saved_seconds* is what compressing the reused pieces took
    when it was done; both as if the workers had shared it evenly. *devices* counts the device
    nodes that were left out. *warnings* say what went wrong without stopping the build.
    """

    raw_bytes: int
    packed_bytes: int
    sha256: str
    pieces: int
    pieces_reused: int
    bytes_compressed: int
    seconds: float
    devices: int
    store_seconds: float = 0.0
    saved_seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def pack_tar(
    source: Path,
    target: Path,
    *,
    epoch: int,
    common: Collection[str] = (),
    level: int = 6,
    threads: int | None = None,
    store: PieceStore | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Pack the uncompressed tar *source* as *target*; the same members give the same bytes.

    No member is younger than *epoch* (seconds since 1970), none older than 1970. *common* are
    packages that other images are made with, too: their pieces, and those of all that they need,
    are the same in each. *level* is xz's
    preset (0 to 9). *threads* defaults to the processors this process may use; fewer work while
    their encoders do not fit ENCODER_MEMORY. *progress* is told bytes of files done and in all.

    Raises BuildError when *source* is not a whole tar, has a path twice, or *target* cannot be
    written.
    """
    began = time.monotonic()
    with tar.opened(source) as read_at:
        members, inventory = _members(read_at, source=source.name, epoch=epoch)
        kept = order.settle(members)
        needed = inventory.needed(common)
        pieces = list(order.pieces(kept, inventory.owners(), common=needed))
        worker = _Worker(read_at, level=level, store=store)
        count = threads or len(os.sched_getaffinity(0))
        total = _Total(progress, sum(member.size for member in kept))
        try:
            with replacing(target) as stream, _ordered(worker, pieces, count) as packed:
                for piece in packed:
                    total.add(piece)
                    stream.write(piece.packed.data)
        except OSError as error:
            msg = f"Cannot write {target}: {error.strerror}."
            raise BuildError(msg, hint="Make room, or choose another output folder.") from None
    return total.report(
        seconds=time.monotonic() - began,
        devices=len(members) - len(kept),
        workers=count,
        warnings=tuple(store.warnings) if store else (),
    )


def _members(
    read_at: tar.ReadAt, *, source: str, epoch: int
) -> tuple[list[tar.Member], InventoryReader]:
    """Return the members with clamped times, the root directory among them, and the packages."""
    ahead = tar.reading_ahead(read_at)
    inventory = InventoryReader(read_at)
    members = []
    for member in tar.scan(ahead, source=source):
        inventory.notice(member)
        members.append(member)
    owners = inventory.owners()
    for member in members:
        latest = member.mtime if _is_packaged_python(member, owners) else epoch
        member.mtime = min(max(member.mtime, 0), latest)
    if not any(member.path == b"" for member in members):
        root = tar.Member(path=b"", kind=tar.FOLDER, mode=0o755, uid=0, gid=0, mtime=epoch)
        members.append(root)
    return members, inventory


def _is_packaged_python(member: tar.Member, owners: Mapping[bytes, str]) -> bool:
    """Tell whether *member* is a module that a package brought, with the time the package gave it.

    A security update may be younger than the commit. Its time is the same in every build, and
    the compiled module beside it names it: with another one Python would compile it at each start.
    https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
    """
    return member.path.endswith(b".py") and member.path in owners


@dataclass(frozen=True)
class _Packed:
    """A piece as it is written; *size* is that of its raw bytes, *content* that of its files.

    *in_store* are the seconds that the store took.
    """

    packed: Piece
    size: int
    content: int
    reused: bool
    in_store: float = 0.0


class _Total:
    """Adds up what was written."""

    def __init__(self, progress: Progress | None, content: int) -> None:
        self._progress = progress
        self._content = content
        self._done = 0
        self._sums = dict.fromkeys(
            ("raw_bytes", "packed_bytes", "pieces", "pieces_reused", "bytes_compressed"), 0
        )
        self._in_store = self._saved = 0.0
        self._digest = hashlib.sha256()

    def add(self, piece: _Packed) -> None:
        self._digest.update(piece.packed.data)
        self._sums["raw_bytes"] += piece.size
        self._sums["packed_bytes"] += len(piece.packed.data)
        self._sums["pieces"] += 1
        self._sums["pieces_reused"] += piece.reused
        self._sums["bytes_compressed"] += 0 if piece.reused else piece.size
        self._in_store += piece.in_store
        self._saved += piece.packed.seconds if piece.reused else 0
        self._done += piece.content
        if self._progress is not None:
            self._progress(self._done, self._content)

    def report(
        self, *, seconds: float, devices: int, workers: int, warnings: tuple[str, ...]
    ) -> PackReport:
        return PackReport(
            **self._sums,
            sha256=self._digest.hexdigest(),
            seconds=seconds,
            devices=devices,
            store_seconds=self._in_store / workers,
            saved_seconds=self._saved / workers,
            warnings=warnings,
        )


@contextlib.contextmanager
def _ordered(
    worker: "_Worker", pieces: Sequence[order.Piece], threads: int
) -> Iterator[Iterator[_Packed]]:
    """Give the pieces, packed by *threads* at once, in their order."""
    with ThreadPoolExecutor(threads, thread_name_prefix="pack") as pool:
        try:
            yield _results(lambda piece: pool.submit(worker.pack, piece), pieces)
        except BaseException:
            worker.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _results(
    submit: Callable[[order.Piece], Future[_Packed]], pieces: Sequence[order.Piece]
) -> Iterator[_Packed]:
    """Submit as many pieces ahead of the one to be written as may wait in memory."""
    waiting: deque[tuple[int, Future[_Packed]]] = deque()
    held = 0
    for piece in [*pieces, _END]:
        size = sum(part.stop - part.start + tar.BLOCK for part in piece)
        while waiting and held + size > WAITING_MEMORY:
            freed, future = waiting.popleft()
            held -= freed
            yield future.result()
        waiting.append((size, submit(piece)))
        held += size
    for _, future in waiting:
        yield future.result()


class Budget:
    """An amount of memory that threads share; who needs more than is left waits."""

    def __init__(self, size: int) -> None:
        """Start with *size* bytes."""
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Hold *size* bytes for the block, or all there are if that is less."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


#: The piece after the last one: the end-of-archive marker.
_END: Final[order.Piece] = []


class _Worker:
    """Turns a piece into an ``.xz`` stream, or finds it in the store; safe in many threads."""

    def __init__(self, read_at: tar.ReadAt, *, level: int, store: PieceStore | None) -> None:
        self._read_at = read_at
        self._level = level
        self._store = store
        self._stopped = threading.Event()
        self._memory = Budget(ENCODER_MEMORY)

    def stop(self) -> None:
        """End all work soon; nobody waits for its result any more."""
        self._stopped.set()

    def pack(self, piece: order.Piece) -> _Packed:
        digest, size = hashlib.sha256(), 0
        for chunk in self._raw(piece):
            digest.update(chunk)
            size += len(chunk)
        dictionary = dictionary_for(self._level, size)
        lzma2 = {"id": lzma.FILTER_LZMA2, "preset": self._level, "dict_size": dictionary}
        if self._level >= _SLOW_LEVEL:
            lzma2 |= _FASTER
        settings = f"xz crc64 {sorted(lzma2.items())}"
        key = digest.hexdigest()
        content = sum(part.stop - part.start for part in piece)
        if self._store is None:
            packed = self._compress(piece, lzma2, contextlib.nullcontext())
            return _Packed(packed, size, content, reused=False)
        watch = Stopwatch()
        with watch.running():
            found = self._store.get(key, settings)
        if found is not None:
            return _Packed(found, size, content, reused=True, in_store=watch.seconds)
        with self._store.alone(key, settings):
            with watch.running():
                found = self._store.get(key, settings)
            made = found or self._compress(piece, lzma2, self._store.encoding(self._stopped))
            if found is None:
                with watch.running():
                    self._store.put(key, settings, made)
        reused = found is not None
        return _Packed(made, size, content, reused=reused, in_store=watch.seconds)

    def _compress(
        self,
        piece: order.Piece,
        lzma2: dict[str, int],
        turn: contextlib.AbstractContextManager[None],
    ) -> Piece:
        with self._memory.holding(_MEMORY_FACTOR * lzma2["dict_size"]), turn:
            began = time.thread_time()
            encoder = lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=[lzma2])
            data = [encoder.compress(chunk) for chunk in self._raw(piece)]
            return Piece(b"".join([*data, encoder.flush()]), time.thread_time() - began)

    def _raw(self, piece: order.Piece) -> Iterator[bytearray]:
        """Yield the bytes of *piece* as they stand in the tar, about a megabyte at a time."""
        buffer = bytearray()
        for part in piece:
            if part.start == 0:
                buffer += ustar.header(part.member)
            for chunk in self._data(part):
                buffer += chunk
                if len(buffer) >= _CHUNK:
                    yield buffer
                    buffer = bytearray()
            if part.stop == part.member.size:
                buffer += bytes(tar.padded(part.stop) - part.stop)
        yield buffer if piece else bytearray(ustar.END)

    def _data(self, part: order.Part) -> Iterator[bytes]:
        for at in range(part.start, part.stop, _CHUNK):
            if self._stopped.is_set():
                raise CancelledError
            length = min(_CHUNK, part.stop - at)
            data = tar.content(part.member, self._read_at, start=at, length=length)
            if len(data) < length:
                msg = "The tar became shorter while it was packed."
                raise BuildError(msg, hint="Nothing else may write to it; build again.")
            yield data


def dictionary_for(level: int, size: int) -> int:
    """Return the dictionary for *size* raw bytes: that of the preset, or what holds them all.

    The format knows 2**n and 2**n + 2**(n-1) bytes, from 4 KiB on.
    """
    power = 1 << max(size - 1, 4095).bit_length()
    return min(_DICTIONARY[level], power * 3 // 4 if size <= power * 3 // 4 > 4096 else power)
