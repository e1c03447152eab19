"""Tools are fetched once, checked always, and missing only when that was allowed."""

import hashlib
import os
import tarfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hakim_actions.artifact import ArtifactName
from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.image import fetch, tools
from hakim_actions.image.registries import Registries
from hakim_actions.system.http import Http
from hakim_actions.system.tls import Trust

NAME = ArtifactName("js", "trixie", "amd64")
PROGRAM = b"\x7fELF program " * 50


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pin(url: str, **fields: Any) -> dict[str, Any]:
    """Return a tool that is one file at *url*."""
    name = url.rpartition("/")[2]
    source = {"url": url, "sha256": sha256(PROGRAM), **fields}
    if "unpinned" in fields:
        del source["sha256"]
    put = {".": f"/usr/local/bin/{name}"}
    return {"version": "1", "kind": "url", "variants": "all", "any": source, "put": put}


class Web:
    """Answers requests from *files* by URL; counts them, and can stop answering."""

    def __init__(self, files: Mapping[str, bytes], *, ranges: bool = False) -> None:
        self.files = dict(files)
        self.ranges = ranges
        self.asked: list[str] = []
        self.answers_left = 10_000

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url}")
        self.answers_left -= 1
        if self.answers_left < 0:
            message = "the line is dead"
            raise httpx.ConnectError(message)
        data = self.files.get(str(request.url))
        if data is None:
            return httpx.Response(404)
        headers = {"accept-ranges": "bytes"} if self.ranges else {}
        if request.method == "HEAD":
            return httpx.Response(200, headers={**headers, "content-length": str(len(data))})
        if self.ranges and "range" in request.headers:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            return httpx.Response(206, content=data[first : last + 1])
        return httpx.Response(200, stream=httpx.ByteStream(data))

    def client(self) -> Http:
        return Http(
            transport=httpx.MockTransport(self),
            trust=Trust(insecure=True),
            sleep=lambda _seconds: None,
            attempts=1,
        )


Stage = Callable[..., tools.Staged]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    def run(
        web: Web, entries: dict[str, Any], *, into: Path = tmp_path, **options: Any
    ) -> tools.Staged:
        lock = into / "tools.lock"
        lock.write_text(yaml.safe_dump({"schema": 1, "tools": entries}))
        return tools.stage(
            tools.load(lock).for_target(NAME),
            into=into,
            cache=tmp_path / "cache",
            env=dict(os.environ),
            http=web.client(),
            **options,
        )

    return run


def names(staged: tools.Staged) -> set[str]:
    with tarfile.open(staged.tar) as tar:
        return {info.name.removeprefix("./") for info in tar if info.isfile()}


def test_a_tool_is_downloaded_once(stage: Stage) -> None:
    web = Web({"https://example.com/tool": PROGRAM})
    entries = {"tool": pin("https://example.com/tool")}

    first = stage(web, entries)
    asked = len(web.asked)
    bytes_before = first.tar.read_bytes()
    again = stage(web, entries)

    assert first.versions == {"tool": "1"}
    assert names(again) == {"usr/local/bin/tool"}
    assert again.tar.read_bytes() == bytes_before
    assert len(web.asked) == asked


def test_builds_that_begin_together_download_a_tool_once(stage: Stage, tmp_path: Path) -> None:
    class SlowWeb(Web):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            time.sleep(0.2)  # for the other to come to the same tool meanwhile
            return super().__call__(request)

    web = SlowWeb({"https://example.com/tool": PROGRAM})
    entries = {"tool": pin("https://example.com/tool")}
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()

    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda folder: stage(web, entries, into=folder), folders))

    assert [names(staged) for staged in both] == [{"usr/local/bin/tool"}] * 2
    assert web.asked.count("GET https://example.com/tool") == 1


def test_what_changed_in_the_cache_is_fetched_again(stage: Stage, tmp_path: Path) -> None:
    web = Web({"https://example.com/tool": PROGRAM})
    entries = {"tool": pin("https://example.com/tool")}
    stage(web, entries)
    (tmp_path / f"cache/tools/sha256-{sha256(PROGRAM)}").write_bytes(b"changed")

    staged = stage(web, entries)

    with tarfile.open(staged.tar) as tar:
        stream = tar.extractfile("./usr/local/bin/tool")
        assert stream is not None
        assert stream.read() == PROGRAM


def test_a_wrong_checksum_names_both_values_and_the_source(stage: Stage, tmp_path: Path) -> None:
    web = Web({"https://example.com/tool": b"something else"})

    with pytest.raises(BuildError) as caught:
        stage(web, {"tool": pin("https://example.com/tool")}, allow_missing={"tool"})

    for part in ("https://example.com/tool", sha256(b"something else"), sha256(PROGRAM)):
        assert part in caught.value.message
    assert "nothing was installed" in caught.value.hint
    assert not (tmp_path / "tools.tar").exists()
    assert not [path for path in (tmp_path / "cache/tools").iterdir() if path.suffix != ".lock"]


