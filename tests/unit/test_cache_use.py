"""What the cache cost is measured, what it saved was recorded, and who loses by it is told."""

import time
from pathlib import Path

import pytest
from rootfs import make_rootfs_tar

from hakim_actions.artifact import FileRecord, Manifest
from hakim_actions.cli import build_report
from hakim_actions.cli.main import App
from hakim_actions.image import pieces
from hakim_actions.image.build import Built
from hakim_actions.image.cachekeys import CacheKey
from hakim_actions.image.cacheuse import CacheMeter, CacheUse
from hakim_actions.image.layers import LayerStore
from hakim_actions.image.pack import PackReport, pack_tar
from hakim_actions.image.pieces import Piece, PieceStore
from hakim_actions.system.progress import PhaseClock, Silent

KEY = "a" * 64
EPOCH = 1_767_225_600
#: What hashing takes in these tests.
PAUSE = 0.05


class SlowStore(LayerStore):
    """A store whose disk is slow."""

    def get(self, key: str) -> Path | None:
        time.sleep(PAUSE)
        return super().get(key)

    def put(self, key: str, tar: Path, *, seconds: float = 0.0) -> Path:
        time.sleep(PAUSE)
        return super().put(key, tar, seconds=seconds)


class Listener(Silent):
    """Keeps what people should read."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def clock(**seconds: float) -> PhaseClock:
    found = PhaseClock(Silent())
    found.seconds.update(seconds)
    return found


def packed(
    *, reused: int = 0, store_seconds: float = 0.0, saved_seconds: float = 0.0
) -> PackReport:
    return PackReport(
        raw_bytes=1000,
        packed_bytes=100,
        sha256="",
        pieces=10,
        pieces_reused=reused,
        bytes_compressed=1000 - 100 * reused,
        seconds=1,
        devices=0,
        store_seconds=store_seconds,
        saved_seconds=saved_seconds,
    )


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(b"x" * 2048)
    return path


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return SlowStore(folder=tmp_path / "layers")


# ---------------------------------------------------------------- layers


def test_a_build_that_makes_the_layer_records_what_it_took(store: LayerStore, tar: Path) -> None:
    meter = CacheMeter(clock(mirror=1, source=30, packages=40, setup=5))
    assert meter.get_layer(store, KEY) is None
    meter.put_layer(store, KEY, tar)

    use = meter.use(packed(), stored=True)

    assert store.seconds(KEY) == 70
    assert (use.layer, use.saved, use.gave) == ("made", 0, False)
    assert 2 * PAUSE <= use.seconds < 2


def test_a_build_on_a_layer_saves_that_but_for_unpacking_it(store: LayerStore, tar: Path) -> None:
    store.put(KEY, tar, seconds=70)
    meter = CacheMeter(clock(source=3, packages=20))
    layer = meter.get_layer(store, KEY)

    use = meter.use(packed(), stored=False)

    assert layer is not None
    assert (use.layer, use.layer_bytes, use.saved) == ("hit", 2048, 67)
    assert (use.pieces, use.bytes_reused) == (0, 0)
    assert PAUSE <= use.seconds < 2


def test_a_layer_slower_to_unpack_than_to_make_saves_nothing(store: LayerStore, tar: Path) -> None:
    store.put(KEY, tar, seconds=2)
    meter = CacheMeter(clock(source=3))
    meter.get_layer(store, KEY)

    use = meter.use(packed(), stored=False)

    assert use.saved == 0
    assert use.loses


def test_a_layer_that_cannot_be_kept_is_said_and_used_by_this_build(
    tar: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store = LayerStore(folder=tmp_path / "file")
    listener = Listener()
    meter = CacheMeter(PhaseClock(listener))

    assert meter.put_layer(store, KEY, tar) == tar
    assert listener.notes == [f"The base layer is not kept in {store.folder}: no room or no right."]
    assert meter.use(packed(), stored=False).layer == "", "there is nothing to save"


# ---------------------------------------------------------------- pieces


def test_packing_measures_the_store_and_adds_up_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    store = PieceStore(tmp_path / "pieces")
    cold = pack_tar(source, tmp_path / "a.tar.xz", epoch=EPOCH, store=store)
    get = PieceStore.get

    def slow_get(self: PieceStore, raw_sha256: str, settings: str) -> Piece | None:
        time.sleep(PAUSE)
        found = get(self, raw_sha256, settings)
        return found and Piece(found.data, 3.0)

    monkeypatch.setattr(pieces.PieceStore, "get", slow_get)
    warm = pack_tar(source, tmp_path / "b.tar.xz", epoch=EPOCH, store=store, threads=2)

    assert cold.saved_seconds == 0
    assert cold.store_seconds > 0
    assert warm.pieces_reused == warm.pieces
    assert warm.saved_seconds == 3.0 * warm.pieces / 2, "two workers share it"
    assert PAUSE * warm.pieces / 2 <= warm.store_seconds < 10


def test_what_compressing_took_is_recorded_with_each_piece(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    store = PieceStore(tmp_path / "pieces")
    pack_tar(source, tmp_path / "a.tar.xz", epoch=EPOCH, store=store)

    assert pack_tar(source, tmp_path / "b.tar.xz", epoch=EPOCH, store=store).saved_seconds > 0


def test_without_a_store_packing_spends_nothing_on_it(tmp_path: Path) -> None:
    source = make_rootfs_tar(tmp_path / "rootfs.tar")
    report = pack_tar(source, tmp_path / "a.tar.xz", epoch=EPOCH)

    assert (report.saved_seconds, report.store_seconds) == (0, 0)


# ---------------------------------------------------------------- what is told

FULL = CacheUse(
    layer="hit",
    layer_bytes=5 * 10**8,
    pieces=410,
    pieces_reused=400,
    bytes_reused=6 * 10**8,
    seconds=4.2,
    saved=130,
)
FIRST = CacheUse(layer="made", pieces=410, seconds=3.0)
LOSING = CacheUse(layer="hit", pieces=410, pieces_reused=1, seconds=12.0, saved=4.0)
KEYS = {
    "layer": CacheKey(folder="layers", key="layer-17", restore=()),
    "pieces": CacheKey(folder="pieces", key="pieces-17", restore=()),
}


def tell(use: CacheUse, folder: Path, *, keys: dict[str, CacheKey] | None = None) -> str:
    """Tell of one image, and return the summary and the outputs of the step."""
    manifest = Manifest(
        variant="php",
        release="trixie",
        arch="amd64",
        version="v1",
        commit="c",
        epoch=EPOCH,
        distrobuilder="3.3.1",
        files=(),
        packages={},
    )
    archive = FileRecord(name="x", size=1000, sha256="0" * 64)
    built = Built(folder=folder, archive=archive, manifest=manifest, seconds=60, cache=use)
    places = {"GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": "output"}
    env = {name: str(folder / file) for name, file in places.items()}
    build_report.tell([built], {}, App(env=env), keys=KEYS if keys is None else keys, as_json=False)
    return (folder / "summary").read_text() + (folder / "output").read_text()


def test_the_summary_has_hit_bytes_seconds_and_what_was_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tell(FULL, tmp_path)

    assert "| hit | 400 of 410, 600.0 MB | 4.2 s | about 2 min 10 s |" in said
    assert "WARNING" not in said
    printed = capsys.readouterr().out
    assert "layer hit, 400/410 pieces (600.0 MB), took 4.2 s, saved about 2 min 10 s" in printed


def test_a_first_build_only_fills_the_cache_and_is_not_blamed(tmp_path: Path) -> None:
    said = tell(FIRST, tmp_path)

    assert "| made | 0 of 410, 0 B | 3.0 s | nothing yet |" in said
    assert "WARNING" not in said


def test_it_says_when_the_cache_costs_more_than_it_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tell(LOSING, tmp_path)

    assert (
        "> The cache costs more than it gives: it took hakim-php-trixie-amd64 12.0 s and saved"
        " about 4.0 s." in said
    )
    assert "it costs more than it gives" in capsys.readouterr().out


def test_without_a_cache_there_is_nothing_to_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tell(CacheUse(), tmp_path, keys={})

    assert "| — | — | — | — |" in said
    assert "layer-key" not in said
    assert "cache     not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("use", "layer", "pieces"),
    [
        (FIRST, "layer-17", "pieces-17"),
        (FULL, "", "pieces-17"),
        (CacheUse(layer="hit", pieces=5, pieces_reused=5), "", ""),
    ],
    ids=["first", "some new pieces", "nothing new"],
)
def test_only_what_is_new_gets_a_key_to_save_under(
    tmp_path: Path, use: CacheUse, layer: str, pieces: str
) -> None:
    lines = tell(use, tmp_path).splitlines()

    for name, value in (("layer-key", layer), ("pieces-key", pieces)):
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{name}<<")]
        assert lines[at + 1] == value
