"""A second build gives the same bytes, or says which member of the image did not come out alike."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeProgram
from rootfs import make_rootfs_tar

from hakim_actions.artifact import Archive
from hakim_actions.errors import BuildError
from hakim_actions.image import mirror

Run = Callable[..., tuple[int, str, list[str]]]

NAME = "hakim-php-trixie-amd64"
BUILD = ("build", "php", "--cache-dir", "cache", "--out", "out", "--compression-level", "1")


def changed(build_programs: Path) -> None:
    """Let the next build find another file in the image than the one after the first."""
    path = build_programs / "next-php.tar"
    make_rootfs_tar(path, variant="php", change={"./etc/hostname": b"other\n"})


@pytest.fixture
def manifest(run: Run, tmp_path: Path) -> Path:
    """Return the manifest of an image that was built just now."""
    code, said, _ = run(*BUILD)
    assert code == 0, said
    return tmp_path / f"out/php/{NAME}.manifest.json"


@pytest.fixture(autouse=True)
def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs at which a snapshot of the archive was looked for; each has it."""
    asked: list[str] = []

    def found(archive: Archive, url: str, _: str) -> Archive:
        asked.append(url)
        return Archive(
            mirror="http://s.test/then",
            security="http://s.test/then-security",
            date=archive.date,
            digests=archive.digests,
        )

    monkeypatch.setattr(mirror, "snapshot_of", found)
    return asked


def test_a_checked_build_is_built_twice_the_second_time_from_scratch(run: Run) -> None:
    code, said, calls = run(*BUILD, "--cached", "--check-reproducible")

    assert code == 0, said
    assert calls == ["base", "php on a layer", "php"]
    assert f"{NAME} came out the same." in said


def test_what_a_second_build_changes_is_named(
    run: Run, tmp_path: Path, build_programs: Path
) -> None:
    changed(build_programs)

    code, said, _ = run(*BUILD, "--check-reproducible")

    assert code == 5
    assert "./etc/hostname: content" in said
    assert "1 members differ" not in said
    assert "1 member differs" in said
    report = tmp_path / f"out/php/differences-of-{NAME}.txt"
    assert str(report) in said
    assert "./etc/hostname: content" in report.read_text()


def test_nothing_of_the_second_build_is_left(run: Run, tmp_path: Path) -> None:
    run(*BUILD, "--check-reproducible")

    assert list((tmp_path / "cache/work").iterdir()) == []


def test_an_image_is_reproduced_from_its_manifest(
    run: Run, manifest: Path, snapshots: list[str], program: FakeProgram, build_programs: Path
) -> None:
    """It is told to use the snapshot, and to name the mirror of the first build."""
    told = build_programs / "told"
    inner = build_programs / "distrobuilder"
    inner.rename(build_programs / "inner")
    program(
        "distrobuilder",
        f"""
        [[ $1 != build-lxc ]] || {{ printf '%s\\n' "$@"; env; }} > {told}
        exec "$(dirname "$0")/inner" "$@"
        """,
    )

    code, said, calls = run(
        "reproduce", str(manifest), "--snapshot-url", "http://s.test", "--cache-dir", "cache"
    )

    assert code == 0, said
    assert calls == ["php"]
    assert f"{NAME}.tar.xz came out the same: sha256 " in said
    assert snapshots == ["http://s.test"]
    lines = told.read_text().splitlines()
    assert "source.url=http://s.test/then" in lines
    assert "HAKIM_SECURITY_MIRROR=http://s.test/then-security" in lines
    assert "HAKIM_NAMED_MIRROR=http://m.test/debian" in lines
    assert "HAKIM_NAMED_SECURITY_MIRROR=http://m.test/debian-security" in lines


def test_an_image_that_does_not_come_out_the_same_is_told_with_its_differences(
    run: Run, manifest: Path, build_programs: Path
) -> None:
    make_rootfs_tar(
        build_programs / "php.tar", variant="php", change={"./etc/hostname": b"other\n"}
    )

    code, said, _ = run("reproduce", str(manifest), "--cache-dir", "cache")

    assert code == 5
    assert f"{NAME} is not reproducible" in said
    assert "./etc/hostname: content" in said
    report = manifest.parent / f"reproduced/php/differences-of-{NAME}.txt"
    assert "./etc/hostname: content" in report.read_text()
    assert run("verify", str(manifest.parent))[0] == 0, "the artifact is as it was"


def test_without_the_archive_beside_it_only_the_hash_can_be_compared(
    run: Run, manifest: Path, build_programs: Path
) -> None:
    manifest.with_name(f"{NAME}.tar.xz").unlink()
    assert run("reproduce", str(manifest), "--cache-dir", "cache")[0] == 0
    make_rootfs_tar(
        build_programs / "php.tar", variant="php", change={"./etc/hostname": b"other\n"}
    )

    code, said, _ = run("reproduce", str(manifest), "--cache-dir", "cache")

    assert code == 5
    assert "beside its manifest" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"content_key": "0" * 64, "commit": "abc123"}, "hint: git checkout abc123"),
        ({"archive": None}, "does not record the Debian archive"),
        (
            {"archive": {"mirror": "http://m|e id", "security": "", "date": 0, "digests": {}}},
            "names a mirror that cannot be one: 'http://m|e id'",
        ),
    ],
)
def test_what_cannot_be_reproduced_is_refused_before_anything_runs(
    run: Run, manifest: Path, change: dict[str, object], said: str
) -> None:
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **change}))

    code, output, calls = run("reproduce", str(manifest), "--cache-dir", "cache")

    assert code == 2
    assert said in output
    assert not calls


def test_an_archive_of_snapshots_that_does_not_have_it_ends_the_command(
    run: Run, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object) -> Archive:
        msg = "http://s.test does not have the archive"
        raise BuildError(msg)

    monkeypatch.setattr(mirror, "snapshot_of", nowhere)

    code, said, calls = run("reproduce", str(manifest), "--cache-dir", "cache")

    assert code == 4
    assert "does not have the archive" in said
    assert not calls
