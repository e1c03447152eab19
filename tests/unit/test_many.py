"""Several builds at once: each in its own process, the base first, and every end is told."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import BuildError, ConfigurationError, HakimError
from hakim_actions.image import many
from hakim_actions.image.many import build_many, workers
from hakim_actions.system.progress import Silent

ROOT = Path(__file__).resolve().parents[2]


def names(*variants: str) -> list[ArtifactName]:
    return [ArtifactName(variant, "trixie", "amd64") for variant in variants]


class Image:
    """Stands for a built image; sent from one process to another like the real one."""

    def __init__(self, name: ArtifactName) -> None:
        self.name = name
        self.process = os.getpid()


@dataclass
class Options:
    """What of the options of a build counts here."""

    work_dir: Path
    layers: object
    base_begun: object = None


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that runs build_many with *work* as the build, and returns the outcomes."""

    def run(
        variants: list[str], work: Callable[[str], None], *, layers: bool = True, count: int = 2
    ) -> dict[str, Any]:
        def one(name: ArtifactName, *_: object) -> Image:
            work(name.variant)
            return Image(name)

        options = Options(work_dir=tmp_path, layers=object() if layers else None)
        monkeypatch.setattr(many, "build", one)
        monkeypatch.setattr(many, "Built", Image)
        monkeypatch.setattr(many, "workers", lambda *_, **__: count)
        outcomes = build_many(
            names(*variants),
            options,  # type: ignore[arg-type]
            alone=Silent(),
            beside=lambda _: Silent(),
        )
        return {name.variant: outcome for name, outcome in outcomes}

    return run


Run = Callable[..., dict[str, Any]]


def test_images_are_built_at_the_same_time(build: Run, tmp_path: Path) -> None:
    """Each of the two ends only when the other has begun."""

    def meet(variant: str) -> None:
        (tmp_path / variant).touch()
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < deadline, "the other build never began"
            time.sleep(0.01)

    built = build(["php", "rust"], meet)

    assert len({image.process for image in built.values()} - {os.getpid()}) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_the_base_begins_first(build: Run, tmp_path: Path, count: int) -> None:
    """With two at once, php begins beside it, and rust after one of them."""

    def work(variant: str) -> None:
        assert count == 2 or variant == "base" or (tmp_path / "base").exists()
        if variant == "rust":
            assert (tmp_path / "base").exists() or (tmp_path / "php").exists()
        time.sleep(0.1)
        (tmp_path / variant).touch()

    built = build(["php", "base", "rust"], work, count=count)

    assert {name for name, image in built.items() if isinstance(image, Image)} == set(built)
    assert set(built) == {"base", "php", "rust"}


def test_no_more_run_at_once_than_the_machine_carries(build: Run, tmp_path: Path) -> None:
    def work(variant: str) -> None:
        (tmp_path / variant).touch()
        assert len(list(tmp_path.iterdir())) <= 2
        time.sleep(0.1)
        (tmp_path / variant).unlink()

    built = build(["php", "rust", "js", "dotnet"], work)

    assert all(isinstance(image, Image) for image in built.values()), built


@pytest.mark.parametrize("count", [1, 2])
def test_a_failure_is_told_and_the_others_are_built(build: Run, count: int) -> None:
    def work(variant: str) -> None:
        if variant == "php":
            msg = "no php today"
            raise BuildError(msg, hint="tomorrow")

    built = build(["php", "rust"], work, count=count)

    assert (built["php"].message, built["php"].hint) == ("no php today", "tomorrow")
    assert isinstance(built["rust"], Image)


def test_an_error_that_cannot_be_sent_is_told_by_its_words(build: Run) -> None:
    class WithReportError(ConfigurationError):
        def __init__(self, report: object) -> None:
            super().__init__("told")
            self.report = report

    def work(_: str) -> None:
        raise WithReportError(lambda: None)

    assert build(["php", "rust"], work)["php"].message == "told"


def test_a_bug_in_one_build_is_the_failure_of_one_image(build: Run) -> None:
    def work(variant: str) -> None:
        if variant == "php":
            raise ZeroDivisionError

    built = build(["php", "rust"], work)

    assert "Unexpected ZeroDivisionError" in built["php"].message
    assert isinstance(built["rust"], Image)


def test_a_build_that_the_kernel_kills_is_told(build: Run) -> None:
    def work(variant: str) -> None:
        if variant == "php":
            os.kill(os.getpid(), signal.SIGKILL)

    built = build(["php", "rust"], work)

    assert built["php"].message == "The build of hakim-php-trixie-amd64 was ended by SIGKILL."
    assert isinstance(built["rust"], Image)


