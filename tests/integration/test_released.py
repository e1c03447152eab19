"""A release on GitHub to compare with: the matrix leaves out what it has, verify shows changes."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import github, publications
from fakes.github import READ_TOKEN, GitHub

from hakim_actions.artifact import ArtifactName, FileRecord, Manifest
from hakim_actions.catalog import Project
from hakim_actions.cli import release_report
from hakim_actions.cli.main import main
from hakim_actions.content import Sources
from hakim_actions.image.cacheuse import CacheUse
from hakim_actions.index import INDEX_NAME, Index, IndexEntry

ROOT = Path(__file__).resolve().parents[2]
BASE = ArtifactName("base", "trixie", "amd64")


@pytest.fixture
def server() -> Iterator[GitHub]:
    with github.running(GitHub()) as running:
        yield running


def index(version: str, *, key: str = "", size: int = 1) -> bytes:
    """Return the index.json of a release with one image."""
    entry = IndexEntry(
        variant=BASE.variant,
        release=BASE.release,
        arch=BASE.arch,
        content_key=key,
        files={"archive": FileRecord(name=BASE.archive, size=size, sha256="0" * 64)},
        packages={},
    )
    return Index(version=version, commit="c", epoch=1, entries=(entry,)).to_json().encode()


def release(server: GitHub, tag: str, *, draft: bool = False, **options: str | int) -> None:
    found = server.add_release(tag, draft=draft)
    found["prerelease"] = "-" in tag
    server.add_asset(found, INDEX_NAME, index(tag, **options))  # type: ignore[arg-type]


def current_key() -> str:
    return Sources.read(Project(root=ROOT).definition.parent).key(BASE)


def to_build(
    server: GitHub, not_in: str, capsys: pytest.CaptureFixture[str], **env: str
) -> tuple[int, list[str], str]:
    """Return exit code, the names of the rows, and what was said, of the base images of trixie."""
    arguments = ["--not-in", not_in, "--variant", "base", "--release", "trixie", "--json"]
    variables = {"PATH": os.environ["PATH"], **server.environment(), **env}
    code = main(["matrix", *arguments], {key: value for key, value in variables.items() if value})
    said = capsys.readouterr()
    rows = json.loads(said.out)["matrix"]["include"] if code == 0 else []
    return code, [row["artifact"] for row in rows], said.err


ARM = "hakim-base-trixie-arm64"


@pytest.mark.parametrize("not_in", ["v1.2.0", "latest"])
def test_what_a_release_has_is_not_built_again(
    server: GitHub, capsys: pytest.CaptureFixture[str], not_in: str
) -> None:
    release(server, "v1.2.0", key=current_key())

    assert to_build(server, not_in, capsys) == (0, [ARM], "")


def test_what_a_release_has_of_other_content_is_built(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    release(server, "v1.2.0", key="0" * 64)

    assert to_build(server, "v1.2.0", capsys)[1] == [BASE.stem, ARM]


def test_the_latest_is_the_newest_full_release_with_images(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the last one that was made, nor a draft, a candidate, or a release of something else."""
    release(server, "v1.10.0", key=current_key())
    release(server, "v1.9.1", key="old line")
    release(server, "v2.0.0-rc.1", key="candidate")
    release(server, "v3.0.0", draft=True, key="draft")
    server.add_release("v4.0.0")
    release(server, "nightly", key="no version")

    assert to_build(server, "latest", capsys)[1] == [ARM]


def test_without_any_release_yet_everything_is_built(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rows, said = to_build(server, "latest", capsys)

    assert (code, rows) == (0, [BASE.stem, ARM])
    assert said == "There is no release yet: all images need a build.\n"


def test_a_tag_without_a_release_is_named_with_the_nearest(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    release(server, "v1.2.0")
    release(server, "v1.2.1", draft=True)

    code, _, said = to_build(server, "v1.2.1", capsys)

    assert code == 2
    assert "'v1.2.1' is not a release of acme/images." in said
    assert "Did you mean 'v1.2.0'? Known: v1.2.0." in said


def test_a_release_without_an_index_is_named(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add_release("v1.2.0")

    code, _, said = to_build(server, "v1.2.0", capsys)

    assert code == 2
    assert "Release 'v1.2.0' of acme/images has no index.json." in said


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"GITHUB_REPOSITORY": ""}, "no repository was named"),
        ({"GITHUB_REPOSITORY": "acme"}, "GITHUB_REPOSITORY is 'acme'"),
        ({"GITHUB_REPOSITORY": "acme/other"}, "acme/other does not exist, or the token cannot"),
    ],
)
def test_a_repository_that_cannot_be_read_is_never_one_without_releases(
    server: GitHub, capsys: pytest.CaptureFixture[str], env: Mapping[str, str], reason: str
) -> None:
    code, _, said = to_build(server, "latest", capsys, **env)

    assert code == 2
    assert reason in said


