"""A build ends with a proven artifact or with nothing but a log, whatever happens on the way.

distrobuilder is a fake on PATH that leaves a small root file system; packing and verifying are
real; the boot test is the one thing that is replaced, since it needs root.
"""

import contextlib
import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import FakeProgram
from rootfs import EPOCH, file, make_rootfs_tar

from hakim_actions.artifact import Archive, ArtifactName, Check, Manifest, parse_sums
from hakim_actions.catalog import Catalog, Project
from hakim_actions.content import Sources
from hakim_actions.errors import BuildError, ConfigurationError, HakimError, VerificationError
from hakim_actions.image import build as build_module
from hakim_actions.image import mirror, rules_archive
from hakim_actions.image.build import BuildOptions, Built, build
from hakim_actions.image.inventory import Inventory
from hakim_actions.image.verify import verify_paths
from hakim_actions.system import files, process
from hakim_actions.system.git import Revision
from hakim_actions.system.progress import Silent

ROOT = Path(__file__).resolve().parents[2]
NAME = ArtifactName("base", "trixie", "amd64")

#: Puts $HAKIM_TEST_ROOTFS where distrobuilder would leave its tar; $3 is the target folder.
FAKE_DISTROBUILDER = """
    [[ $1 == --version ]] && { echo 3.3.1; exit; }
    echo 'level=info msg="Downloading source"'
    cp "$(dirname "$0")/rootfs.tar" "$3/rootfs.tar"
    echo meta | xz > "$3/meta.tar.xz"
    printf '%s\\n' "$@" > "$(dirname "$0")/argv"
"""
#: What `process.bound` puts in front needs root; the fake runs what comes after `--`.
RUN_THE_REST = 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"'


@dataclasses.dataclass
class Bench:
    """A folder with fake programs, and the options of a build that uses them."""

    options: BuildOptions
    program: FakeProgram
    programs: Path
    boots: list[Path]

    @property
    def folder(self) -> Path:
        return self.options.out / "base"

    def build(self, name: ArtifactName = NAME) -> Built:
        return build(name, self.options, Silent())

    def left(self) -> set[str]:
        """Return what is in the output folder but the log and the lock."""
        names = {path.name for path in self.folder.iterdir()}
        return names - {NAME.build_log, f".{NAME.stem}.lock"}


def fake_boot(boots: list[Path]) -> Callable[..., Any]:
    def boot_test(artifact: Path, *, unpacked: process.Source, **_options: Any) -> Any:
        unpacked(lambda _data: None)
        boots.append(artifact)
        assert artifact.is_file()
        report = dataclasses.make_dataclass("Report", ["checks", "boot_seconds"])
        return report((Check(name="state"),), 1.5)

    return boot_test


