"""What the cache gave to a build and what it took: measured, but for the time that was saved.

That is estimated from what was recorded when a layer was made and when a piece was compressed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hakim_actions.image.layers import LayerStore
from hakim_actions.image.pack import PackReport
from hakim_actions.image.stopwatch import Stopwatch
from hakim_actions.system.progress import PhaseClock

Layer = Literal["", "hit", "made"]
#: The phases (distrobuilder.py) that a layer spares; with one, the first is unpacking it.
_START, _INSTALL = "source", "packages"


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """What came from the cache. Sizes are in bytes; of pieces, that of what they were made from.

    ``layer`` is empty where the image was made without one. ``pieces`` is 0 where none are kept.
    ``seconds`` were spent on checking, reading and writing, ``saved`` is about what the build
    would have taken longer without the cache, before those are taken off.
    """

    layer: Layer = ""
    layer_bytes: int = 0
    pieces: int = 0
    pieces_reused: int = 0
    bytes_reused: int = 0
    seconds: float = 0.0
    saved: float = 0.0

    def counts(self) -> dict[str, str | int]:
        """Return what came from the cache as the manifest has it: nothing where there was none."""
        if not self.used:
            return {}
        names = ("layer", "pieces", "pieces_reused")
        return {name: getattr(self, name) for name in names}

    @property
    def used(self) -> bool:
        """Whether there was a cache at all."""
        return bool(self.layer or self.pieces)

    @property
    def new_pieces(self) -> bool:
        """Whether something was compressed that the next build may reuse."""
        return self.pieces_reused < self.pieces

    @property
    def gave(self) -> bool:
        """Whether something came out of it; the first build only fills it."""
        return self.layer == "hit" or self.pieces_reused > 0

    @property
    def loses(self) -> bool:
        """Whether using it took longer than it saved."""
        return self.gave and self.saved < self.seconds


class CacheMeter:
    """Stands between one build and the store of layers, and measures."""

    def __init__(self, clock: PhaseClock) -> None:
        """Read the phases of the build from *clock*."""
        self._clock = clock
        self._layer: Layer = ""
        self._layer_bytes = 0
        self._watch = Stopwatch()
        self._made_in = 0.0

    def get_layer(self, store: LayerStore, key: str) -> Path | None:
        """Return the layer of *key* if it may be used; see :meth:`LayerStore.get`."""
        with self._watch.running():
            tar = store.get(key)
        if tar is not None:
            self._layer, self._layer_bytes = "hit", tar.stat().st_size
            self._made_in = store.seconds(key)
        return tar

    def put_layer(self, store: LayerStore, key: str, tar: Path) -> Path:
        """Keep *tar*, which this build has just made, as the layer of *key*.

        Returns where it is then; see :meth:`LayerStore.put`.
        """
        phases = self._clock.seconds
        made_in = phases.get(_START, 0.0) + phases.get(_INSTALL, 0.0)
        with self._watch.running():
            kept = store.put(key, tar, seconds=made_in)
        if kept == tar:
            self._clock.progress.note(
                f"The base layer is not kept in {store.folder}: no room or no right."
            )
        else:
            self._layer = "made"
        return kept

    def use(self, packed: PackReport, *, stored: bool) -> CacheUse:
        """Return the sum, after packing; *stored* tells whether pieces are kept."""
        unpacking = self._clock.seconds.get(_START, 0.0)
        return CacheUse(
            layer=self._layer,
            layer_bytes=self._layer_bytes,
            pieces=packed.pieces if stored else 0,
            pieces_reused=packed.pieces_reused,
            bytes_reused=packed.raw_bytes - packed.bytes_compressed if stored else 0,
            seconds=round(self._watch.seconds + packed.store_seconds, 3),
            saved=round(max(self._made_in - unpacking, 0.0) + packed.saved_seconds, 3),
        )