def test_nothing_is_tried_on_the_layer_of_a_base_that_failed(build: Run, tmp_path: Path) -> None:
    def work(variant: str) -> None:
        (tmp_path / variant).touch()
        msg = "broken"
        raise BuildError(msg)

    built = build(["base", "php", "rust"], work, count=1)

    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert "stands on the base image" in built["php"].message
    assert all(isinstance(error, HakimError) for error in built.values())


def test_a_base_that_fails_ends_who_waits_for_its_layer(build: Run, tmp_path: Path) -> None:
    def work(variant: str) -> None:
        (tmp_path / variant).touch()
        if variant == "base":
            _until((tmp_path / "php").exists)
            msg = "broken"
            raise BuildError(msg)
        time.sleep(60)

    began = time.monotonic()
    built = build(["base", "php", "rust"], work)

    assert time.monotonic() - began < 30
    assert {path.name for path in tmp_path.iterdir()} == {"base", "php"}
    assert built["base"].message == "broken"
    assert "stands on the base image" in built["php"].message
    assert "stands on the base image" in built["rust"].message


def test_images_from_scratch_do_not_need_the_base(build: Run) -> None:
    def work(variant: str) -> None:
        if variant == "base":
            msg = "broken"
            raise BuildError(msg)

    assert isinstance(build(["base", "php"], work, layers=False)["php"], Image)


@pytest.mark.parametrize(
    ("cores", "memory", "disk", "expected"),
    [
        (8, 64_000, 900_000, 5),
        (2, 64_000, 900_000, 3),
        (1, 64_000, 900_000, 2),
        (8, 4_000, 900_000, 2),
        (8, 64_000, 25_000, 3),
        (8, 500, 1_000, 1),
    ],
)
def test_processors_memory_and_disk_limit_the_builds_at_once(
    *,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    cores: int,
    memory: int,
    disk: int,
    expected: int,
) -> None:
    """Memory and disk are in megabytes."""
    monkeypatch.setattr("hakim_actions.system.memory.available", lambda: memory * 10**6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr("hakim_actions.system.files.free_bytes", lambda _: disk * 10**6)

    assert workers(5, work_dir=tmp_path) == expected


@pytest.mark.parametrize(
    ("kernel", "memory", "expected"),
    [
        ("6.12.48+deb13-amd64", 24_000, 6_500),
        ("6.12.48+deb13-amd64", 22_000, 0),
        ("6.1.0-40-amd64", 24_000, 0),
    ],
)
def test_root_file_systems_are_in_memory_where_all_that_are_made_at_once_have_room(
    *, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kernel: str, memory: int, expected: int
) -> None:
    """Three at once on two processors; an old kernel's tmpfs would lose attributes."""
    monkeypatch.setattr("hakim_actions.system.memory.available", lambda: memory * 10**6)
    monkeypatch.setattr("hakim_actions.system.files.free_bytes", lambda _: 10**12)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=kernel))

    assert many.rootfs_memory(6, work_dir=tmp_path) == expected * 10**6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_builds_clean_up_when_the_whole_ends(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends the command: each build unwinds, and none goes on by itself."""
    script = textwrap.dedent(
        """
        import os, signal, sys, time
        from pathlib import Path
        from hakim_actions.artifact import ArtifactName
        from hakim_actions.cli import main
        from hakim_actions.image import many
        from hakim_actions.system.progress import Silent

        folder = Path(sys.argv[1])

        def build(name, *_):
            mark = folder / str(os.getpid())
            mark.touch()
            try:
                time.sleep(60)
            finally:
                mark.unlink()

        class Options:
            layers, work_dir = None, folder

        many.build = build
        many.workers = lambda *_, **__: 2
        signal.signal(signal.SIGTERM, main._on_sigterm)
        names = [ArtifactName(variant, "trixie", "amd64") for variant in ("php", "rust")]
        list(many.build_many(names, Options, alone=Silent(), beside=lambda _: Silent()))
        """
    )
    with subprocess.Popen(
        (sys.executable, "-c", script, str(tmp_path)),
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]},
        stderr=subprocess.DEVNULL,
    ) as parent:
        _until(lambda: len(list(tmp_path.iterdir())) == 2)
        children = [int(path.name) for path in tmp_path.iterdir()]
        parent.send_signal(number)
        parent.wait(30)

    _until(lambda: not list(tmp_path.iterdir()))
    _until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