@pytest.fixture
def bench(tmp_path: Path, program: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> Bench:
    programs = program("distrobuilder", FAKE_DISTROBUILDER).parent
    program("setpriv", RUN_THE_REST)
    make_rootfs_tar(programs / "rootfs.tar")
    # The images of the tests are a few kilobytes.
    monkeypatch.setattr(rules_archive, "MIN_COMPRESSED", 0)
    monkeypatch.setattr(rules_archive, "MIN_RAW", 0)
    boots: list[Path] = []
    monkeypatch.setattr(build_module, "boot_test", fake_boot(boots))
    monkeypatch.setattr(
        mirror,
        "read_archive",
        lambda *_, **__: Archive(mirror="m", security="s", date=0, digests={}),
    )
    options = BuildOptions(
        project=Project(root=ROOT),
        catalog=Catalog.load(Project(root=ROOT).variants),
        sources=Sources.read(ROOT / "distrobuilder"),
        revision=Revision(commit="abc", version="v1", epoch=EPOCH),
        out=tmp_path / "out",
        work_dir=tmp_path / "work",
        downloads=tmp_path / "downloads",
        level=0,
        env=dict(os.environ),
    )
    return Bench(options=options, program=program, programs=programs, boots=boots)


def test_a_build_leaves_a_verified_booted_artifact(bench: Bench) -> None:
    built = bench.build()

    assert bench.left() == {
        NAME.archive,
        NAME.metadata,
        NAME.manifest,
        NAME.sbom,
        "sha256sums.txt",
    }
    assert not verify_paths([bench.folder]).failures
    assert [path.name for path in bench.boots] == [NAME.archive]
    assert built.archive.sha256 == files.sha256_file(bench.folder / NAME.archive)
    assert list(bench.options.work_dir.iterdir()) == []


def test_a_root_file_system_in_memory_is_mounted_for_distrobuilder_alone(bench: Bench) -> None:
    bench.program("unshare", RUN_THE_REST)
    bench.program("mount", 'printf "%s\\n" "$@" > "$(dirname "$0")/mounted"')
    options = dataclasses.replace(bench.options, rootfs_memory=7_000_000_000)

    build(NAME, options, Silent())

    kind, tmpfs, flag, size, name, folder = (bench.programs / "mounted").read_text().split()
    assert (kind, tmpfs, flag, name) == ("-t", "tmpfs", "-o", "tmpfs")
    assert size.split(",")[0] == "size=7000000000"
    argv = (bench.programs / "argv").read_text().splitlines()
    assert Path(argv[argv.index("--cache-dir") + 1]).parent == Path(folder)
    assert not Path(argv[2]).is_relative_to(folder)  # the tar, which has to outlive distrobuilder
    assert list(bench.options.work_dir.iterdir()) == []


def test_memory_that_is_too_small_for_an_image_is_said(bench: Bench) -> None:
    bench.program("unshare", RUN_THE_REST)
    bench.program("mount", "")
    refuse = "[[ $1 == --version ]] && exit; echo 'write /x: no space left on device'; exit 1"
    bench.program("distrobuilder", refuse)
    options = dataclasses.replace(bench.options, rootfs_memory=7_000_000_000)

    with pytest.raises(BuildError, match="no space left") as caught:
        build(NAME, options, Silent())

    assert caught.value.hint == (
        "It had 7.0 GB of memory. To make it on a disk, name one with --work-dir."
    )


def test_the_manifest_says_what_is_in_it_and_what_was_proven(bench: Bench) -> None:
    bench.build()

    text = (bench.folder / NAME.manifest).read_text()
    manifest = Manifest.from_json(text, source="manifest")
    assert manifest.name == NAME
    assert (manifest.commit, manifest.version, manifest.epoch) == ("abc", "v1", EPOCH)
    assert "systemd" in manifest.packages
    assert manifest.distrobuilder == "3.3.1"
    assert [check.name for check in manifest.checks] == ["structure", "state"]
    assert {"source", "pack", "verify", "boot"} <= set(manifest.phases)


def test_distrobuilder_gets_the_plain_definition_and_overrides(bench: Bench) -> None:
    bench.options = dataclasses.replace(bench.options, mirror="http://mirror.example/debian")
    bench.build()

    argv = (bench.programs / "argv").read_text().splitlines()
    assert argv[:2] == ["build-lxc", str(ROOT / "distrobuilder/hakim.yaml")]
    for override in (
        "image.variant=base",
        "image.release=trixie",
        "image.architecture=amd64",
        "image.serial=v1",
        "source.url=http://mirror.example/debian",
    ):
        assert argv[argv.index(override) - 1] == "-o"


def test_the_same_rootfs_gives_the_same_archive(bench: Bench) -> None:
    assert bench.build().archive == bench.build().archive


def test_a_failed_distrobuilder_is_explained_and_leaves_its_log(bench: Bench) -> None:
    bench.program(
        "distrobuilder",
        "[[ $1 == --version ]] && { echo 3.3.1; exit; }\n"
        "echo 'E: Unable to locate package nvoim'; echo 'level=error'; exit 1",
    )

    with pytest.raises(BuildError, match="Unable to locate package nvoim") as caught:
        bench.build()

    assert str(bench.folder / NAME.build_log) in caught.value.hint
    assert "nvoim" in (bench.folder / NAME.build_log).read_text()
    assert bench.left() == set()
    assert list(bench.options.work_dir.iterdir()) == []


def test_a_package_that_debian_does_not_have_is_named_with_its_set(bench: Bench) -> None:
    bench.program(
        "distrobuilder",
        "[[ $1 == --version ]] && { echo 3.3.1; exit; }\n"
        "echo 'E: Unable to locate package composer'; exit 1",
    )

    with pytest.raises(BuildError, match=r"locate package composer \(packages\.sets\[\d+\].*php"):
        bench.build()


def test_a_distrobuilder_that_makes_nothing_is_not_believed(bench: Bench) -> None:
    bench.program("distrobuilder", "[[ $1 == --version ]] && echo 3.3.1; exit 0")

    with pytest.raises(BuildError, match=r"left no rootfs\.tar"):
        bench.build()


def test_an_image_that_breaks_the_contract_is_not_kept(bench: Bench) -> None:
    make_rootfs_tar(bench.programs / "rootfs.tar", drop=["./etc/network/interfaces"])

    with pytest.raises(VerificationError, match="network/interfaces"):
        bench.build()

    assert bench.left() == set()
    assert not bench.boots


def test_an_image_that_does_not_boot_leaves_the_old_one_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = bench.build().archive
    make_rootfs_tar(bench.programs / "rootfs.tar", extra=[file("./etc/motd", "new\n")])

    def refuse(*_: Any, unpacked: process.Source, **__: Any) -> None:
        unpacked(lambda _data: None)
        msg = "It does not boot."
        raise VerificationError(msg)

    monkeypatch.setattr(build_module, "boot_test", refuse)
    with pytest.raises(VerificationError, match="does not boot"):
        bench.build()

    assert files.sha256_file(bench.folder / NAME.archive) == old.sha256
    assert not verify_paths([bench.folder]).failures


def test_two_releases_share_a_folder_and_its_checksums(bench: Bench) -> None:
    bench.build()
    other = ArtifactName("base", "bookworm", "amd64")
    make_rootfs_tar(bench.programs / "rootfs.tar", release="bookworm")
    bench.build(other)

    sums = parse_sums((bench.folder / "sha256sums.txt").read_text(), source="sums")
    assert {NAME.archive, other.archive} <= set(sums)
    assert not verify_paths([bench.folder]).failures


def test_a_kill_while_moving_never_leaves_what_verify_accepts_wrongly(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop at every rename in turn: what is there then is complete, or verify says it is not."""
    bench.build()
    make_rootfs_tar(bench.programs / "rootfs.tar", extra=[file("./etc/motd", "new\n")])
    replace = Path.replace
    for stop in range(1, 7):
        count = 0

        def dying(self: Path, target: Path) -> Path:
            nonlocal count
            if Path(target).parent == bench.folder:
                count += 1
                if count == stop:  # noqa: B023 - used within this round only
                    raise KeyboardInterrupt
            return replace(self, target)

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(Path, "replace", dying)
            bench.build()
        archive = files.sha256_file(bench.folder / NAME.archive)
        sums = parse_sums(
            (bench.folder / "sha256sums.txt").read_text() or f"{'0' * 64}  -\n", source="s"
        )
        assert sums.get(NAME.archive, archive) == archive
        if set(sums) != {NAME.archive, NAME.metadata, NAME.manifest, NAME.sbom}:
            assert verify_paths([bench.folder]).failures

    bench.build()
    assert not verify_paths([bench.folder]).failures


def test_a_second_build_of_the_same_image_is_told_who_holds_it(bench: Bench) -> None:
    bench.folder.mkdir(parents=True)
    with (
        files.locked(bench.folder / f".{NAME.stem}.lock", purpose="x"),
        pytest.raises(HakimError, match=f"{NAME.stem} is already running: process {os.getpid()}"),
    ):
        bench.build()


def test_what_a_killed_run_left_is_removed_by_the_next(bench: Bench) -> None:
    rest = bench.options.work_dir / NAME.stem / "distrobuilder/rootfs/etc"
    rest.mkdir(parents=True)

    bench.build()

    assert list(bench.options.work_dir.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Inventory, "of_tar", full)

    with pytest.raises(BuildError, match="The disk is full"):
        bench.build()
    assert bench.left() == set()


def test_an_output_folder_that_cannot_be_written_is_named(bench: Bench) -> None:
    bench.options.out.write_text("a file")

    with pytest.raises(ConfigurationError, match="--out: cannot write to"):
        bench.build()


DRIVER = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from hakim_actions.catalog import Catalog, Project
from hakim_actions.content import Sources
from hakim_actions.cli import main as cli
from hakim_actions.image import build as b, mirror, rules_archive
from hakim_actions.image.inventory import Inventory
from hakim_actions.artifact import Archive
from hakim_actions.system.git import Revision
from hakim_actions.system.progress import Silent
from hakim_actions.artifact import ArtifactName
import click, time

def hang(*_, **__):
    Path({mark!r}).touch()
    time.sleep(60)

mirror.read_archive = lambda *_, **__: Archive(mirror="m", security="s", date=0, digests={{}})
b.boot_test = hang
rules_archive.MIN_COMPRESSED = rules_archive.MIN_RAW = 0
if {phase!r} == "pack":
    b.pack_tar = hang
if {phase!r} == "verify":
    b.verify_paths = hang
    b.boot_test = lambda *_, unpacked, **__: unpacked(print)
options = b.BuildOptions(
    project=Project(root=Path({root!r})),
    catalog=Catalog.load(Path({root!r}) / "distrobuilder/variants.yaml"),
    sources=Sources.read(Path({root!r}) / "distrobuilder"),
    revision=Revision(commit="abc", version="v1", epoch=1767225600),
    out=Path({out!r}),
    work_dir=Path({work!r}),
    downloads=Path("unused"),
    level=0,
    env=dict(os.environ),
)
name = ArtifactName("base", "trixie", "amd64")
run = click.Command("build", callback=lambda: b.build(name, options, Silent()))
cli.LazyGroup.get_command = lambda *_: run
sys.exit(cli.main(["build"], {{}}))
"""


@pytest.mark.parametrize("phase", ["distrobuilder", "pack", "verify", "boot"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_signal_in_any_phase_leaves_nothing_behind(
    bench: Bench, tmp_path: Path, phase: str, number: signal.Signals, code: int
) -> None:
    mark = tmp_path / "mark"
    if phase == "distrobuilder":
        bench.program("distrobuilder", f"touch {mark}; sleep 3600 & wait")
    driver = DRIVER.format(
        paths=[str(ROOT / "src")],
        mark=str(mark),
        phase=phase,
        root=str(ROOT),
        out=str(bench.options.out),
        work=str(bench.options.work_dir),
    )
    env: Mapping[str, str] = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        (sys.executable, "-c", driver), env=env, stderr=subprocess.PIPE, text=True
    ) as child:
        deadline = time.monotonic() + 30
        while not mark.exists():
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(number)
        _, error = child.communicate(timeout=30)

    assert child.returncode == code, error
    assert bench.left() == set()
    assert list(bench.options.work_dir.iterdir()) == []
