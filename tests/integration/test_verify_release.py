"""``verify --consolidate`` makes a release out of the artifacts of all jobs, or says why not."""

import json
from pathlib import Path

import pytest
from fakes.publications import Made, write

from hakim_actions.artifact import parse_sums
from hakim_actions.cli import main as cli
from hakim_actions.index import Index


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """Return a folder as actions/download-artifact leaves it: one folder a job."""
    for variant in ("base", "php"):
        write(tmp_path / f"job-{variant}", Made(variant=variant))
    return tmp_path


def run(*arguments: str) -> int:
    # The archives of these tests are no root file systems; their structure is tested elsewhere.
    return cli.main(["verify", "--checksums-only", *arguments], {})


def test_all_jobs_become_one_release(downloads: Path) -> None:
    assert run("--consolidate", "--image-version", "v1.2.0", str(downloads)) == 0

    index = Index.from_json((downloads / "index.json").read_text(), source="index")
    sums = parse_sums((downloads / "sha256sums.txt").read_text(), source="sums")
    assert index.version == "v1.2.0"
    assert [entry.variant for entry in index.entries] == ["base", "php"]
    assert {entry.archive.name for entry in index.entries} < set(sums)
    assert run("--consolidate", "--image-version", "v1.2.0", str(downloads)) == 0


def test_a_job_that_is_missing_stops_the_release(
    downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"variant": variant, "release": "trixie", "arch": "amd64"}
        for variant in ("base", "php", "rust")
    ]

    code = run("--consolidate", "--expect", json.dumps({"include": rows}), str(downloads))

    assert code == 5
    assert "hakim-rust-trixie-amd64" in capsys.readouterr().err
    assert not (downloads / "index.json").exists()


def test_a_wrong_checksum_stops_before_anything_is_written(
    downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = downloads / "job-php/php/hakim-php-trixie-amd64.tar.xz"
    archive.write_bytes(archive.read_bytes() + b"x")

    assert run("--consolidate", str(downloads)) == 5
    assert archive.name in capsys.readouterr().out
    assert not (downloads / "index.json").exists()


def test_an_attestation_needs_a_name_to_compare_with(
    downloads: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--attestation", "bundle.json", str(downloads)) == 2
    assert "--attestation and --identity belong together" in capsys.readouterr().err
