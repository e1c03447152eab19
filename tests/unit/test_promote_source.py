"""Reading releases from GitHub, and choosing from a source."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import ConfigurationError, HakimError, VerificationError
from hakim_actions.promote import github, source
from hakim_actions.promote.source import Source, Template
from hakim_actions.system.http import Http
from hakim_actions.system.tls import Trust

API = "https://api.github.com/repos/o/n"
DATA = b"rootfs" * 100
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "hakim-base-trixie-amd64.tar.xz"
ENV = {"GITHUB_TOKEN": "gh-secret"}


class GitHub:
    """One repository with one release; *change* damages it."""

    def __init__(self, *, private: bool = False) -> None:
        self.private = private
        self.digest = f"sha256:{SHA256}"
        self.size = len(DATA)
        self.sums = f"{SHA256}  {NAME}\n"
        self.names = ["index.json", "sha256sums.txt", NAME]
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        path = request.url.path.removeprefix("/repos/o/n")
        if path.startswith("/assets/"):
            assert request.headers["accept"] == "application/octet-stream"
            return httpx.Response(200, stream=httpx.ByteStream(self.content(path[8:])))
        answers: dict[str, object] = {
            "": {"private": self.private},
            "/releases": [{"tag_name": "v1.2.0"}, {"tag_name": "v1.1.0"}],
            "/releases/tags/v1.2.0": {"assets": [self.asset(name) for name in self.names]},
        }
        return httpx.Response(200, json=answers[path]) if path in answers else httpx.Response(404)

    def asset(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "size": self.size if name == NAME else len(self.content(name)),
            "url": f"{API}/assets/{name}",
            "browser_download_url": f"https://github.com/o/n/releases/download/v1.2.0/{name}",
            "digest": self.digest if name == NAME else None,
        }

    def content(self, name: str) -> bytes:
        record = {"name": NAME, "size": len(DATA), "sha256": SHA256}
        entry = {
            "variant": "base", "release": "trixie", "arch": "amd64", "content_key": "",
            "files": {"archive": record}, "packages": {},
        }  # fmt: skip
        index = {"schema": 1, "version": "v1.2.0", "commit": "c", "epoch": 0, "entries": [entry]}
        known = {
            "index.json": json.dumps(index).encode(),
            "sha256sums.txt": self.sums.encode(),
            NAME: DATA,
        }
        return known[name]


def web(handler: GitHub) -> Http:
    return Http(transport=httpx.MockTransport(handler), trust=Trust(insecure=True))


def read(handler: GitHub, tag: str = "v1.2.0") -> Source:
    with web(handler) as client:
        return source.open_source(github.reference("o/n", tag), web=client, env=ENV)


def test_a_public_release_can_be_fetched_by_anybody() -> None:
    found = read(GitHub())
    template = found.templates[0]
    assert (found.version, template.sha256, template.asset) == ("v1.2.0", SHA256, "")
    assert template.url == f"https://github.com/o/n/releases/download/v1.2.0/{NAME}"


def test_a_private_release_is_downloaded_here_with_the_token(tmp_path: Path) -> None:
    server = GitHub(private=True)
    template = read(server).templates[0]
    assert template.url == ""
    with web(server) as client:
        path = source.obtain(template, tmp_path, web=client, env=ENV)
    assert path.read_bytes() == DATA
    assert server.seen[-1].headers["authorization"] == "Bearer gh-secret"


def test_an_unknown_tag_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigurationError) as error:
        read(GitHub(), "v1.2")
    assert "Did you mean 'v1.2.0'?" in error.value.hint


def test_a_release_without_index_is_refused() -> None:
    server = GitHub()
    server.names.remove("index.json")
    with pytest.raises(ConfigurationError, match=r"has no index\.json"):
        read(server)


@pytest.mark.parametrize(
    "damage",
    [
        {"digest": "sha256:" + "0" * 64},
        {"size": 1},
        {"sums": f"{'0' * 64}  {NAME}\n"},
        {"names": ["index.json"]},
    ],
    ids=["digest", "size", "sums", "missing asset"],
)
def test_a_release_that_contradicts_itself_is_refused(damage: dict[str, object]) -> None:
    server = GitHub()
    vars(server).update(damage)
    with pytest.raises(VerificationError, match="contradicts itself"):
        read(server)


def test_a_download_with_another_checksum_is_refused(tmp_path: Path) -> None:
    template = Template(
        name=ArtifactName("base", "trixie", "amd64"), size=len(DATA), sha256="0" * 64,
        asset=f"{API}/assets/{NAME}",
    )  # fmt: skip
    with web(GitHub()) as client, pytest.raises(HakimError, match="has sha256"):
        source.obtain(template, tmp_path, web=client, env=ENV)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://site.example/index.json", "ftp://site.example/index.json"])
def test_an_index_that_proves_nothing_is_refused(url: str) -> None:
    with web(GitHub()) as client, pytest.raises(ConfigurationError, match="not https"):
        source.open_source(url, web=client, env={})


@pytest.mark.parametrize(
    ("repo", "tag"), [("o", "v1"), ("o/n/x", "v1"), ("o/n", ""), ("o/n", "a b")]
)
def test_what_is_no_release_is_refused(repo: str, tag: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a release"):
        github.reference(repo, tag)


def _source(*names: tuple[str, str, str]) -> Source:
    templates = tuple(Template(name=ArtifactName(*n), size=1, sha256="") for n in names)
    return Source(reference="r", version="v", commit="", templates=templates)


def test_every_wish_that_is_not_there_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        source.select(_source(("base", "trixie", "amd64")), variants=["bse"], archs=["arm64"])
    assert len(error.value.problems) == 2
    assert "Did you mean 'base'?" in error.value.problems[0]


def test_wishes_that_exclude_each_other_are_refused() -> None:
    pair = _source(("base", "trixie", "amd64"), ("php", "bookworm", "amd64"))
    with pytest.raises(ConfigurationError) as error:
        source.select(pair, variants=["base"], releases=["bookworm"])
    assert "together" in error.value.problems[0]
