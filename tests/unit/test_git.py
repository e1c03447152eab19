"""The revision names an image by its commit, also where git is not at hand."""

import subprocess
from pathlib import Path

import pytest

from hakim_actions.errors import ConfigurationError
from hakim_actions.system.git import UNKNOWN_COMMIT, revision

ENV = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "distrobuilder").mkdir()
    (tmp_path / "distrobuilder/hakim.yaml").write_text("a: 1\n")
    for arguments in (
        ("init", "--quiet"),
        ("add", "."),
        ("commit", "--quiet", "-m", "first", "--date", "2026-01-01T00:00:00Z"),
    ):
        subprocess.run(
            ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments),
            cwd=tmp_path,
            env={**ENV, "HOME": "/", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"},
            check=True,
        )
    return tmp_path


def test_commit_version_and_time_come_from_git(repository: Path) -> None:
    found = revision(repository, env=ENV)

    assert len(found.commit) == 40
    assert found.commit.startswith(found.version)
    assert found.epoch == 1_767_225_600


def test_a_changed_definition_is_dirty(repository: Path) -> None:
    (repository / "distrobuilder/hakim.yaml").write_text("a: 2\n")

    assert revision(repository, env=ENV).commit.endswith("-dirty")


def test_a_release_is_named_by_its_tag(repository: Path) -> None:
    env = {**ENV, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.0"}

    assert revision(repository, env=env).version == "v1.2.0"
    assert revision(repository, env=env, version="v2").version == "v2"


def test_a_tree_without_git_is_unknown_but_has_a_time(tmp_path: Path) -> None:
    found = revision(tmp_path, env={**ENV, "GIT_CEILING_DIRECTORIES": str(tmp_path)})

    assert found.commit == UNKNOWN_COMMIT
    assert found.version == "development"
    assert found.epoch == int(tmp_path.stat().st_mtime)


def test_source_date_epoch_wins(repository: Path) -> None:
    assert revision(repository, env={**ENV, "SOURCE_DATE_EPOCH": "42"}).epoch == 42


def test_a_wrong_source_date_epoch_is_refused(repository: Path) -> None:
    with pytest.raises(ConfigurationError, match="SOURCE_DATE_EPOCH is 'today'"):
        revision(repository, env={**ENV, "SOURCE_DATE_EPOCH": "today"})


@pytest.mark.parametrize("version", ["a b", "v1/../..", "-v", "x" * 65, "$(id)"])
def test_a_version_that_cannot_be_in_a_file_name_is_refused(repository: Path, version: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        revision(repository, env=ENV, version=version)
