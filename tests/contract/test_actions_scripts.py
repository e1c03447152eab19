"""The scripts of the workflows: tags move together or not at all, versions follow from changes."""

import json
import os
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import FakeProgram

SCRIPTS = Path(__file__).resolve().parents[2] / ".github/scripts"


@dataclass(frozen=True)
class Clone:
    """A repository and the bare one it pushes to."""

    path: Path
    origin: Path

    def git(self, *words: str) -> str:
        command = ("git", "-c", "user.name=n", "-c", "user.email=e@example.com", *words)
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("commit", "--quiet", "--allow-empty", "--message=more")
        return self.git("rev-parse", "HEAD")

    def run(self, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (SCRIPTS / script, *words), cwd=self.path, capture_output=True, text=True, check=False
        )

    def tags(self) -> dict[str, str]:
        """Return what the other side has: tag to commit."""
        lines = self.git("ls-remote", "--tags", "origin").splitlines()
        return {name.removeprefix("refs/tags/"): sha for sha, name in map(str.split, lines)}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    origin, path = tmp_path / "origin.git", tmp_path / "clone"
    subprocess.run(("git", "init", "--quiet", "--bare", origin), check=True)
    subprocess.run(("git", "clone", "--quiet", origin, path), check=True, capture_output=True)
    made = Clone(path, origin)
    made.commit()
    return made


def test_a_release_brings_its_tag_and_moves_the_major_one(clone: Clone) -> None:
    first = clone.commit()
    assert clone.run("push-tags.sh", "v1.0.0").returncode == 0
    clone.git("fetch", "--quiet", "--tags", "--force")
    second = clone.commit()

    done = clone.run("push-tags.sh", "v1.1.0")

    assert done.returncode == 0, done.stderr
    assert clone.tags() == {"v1.0.0": first, "v1.1.0": second, "v1": second}


def test_a_release_that_stopped_half_way_can_be_run_again(clone: Clone) -> None:
    commit = clone.commit()
    for _ in range(2):
        assert clone.run("push-tags.sh", "v1.0.0").returncode == 0
        clone.git("fetch", "--quiet", "--tags", "--force")

    assert clone.tags() == {"v1.0.0": commit, "v1": commit}


@pytest.mark.parametrize("version", ["v1.2.0-rc.1", "v1.0.1"])
def test_a_candidate_and_a_fix_of_an_older_version_move_nothing(clone: Clone, version: str) -> None:
    newest = clone.commit()
    assert clone.run("push-tags.sh", "v1.1.0").returncode == 0
    clone.git("fetch", "--quiet", "--tags", "--force")
    clone.commit()

    assert clone.run("push-tags.sh", version).returncode == 0

    assert clone.tags()["v1"] == newest
    assert version in clone.tags()


def test_when_one_tag_is_refused_none_is_pushed(clone: Clone) -> None:
    hook = clone.origin / "hooks/update"
    hook.write_text('#!/bin/sh\n[ "$1" != refs/tags/v1 ]\n')
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)

    assert clone.run("push-tags.sh", "v1.0.0").returncode != 0

    assert clone.tags() == {}


@pytest.mark.parametrize("version", ["1.0.0", "v1", "v1.0", "v01.0.0", "v1.0.0;id", "main", ""])
def test_what_is_no_version_is_refused(clone: Clone, version: str) -> None:
    done = clone.run("check-version.sh", version)

    assert done.returncode == 2
    assert "is not a version such as v1.2.0" in done.stdout


def test_the_tag_of_another_commit_is_never_moved(clone: Clone) -> None:
    clone.git("tag", "v1.0.0")
    clone.commit()

    done = clone.run("push-tags.sh", "v1.0.0")

    assert done.returncode == 2
    assert "is the tag of another commit" in done.stdout
    assert clone.tags() == {}


@pytest.mark.parametrize(
    ("images", "following"),
    [
        ([], ""),
        ([{"packages": [], "tools": []}], ""),
        ([{"packages": [{"name": "openssl"}], "tools": []}], "v1.2.10"),
        ([{"packages": [], "tools": []}, {"packages": [], "tools": [{"name": "bun"}]}], "v1.2.10"),
    ],
    ids=["no images", "nothing changed", "a package", "a tool"],
)
def test_the_next_version_is_only_named_when_something_changed(
    images: list[Mapping[str, object]], following: str, program: FakeProgram, tmp_path: Path
) -> None:
    program("gh", "[[ $2 != view ]] || echo v1.2.9")
    document = json.dumps({"images": images})
    program("hakim-actions", f"[[ $* != *--json ]] || echo '{document}'")
    output, summary = tmp_path / "output", tmp_path / "summary"

    done = subprocess.run(
        (SCRIPTS / "next-version.sh", "artifacts"),
        env={
            "PATH": os.environ["PATH"],
            "GITHUB_REPOSITORY": "acme/images",
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (output.read_text() if output.exists() else "") == (
        f"next={following}\n" if following else ""
    )


def test_the_token_is_given_to_git_by_the_environment_only(tmp_path: Path) -> None:
    script = f'set -euo pipefail; . "{SCRIPTS}/git-token.sh"; env | grep -c ^GIT_CONFIG_; echo "$@"'
    done = subprocess.run(
        ("bash", "-c", script),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GITHUB_TOKEN": "a-token",
            "GITHUB_SERVER_URL": "https://github.example",
        },
        capture_output=True,
        text=True,
        check=True,
    )

    mask, count, *_ = done.stdout.splitlines()
    assert mask == "::add-mask::eC1hY2Nlc3MtdG9rZW46YS10b2tlbg=="
    assert count == "3"
    assert list(tmp_path.iterdir()) == []
