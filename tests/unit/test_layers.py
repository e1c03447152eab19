"""A layer is used only when it is the right one, whole, and young enough."""

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from hakim_actions.artifact import Archive, ArtifactName
from hakim_actions.content import Sources
from hakim_actions.image.layers import LayerStore, layer_key

KEY = "a" * 64
DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return LayerStore(folder=tmp_path / "layers", max_age_days=7)


def filled(store: LayerStore, tmp_path: Path) -> Path:
    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(b"rootfs")
    return store.put(KEY, tar)


def test_a_layer_is_found_by_its_key_and_is_no_copy(store: LayerStore, tmp_path: Path) -> None:
    assert store.get(KEY) is None

    layer = filled(store, tmp_path)

    assert store.get(KEY) == layer
    assert layer.read_bytes() == b"rootfs"
    assert layer.samefile(tmp_path / "rootfs.tar"), "who made it still reads it"


def test_on_another_disk_the_layer_is_a_copy(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)

    layer = filled(store, tmp_path)

    assert store.get(KEY) == layer
    assert not layer.samefile(tmp_path / "rootfs.tar")


def test_a_damaged_layer_is_removed_and_not_used(store: LayerStore, tmp_path: Path) -> None:
    layer = filled(store, tmp_path)
    layer.write_bytes(b"rootFs")

    assert store.get(KEY) is None
    assert not layer.exists()


def test_a_layer_without_its_checksum_is_not_used(store: LayerStore, tmp_path: Path) -> None:
    """That is what a kill in the middle of put leaves."""
    filled(store, tmp_path).with_suffix(".sha256").unlink()

    assert store.get(KEY) is None


@pytest.mark.parametrize(("age", "used"), [(6.9, True), (7.1, False), (-30, True)])
def test_age_counts_from_when_it_was_made(
    store: LayerStore, tmp_path: Path, age: float, used: bool
) -> None:
    layer = filled(store, tmp_path)
    made = time.time() - age * DAY
    os.utime(layer.with_suffix(".sha256"), (made, made))

    assert (store.get(KEY) is not None) is used


def test_using_a_layer_does_not_make_it_younger(store: LayerStore, tmp_path: Path) -> None:
    digest = filled(store, tmp_path).with_suffix(".sha256")
    made = digest.stat().st_mtime

    store.get(KEY)

    assert digest.stat().st_mtime == made


def test_a_layer_tells_how_long_making_it_took(store: LayerStore, tmp_path: Path) -> None:
    assert store.seconds(KEY) == 0

    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(b"rootfs")
    store.put(KEY, tar, seconds=83.25)

    assert LayerStore(folder=store.folder).seconds(KEY) == 83.25


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "layers").write_text("in the way")
    store = LayerStore(folder=tmp_path / "layers")
    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(b"rootfs")

    with store.alone(KEY):
        assert store.get(KEY) is None
        assert store.put(KEY, tar) == tar

    assert tar.read_bytes() == b"rootfs"


def test_a_full_disk_leaves_the_tar_and_no_half_layer(
    store: LayerStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: Path) -> None:
        target.write_bytes(b"roo")
        raise OSError(errno.ENOSPC, "No space left on device")

    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(b"rootfs")
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)

    assert store.put(KEY, tar) == tar
    assert tar.read_bytes() == b"rootfs"
    assert list(store.folder.iterdir()) == []


def test_a_second_maker_waits_for_the_first(store: LayerStore) -> None:
    order: list[str] = []
    holding = threading.Event()

    def second() -> None:
        holding.wait(5)
        with LayerStore(folder=store.folder).alone(KEY):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with store.alone(KEY):
        holding.set()
        time.sleep(0.2)
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]


NAME = ArtifactName("php", "trixie", "amd64")
SOURCES = Sources.of([("hakim.yaml", b"packages: {sets: [{packages: [git]}]}")])
ARCHIVE = Archive(
    mirror="http://m", security="http://s", date=0, digests={"trixie": "1", "trixie-security": "1"}
)


def key(
    name: ArtifactName = NAME,
    sources: Sources = SOURCES,
    archive: Archive = ARCHIVE,
    distrobuilder: str = "3.3.1",
) -> str:
    return layer_key(name, sources=sources, archive=archive, distrobuilder=distrobuilder)


def test_all_variants_share_the_layer_of_their_release_and_architecture() -> None:
    assert key() == key(ArtifactName("rust", "trixie", "amd64"))
    assert key() != key(ArtifactName("php", "bookworm", "amd64"))
    assert key() != key(ArtifactName("php", "trixie", "arm64"))


def test_a_layer_of_other_packages_sources_or_tools_has_another_key() -> None:
    newer = Archive(
        mirror="http://m",
        security="http://s",
        date=0,
        digests={"trixie": "1", "trixie-security": "2"},
    )
    other = Sources.of([("hakim.yaml", b"packages: {sets: [{packages: [jq]}]}")])

    assert len({key(), key(archive=newer), key(sources=other), key(distrobuilder="3.4")}) == 4


def test_a_layer_without_a_tool_is_another_layer() -> None:
    with_all = layer_key(NAME, sources=SOURCES, archive=ARCHIVE, distrobuilder="3.3.1")
    without = layer_key(
        NAME, sources=SOURCES, archive=ARCHIVE, distrobuilder="3.3.1", missing=["coder"]
    )

    assert with_all != without


def test_a_change_of_one_variant_keeps_the_layer() -> None:
    text = b"packages: {sets: [{packages: [git]}, {variants: [php], packages: [php-cli]}]}"

    assert key(sources=Sources.of([("hakim.yaml", text)])) == key()