def test_a_token_that_may_only_read_is_enough(
    server: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    release(server, "v1.2.0", key=current_key())

    assert to_build(server, "latest", capsys, GITHUB_TOKEN=READ_TOKEN)[1] == [ARM]
    assert to_build(server, "latest", capsys, GITHUB_TOKEN="", GH_TOKEN=READ_TOKEN)[1] == [ARM]


@pytest.mark.parametrize("name", ["missing.json", "./latest", "folder/index"])
def test_what_looks_like_a_file_is_never_looked_for_on_github(
    server: GitHub, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, _, said = to_build(server, name, capsys)

    assert code == 2
    assert f"{name} cannot be read" in said
    assert server.exchanges == []


# ---------------------------------------------------------------- the summary of verify


def consolidate(server: GitHub, folder: Path, **env: str) -> str:
    """Consolidate two images as v1.2.0 in a workflow, and return the summary of the job."""
    artifacts = publications.write_all(folder / "artifacts", "base", "php")
    summary = folder / "summary.md"
    arguments = ["--consolidate", "--image-version", "v1.2.0", "--checksums-only"]
    variables = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        **server.environment(),
        **env,
    }
    assert main(["verify", *arguments, str(artifacts)], variables) == 0
    return summary.read_text()


def test_the_summary_compares_with_the_last_release(server: GitHub, tmp_path: Path) -> None:
    release(server, "v1.1.0", size=1_000_000)
    release(server, "v1.2.0", size=1)  # a run that is repeated must not compare with itself

    summary = consolidate(server, tmp_path)

    size = len(b"archive") + len(BASE.stem)
    assert "| Image | Debian | Arch | Size | Since v1.1.0 | Packages | Checks |" in summary
    assert f"| base | trixie | amd64 | {size} B | −1000.0 kB | 3 | 0 |" in summary  # noqa: RUF001
    assert f"| php | trixie | amd64 | {size - 1} B | new | 3 | 0 |" in summary
    assert "  line" not in summary, "a new image has no past to draw"


def test_the_summary_tells_what_came_from_the_cache(tmp_path: Path) -> None:
    """The builds were jobs of their own; their manifests carry it over."""
    use = CacheUse(layer="hit", pieces=410, pieces_reused=400)
    release = publications.publication(tmp_path, "base")
    (asset,) = [it for it in release.assets if it.name == BASE.manifest]
    assert asset.path is not None
    manifest = Manifest.from_json(asset.path.read_text(), source="the fixture")
    asset.path.write_text(replace(manifest, cache=use.counts()).to_json())

    assert "| layer hit, 400/410 pieces |" in release_report.markdown(release, before=None)
    assert CacheUse().counts() == {}


def test_the_chart_has_a_line_when_all_images_were_there(server: GitHub, tmp_path: Path) -> None:
    old = json.loads(index("v1.1.0", size=2_000_000))
    php = {**old["entries"][0], "variant": "php"}
    document = json.dumps({**old, "entries": [*old["entries"], php]}).encode()
    server.add_asset(server.add_release("v1.1.0"), INDEX_NAME, document)

    summary = consolidate(server, tmp_path)

    assert 'title "Size in MB (line: v1.1.0)"' in summary
    assert 'x-axis ["base trixie amd64", "php trixie amd64"]' in summary
    assert "  bar [0.0, 0.0]\n  line [2.0, 2.0]\n" in summary


def test_a_first_release_has_nothing_to_compare_with(server: GitHub, tmp_path: Path) -> None:
    summary = consolidate(server, tmp_path)

    assert "| Size | Change |" in summary
    assert " B | — | 3 |" in summary


def test_a_github_that_refuses_does_not_stop_verify(
    server: GitHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = consolidate(server, tmp_path, GITHUB_TOKEN="unknown")  # noqa: S106 - no token

    assert "| base | trixie |" in summary
    assert "The summary does not compare with the last release: " in capsys.readouterr().err