def test_all_that_cannot_be_had_is_named_at_once(stage: Stage, tmp_path: Path) -> None:
    web = Web({"https://example.com/good": PROGRAM})
    entries = {
        "good": pin("https://example.com/good"),
        "gone": pin("https://example.com/gone", sha256=sha256(b"what is not there")),
        "loose": pin("https://example.com/loose", unpinned="no checksum is published"),
    }

    with pytest.raises(BuildError) as caught:
        stage(web, entries)

    assert "gone: HEAD https://example.com/gone" in caught.value.message or (
        "gone: GET https://example.com/gone" in caught.value.message
    )
    assert "loose: https://example.com/loose is not pinned: no checksum" in caught.value.message
    assert "good:" not in caught.value.message
    assert caught.value.hint == "To build without them: --allow-missing gone,loose"
    assert not (tmp_path / "tools.tar").exists()


def test_what_may_be_missing_is_left_out_and_recorded(stage: Stage) -> None:
    web = Web({"https://example.com/good": PROGRAM})
    entries = {
        "good": pin("https://example.com/good"),
        "gone": pin("https://example.com/gone", sha256=sha256(b"what is not there")),
    }
    said: list[str] = []
    staged = stage(web, entries, allow_missing={"gone", "good"}, on_line=said.append)

    assert staged.missing == ("gone",)
    assert staged.versions == {"good": "1"}
    assert names(staged) == {"usr/local/bin/good"}
    assert "404" in staged.reasons["gone"]
    assert any(line.startswith("without gone: ") for line in said)


def test_a_tool_without_a_source_for_the_architecture_is_missing(stage: Stage) -> None:
    entry = pin("https://example.com/tool")
    entry["arm64"] = entry.pop("any")

    with pytest.raises(BuildError, match="tool: it has no source for amd64"):
        stage(Web({}), {"tool": entry})


def test_allowing_a_tool_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tools.lock"
    path.write_text(yaml.safe_dump({"schema": 1, "tools": {"bun": pin("https://example.com/bun")}}))

    with pytest.raises(ConfigurationError, match="--allow-missing: There is no tool 'bum'"):
        tools.check_allowed(tools.load(path), ["bum"])


def test_a_mirror_serves_what_begins_with_its_url(stage: Stage) -> None:
    web = Web({"https://mirror.example/gh/a/tool": PROGRAM})
    mirrors = {
        "https://example.com": "https://wrong.example",
        "https://example.com/a/": "https://mirror.example/gh/a",
    }
    staged = stage(web, {"tool": pin("https://example.com/a/tool")}, mirrors=mirrors)

    assert staged.versions == {"tool": "1"}
    assert all("mirror.example" in asked for asked in web.asked)


def test_a_mirror_is_not_used_for_a_host_that_only_begins_alike(stage: Stage) -> None:
    web = Web({"https://example.com.evil/tool": PROGRAM})
    mirrors = {"https://example.com": "https://mirror.example"}

    stage(web, {"tool": pin("https://example.com.evil/tool")}, mirrors=mirrors)

    assert not any("mirror" in asked for asked in web.asked)


def test_a_download_that_broke_off_goes_on_where_it_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PIECE", 100)
    web = Web({"https://example.com/tool": PROGRAM}, ranges=True)
    entries = {"tool": pin("https://example.com/tool")}
    web.answers_left = 4  # HEAD and three pieces

    with pytest.raises(BuildError, match="the line is dead"):
        stage(web, entries)
    web.answers_left = 10_000
    web.asked.clear()
    staged = stage(web, entries)

    pieces = -(-len(PROGRAM) // 100)
    assert staged.versions == {"tool": "1"}
    assert len(web.asked) == 1 + pieces - 3


def test_a_bad_rest_of_an_earlier_download_does_no_harm(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PIECE", 100)
    web = Web({"https://example.com/tool": PROGRAM}, ranges=True)
    cache = tmp_path / "cache/tools"
    cache.mkdir(parents=True)
    (cache / f".sha256-{sha256(PROGRAM)}.part").write_bytes(b"x" * 100)

    assert stage(web, {"tool": pin("https://example.com/tool")}).versions == {"tool": "1"}


@pytest.mark.parametrize(
    ("package", "registry"),
    [("bun", "https://site.example/npm"), ("@oven/bun", "https://oven.example")],
)
def test_npm_is_asked_which_registry_a_package_comes_from(
    program: Callable[[str, str], Path], package: str, registry: str
) -> None:
    program(
        "npm",
        """
        case $3 in
          registry) echo https://site.example/npm/ ;;
          @oven:registry) echo https://oven.example ;;
        esac
        """,
    )
    registries = Registries(Web({}).client(), dict(os.environ))

    assert registries.npm_registry(package) == registry


def test_a_tree_of_npm_needs_a_checksum_for_each_package(stage: Stage, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "package.json").write_text("{}")
    (tree / "package-lock.json").write_text('{"packages": {"": {}, "node_modules/a": {}}}')
    entry = {
        "version": "1",
        "kind": "npm",
        "variants": "all",
        "any": {"package": "a", "lockfile": "tree"},
        "put": {".": "/opt/a"},
    }

    with pytest.raises(ConfigurationError, match="without a checksum: node_modules/a"):
        stage(Web({}), {"a": entry})
