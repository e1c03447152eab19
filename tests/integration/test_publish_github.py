"""Publishing to GitHub, against a server that keeps its rules and breaks on demand."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import github, github_openapi, publications
from fakes.github import READ_TOKEN, TOKEN, Fault, GitHub
from fakes.github_openapi import Description, UnavailableError
from fakes.publications import COMMIT, Made

from hakim_actions.artifact import SUMS_NAME, parse_sums
from hakim_actions.cli.main import main
from hakim_actions.errors import HakimError
from hakim_actions.publish import github_api, github_errors, patience
from hakim_actions.publish.base import Asset, Publication
from hakim_actions.publish.github_rules import check_limits

ON_CI = bool(os.environ.get("CI"))
UPLOAD = "/api/uploads/"
RELEASES = "/releases$"
TAG = "v1.2.0"
#: archive, metadata, manifest, SBOM, index and checksums
FILES = 6


@pytest.fixture(scope="session")
def description() -> Description | None:
    try:
        return github_openapi.load()
    except UnavailableError:
        if ON_CI:
            raise
        return None


@pytest.fixture
def server(description: Description | None) -> Iterator[GitHub]:
    """A server whose every exchange must be as GitHub describes it."""
    with github.running(validator=description) as running:
        yield running
    assert running.violations == []


def test_the_exchanges_are_held_against_githubs_description(
    description: Description | None, server: GitHub
) -> None:
    if description is None:
        pytest.skip("npm is not installed, so GitHub's description cannot be fetched")
    exchange = github.Exchange(
        number=1, method="POST", path="/api/v3/repos/a/b/releases", query={}, headers={}
    )
    exchange.body, exchange.status, exchange.reply = {"tag": "v1"}, 201, {"id": "one"}
    assert len(description.problems(exchange)) > 3


@dataclass
class Ran:
    """What a run printed, and how it ended."""

    code: int
    output: str
    error: str


Run = Callable[..., Ran]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return publications.write_all(tmp_path / "out", "base", base=Made(archive=b"x" * 3_000_000))


@pytest.fixture
def publish(
    server: GitHub, out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Return a function that runs the command; no run may ever show a token."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(github_errors, "SECONDARY_WAIT", 0.1)

    def run(*options: str, folder: Path = out, **variables: str) -> Ran:
        environment = server.environment(**variables)
        code = main(["publish", "--target", "github", str(folder), *options], environment)
        printed = capfd.readouterr()
        for secret in (TOKEN, READ_TOKEN):
            assert secret not in printed.out + printed.err
        return Ran(code, printed.out, printed.err)

    return run


def complete(server: GitHub, tag: str = TAG) -> dict[str, Any]:
    """Assert that the one release of *tag* is published and whole, with no draft beside it."""
    (release,) = server.of_tag(tag)
    assert not release["draft"]
    assets = {asset["name"]: asset for asset in release["assets"]}
    assert {asset["state"] for asset in assets.values()} == {"uploaded"}
    sums = server.contents[assets[SUMS_NAME]["id"]].decode()
    listed = parse_sums(sums, source="the release")
    assert assets.keys() == listed.keys() | {SUMS_NAME}
    if server.digests:
        digests = {name: asset["digest"].removeprefix("sha256:") for name, asset in assets.items()}
        assert {name: digests[name] for name in listed} == listed
    return release


def uploads(server: GitHub) -> list[str]:
    return [exchange.query["name"] for exchange in server.exchanges if exchange.is_upload]


class TestAReleaseIsMade:
    def test_complete_and_latest(self, server: GitHub, publish: Run) -> None:
        done = publish()
        assert done.code == 0, done.error
        release = complete(server)
        assert len(release["assets"]) == FILES
        assert release["target_commitish"] == COMMIT
        assert server.latest == release["id"]
        assert f"{TAG} is published: {server.base}/acme/images/releases/tag/{TAG}" in done.output

    def test_everything_is_uploaded_before_it_becomes_visible_and_nothing_after(
        self, server: GitHub, publish: Run
    ) -> None:
        publish()
        visible = [it.number for it in server.exchanges if it.method == "PATCH"]
        assert len(visible) == 1
        assert all(it.number < visible[0] for it in server.writes() if it.method != "PATCH")

    def test_the_notes_have_table_commands_changes_and_githubs_own(
        self, server: GitHub, publish: Run, out: Path, tmp_path: Path
    ) -> None:
        older = Made(version="v1.1.0", packages={"bash": "5.2.37-2", "nano": "8.4-1"})
        publish("--tag", "v1.1.0", folder=publications.write_all(tmp_path / "old", base=older))
        publish()
        body = complete(server)["body"]
        sha256 = hashlib.sha256((out / "base/hakim-base-trixie-amd64.tar.xz").read_bytes())
        assert sha256.hexdigest() in body
        assert f"--url {server.base}/acme/images/releases/download/{TAG}/hakim-base-" in body
        assert "| package | `nano` | 8.4-1 | — | removed |" in body
        assert "| package | `bash` | 5.2.37-2 | 5.2.37-2+b5 | upgraded |" in body
        assert "template_url_base = " in body
        assert "* from v1.1.0" in body

    def test_an_earlier_release_that_cannot_be_read_stops_nothing(
        self, server: GitHub, publish: Run
    ) -> None:
        server.add_asset(server.add_release("v1.0.0"), "index.json", b'{"schema": 99}')
        done = publish()
        assert done.code == 0
        assert "The notes will not say what changed" in done.output + done.error
        complete(server)

    def test_a_candidate_is_a_prerelease_and_never_the_latest(
        self, server: GitHub, publish: Run
    ) -> None:
        assert publish("--tag", "v2.0.0-rc.1").code == 0
        assert complete(server, "v2.0.0-rc.1")["prerelease"]
        assert server.latest == 0

    def test_a_fix_of_an_older_line_does_not_become_the_latest(
        self, server: GitHub, publish: Run
    ) -> None:
        newest = server.add_release("v2.0.0")
        assert publish().code == 0
        assert server.latest == newest["id"]

    def test_the_tag_of_the_workflow_names_the_release(self, server: GitHub, publish: Run) -> None:
        assert publish(GITHUB_REF_TYPE="tag", GITHUB_REF_NAME="v3.0.0").code == 0
        complete(server, "v3.0.0")

    def test_where_releases_are_immutable(self, server: GitHub, publish: Run) -> None:
        server.immutable = True
        assert publish().code == 0
        assert complete(server)["immutable"]
        assert publish().code == 0, "a re-run leaves it alone"

    def test_outputs_and_summary_of_a_workflow(
        self, server: GitHub, publish: Run, tmp_path: Path
    ) -> None:
        output, summary = tmp_path / "output", tmp_path / "summary"
        publish(GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary))
        url = f"{server.base}/acme/images/releases/tag/{TAG}"
        assert re.search(rf"release-url<<(\w+)\n{re.escape(url)}\n\1\n", output.read_text())
        assert "| `hakim-base-trixie-amd64.tar.xz` | trixie | amd64 |" in summary.read_text()

    def test_a_server_that_knows_no_digests_is_read_back_byte_by_byte(
        self, server: GitHub, publish: Run, tmp_path: Path
    ) -> None:
        server.digests = False
        small = publications.write_all(tmp_path / "small")
        assert publish(folder=small).code == 0
        complete(server)
        assert publish(folder=small).code == 0
        (asset,) = (it for it in complete(server)["assets"] if it["name"] == "index.json")
        server.contents[asset["id"]] = b"y" * asset["size"]
        refused = publish(folder=small)
        assert "index.json is another file" in refused.error

    def test_drafts_beyond_the_first_page_are_found(self, server: GitHub, publish: Run) -> None:
        assert publish().code == 0
        for number in range(120):
            server.add_release(f"v0.0.{number}")
        before = len(server.writes())
        assert publish().code == 0
        assert len(server.writes()) == before


class TestARunIsRepeated:
    def test_a_finished_release_is_left_alone(self, server: GitHub, publish: Run) -> None:
        publish()
        before = len(server.writes())
        again = publish()
        assert again.code == 0
        assert "was published already, with the same files" in again.output
        assert len(server.writes()) == before

    def test_a_dry_run_changes_nothing_and_says_what_would_be_done(
        self, server: GitHub, publish: Run
    ) -> None:
        plan = publish("--dry-run")
        assert plan.code == 0
        assert server.writes() == []
        assert "make     draft v1.2.0" in plan.output
        assert "send     hakim-base-trixie-amd64.tar.xz" in plan.output
        assert "becomes the latest" in plan.output

    def test_what_is_there_and_proven_is_not_sent_again(self, server: GitHub, publish: Run) -> None:
        server.faults = [Fault(method="PATCH", path=".", times=1, status=422, message="no")]
        assert publish().code == 6
        server.exchanges.clear()
        plan = publish("--dry-run").output
        assert plan.count("keep") == FILES
        assert publish().code == 0
        assert uploads(server) == []
        complete(server)

    def test_half_uploaded_and_wrong_files_of_our_draft_are_replaced(
        self, server: GitHub, publish: Run
    ) -> None:
        server.faults = [Fault(method="PATCH", path=".", times=1, status=422, message="no")]
        publish()
        (draft,) = server.of_tag(TAG)
        draft["assets"][0].update(state="starter", size=0, digest=None)
        draft["assets"][1].update(digest="sha256:" + "0" * 64)
        replaced = {draft["assets"][0]["name"], draft["assets"][1]["name"]}
        server.add_asset(draft, "notes.pdf", b"not ours")
        server.exchanges.clear()
        assert publish().code == 0
        assert set(uploads(server)) == replaced
        complete(server)

    def test_of_two_drafts_of_ours_the_better_one_is_completed(
        self, server: GitHub, publish: Run
    ) -> None:
        server.faults = [Fault(method="PATCH", path=".", times=1, status=422, message="no")]
        publish()
        (draft,) = server.of_tag(TAG)
        server.add_release(TAG, draft=True, body=draft["body"])
        server.exchanges.clear()
        assert publish().code == 0
        assert complete(server)["id"] == draft["id"]
        assert uploads(server) == []


#: name → what goes wrong. Every one of them must still end in a complete release.
PASSING = {
    "502 with a starter left": Fault(method="POST", path=UPLOAD, status=502, leaves="starter"),
    "502 with nothing left": Fault(method="POST", path=UPLOAD, status=502),
    "502 although it was stored": Fault(method="POST", path=UPLOAD, status=502, after=True),
    "answer to an upload lost": Fault(method="POST", path=UPLOAD, after=True),
    "cut at the first byte": Fault(method="POST", path=UPLOAD, at_byte=1, times=FILES),
    "cut in the middle": Fault(method="POST", path=UPLOAD, at_byte=500, times=2),
    "503 with Retry-After": Fault(
        method="POST", path=UPLOAD, status=503, headers={"Retry-After": "0"}
    ),
    "secondary limit": Fault(
        method="POST",
        path=UPLOAD,
        status=403,
        message="You have exceeded a secondary rate limit",
        headers={"Retry-After": "1"},
    ),
    "secondary limit without Retry-After": Fault(
        method="POST",
        path=RELEASES,
        status=403,
        message="You have exceeded a secondary rate limit.",
    ),
    "too many requests": Fault(method="POST", path=UPLOAD, status=429, message="slow down"),
    "primary limit": Fault(
        method="GET",
        path=RELEASES,
        status=403,
        message="API rate limit exceeded",
        headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"},
    ),
    "500 while listing": Fault(method="GET", path=RELEASES, status=500, times=2),
    "listing cut": Fault(method="GET", path=RELEASES),
    "answer to the draft lost": Fault(method="POST", path=RELEASES, after=True),
    "502 for a draft that was made": Fault(method="POST", path=RELEASES, status=502, after=True),
    "answer to publishing lost": Fault(method="PATCH", path=".", after=True),
    "502 when publishing": Fault(method="PATCH", path=".", status=502),
    "read-back fails at first": Fault(method="GET", path=r"/releases/\d+$", status=504),
    "notes fail": Fault(method="POST", path="generate-notes", status=422, message="no such tag"),
    "duplicate by a lost attempt": Fault(
        method="POST",
        path=UPLOAD,
        status=422,
        message="Validation Failed",
        errors=[{"resource": "ReleaseAsset", "code": "already_exists", "field": "name"}],
    ),
}


class TestWhatPasses:
    @pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
    def test_ends_in_a_complete_release(self, server: GitHub, publish: Run, fault: Fault) -> None:
        server.faults = [Fault(**vars(fault))]
        done = publish()
        assert done.code == 0, done.error
        assert server.faults[0].times == 0, "the fault never came"
        release = complete(server)
        assert len(release["assets"]) == FILES

    def test_a_stalled_connection_is_given_up_and_tried_again(
        self, server: GitHub, publish: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(github_api, "STALL", 1)
        server.faults = [Fault(method="POST", path=UPLOAD, slow=1.5, after=True)]
        assert publish().code == 0
        complete(server)

    def test_a_limit_for_all_makes_all_wait(self, server: GitHub, publish: Run) -> None:
        limit = PASSING["secondary limit"]
        server.faults = [Fault(**vars(limit))]
        assert publish("--parallel", "1").code == 0
        at = [it.number for it in server.exchanges if it.is_upload and it.status == 403]
        assert len(at) == 1
        complete(server)


class TestWhatIsRefused:
    @pytest.fixture
    def refused(self, server: GitHub, publish: Run) -> Callable[..., str]:
        """Run, expect the exit code, and that no release became visible; return the errors."""

        def run(code: int, *options: str, **variables: str) -> str:
            visible = [it["id"] for it in server.releases.values() if not it["draft"]]
            done = publish(*options, **variables)
            assert done.code == code, done.error
            assert [it["id"] for it in server.releases.values() if not it["draft"]] == visible
            return done.error

        return run

    def test_a_finished_release_with_other_content(
        self, server: GitHub, refused: Callable[..., str]
    ) -> None:
        server.add_asset(server.add_release(TAG), "index.json", b"{}")
        error = refused(6, "--replace-draft")
        assert "already published in acme/images with other content" in error
        assert server.writes() == []

    def test_a_draft_of_somebody_else(self, server: GitHub, refused: Callable[..., str]) -> None:
        server.add_release(TAG, draft=True, body="My own words")
        error = refused(6)
        assert "--replace-draft" in error
        assert server.writes() == []

    def test_until_replacing_it_is_asked_for(self, server: GitHub, publish: Run) -> None:
        server.add_release(TAG, draft=True, body="My own words")
        assert publish("--replace-draft").code == 0
        complete(server)

    def test_deleting_a_draft_is_tried_again(self, server: GitHub, publish: Run) -> None:
        server.add_release(TAG, draft=True, body="My own words")
        server.faults = [Fault(method="DELETE", path=".", status=500, after=True)]
        assert publish("--replace-draft").code == 0
        assert server.faults[0].times == 0
        complete(server)

    def test_a_burned_tag(self, server: GitHub, refused: Callable[..., str]) -> None:
        server.burned = {TAG}
        error = refused(6)
        assert "is burned: use a new version" in error
        assert "The draft is complete and stays" in error

    def test_a_protected_tag(self, server: GitHub, refused: Callable[..., str]) -> None:
        server.protected = r"v.*"
        assert "A rule of the repository protects the tag v1.2.0" in refused(6)

    def test_a_tag_of_another_commit(self, server: GitHub, refused: Callable[..., str]) -> None:
        server.tags[TAG] = "f" * 40
        assert "stands for ffffffffffff, but the artifacts were built from 0123456789ab" in refused(
            6
        )
        assert server.writes() == []

    def test_5xx_for_longer_than_the_deadline(
        self, server: GitHub, refused: Callable[..., str]
    ) -> None:
        server.faults = [Fault(method="POST", path=UPLOAD, status=502, times=1000)]
        error = refused(6, "--deadline", "1")
        assert "Unable to upload" in error
        assert "GitHub answered 502" in error
        assert len(server.of_tag(TAG)) == 1

    def test_a_connection_that_is_too_slow(
        self, server: GitHub, refused: Callable[..., str], out: Path
    ) -> None:
        publications.write(out, Made(archive=b"x" * 40_000_000))
        server.on_body = lambda _exchange, _count: time.sleep(0.2)
        assert "not sent within" in refused(6, "--deadline", "2")

    def test_a_limit_that_asks_for_more_than_the_deadline(
        self, server: GitHub, refused: Callable[..., str]
    ) -> None:
        limit = {"Retry-After": "3600"}
        server.faults = [Fault(method="POST", path=UPLOAD, status=429, headers=limit, times=9)]
        assert "The server asks to wait 3600 s" in refused(6, "--deadline", "5")

    def test_no_token(self, refused: Callable[..., str]) -> None:
        assert "No token to publish to acme/images" in refused(2, GITHUB_TOKEN="")

    def test_a_token_that_may_only_read(self, refused: Callable[..., str]) -> None:
        error = refused(2, GITHUB_TOKEN=READ_TOKEN)
        assert "the token lacks 'contents: write' on acme/images" in error
        assert "permissions: contents: write" in error

    def test_an_unknown_token(self, refused: Callable[..., str]) -> None:
        error = refused(2, GITHUB_TOKEN="ghs_never-shown")  # noqa: S106
        assert "does not know this token" in error
        assert "never-shown" not in error

    def test_a_repository_that_is_not_there(self, refused: Callable[..., str]) -> None:
        assert "The repository acme/nothing does not exist" in refused(2, "--to", "acme/nothing")

    @pytest.mark.parametrize(
        "name", ["acme", "acme/im ages", "https://github.com/acme/images", "../x"]
    )
    def test_what_is_no_repository(self, refused: Callable[..., str], name: str) -> None:
        assert "is not a repository" in refused(2, "--to", name)

    @pytest.mark.parametrize(
        "tag", ["1.2.0", "v1.2", "v01.2.0", "latest", "v1.2.0+build", "v1/2.0"]
    )
    def test_a_tag_that_breaks_the_rules(
        self, server: GitHub, refused: Callable[..., str], tag: str
    ) -> None:
        assert f"'{tag}' cannot" in refused(2, "--tag", tag)
        assert server.exchanges == []

    def test_another_server_altogether(self, refused: Callable[..., str]) -> None:
        assert "Unable to" in refused(
            6, "--deadline", "1", GITHUB_API_URL="http://127.0.0.1:9/api/v3"
        )

    def test_an_artifact_that_changed_after_it_was_verified(
        self, server: GitHub, out: Path, refused: Callable[..., str]
    ) -> None:
        (out / "base/hakim-base-trixie-amd64.cdx.json").write_text("{}")
        assert "changed after it was verified" in refused(5)
        assert server.exchanges == []

    def test_a_file_that_changes_while_it_is_published(
        self, server: GitHub, out: Path, refused: Callable[..., str]
    ) -> None:
        archive = out / "base/hakim-base-trixie-amd64.tar.xz"

        def change(exchange: github.Exchange) -> None:
            if exchange.path.endswith("/releases") and exchange.method == "POST":
                archive.write_bytes(b"z" * archive.stat().st_size)

        server.on_request = change
        assert "hakim-base-trixie-amd64.tar.xz is another file" in refused(6)


def test_limits_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    whole = publications.publication(tmp_path)
    big = Asset(name="hakim-big.tar.xz", size=2 << 30, sha256="0" * 64, path=tmp_path / "none")
    odd = Asset(name="hakim (1).tar.xz", size=1, sha256="0" * 64, path=tmp_path / "none")
    empty = Asset(name="hakim-empty.tar.xz", size=0, sha256="0" * 64, path=tmp_path / "none")
    many = [Asset(name=f"a{number}", size=1, sha256="0" * 64) for number in range(1000)]
    assets = (*whole.assets, big, odd, empty, *many)
    with pytest.raises(HakimError) as caught:
        check_limits(Publication(index=whole.index, assets=assets))
    problems = "\n".join(getattr(caught.value, "problems", ()))
    for part in (
        "2147483648 bytes",
        "would be renamed",
        "hakim-empty.tar.xz is empty",
        "1009 files",
    ):
        assert part in problems
