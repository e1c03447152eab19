"""What a build downloads once for all, and what it leaves when it is asked for more."""

import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import FakeProgram

from hakim_actions.artifact import ArtifactName, Manifest, parse_sums

Run = Callable[..., tuple[int, str, list[str]]]

OPTIONS = ("--out", "out", "--cache-dir", "cache", "--compression-level", "0")
PACKAGE = "/debian/pool/main/b/bash/bash_5.2.37-2_amd64.deb"
#: Downloads a package as debootstrap and apt do, through the proxy they are told.
DOWNLOADING = """
    here=$(dirname "$0")
    if [[ $1 == build-lxc ]]; then
        echo "${http_proxy-none}" >> "$here/proxies"
        curl --silent --fail --noproxy "" --output "$here/package" "$(<"$here/url")" || exit 1
    fi
    exec "$here/plain" "$@"
"""


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The requests that a mirror got; the last one is its address."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "7")
            self.end_headers()
            self.wfile.write(b"package")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        requests.append(f"http://127.0.0.1:{server.server_port}")
        yield requests
        server.shutdown()


@pytest.fixture
def proxies(
    build_programs: Path, program: FakeProgram, asked: list[str]
) -> Callable[[], list[str]]:
    """Make distrobuilder download a package; return what it was given as proxy in each run."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (build_programs / "distrobuilder").rename(build_programs / "plain")
    program("distrobuilder", DOWNLOADING)
    (build_programs / "url").write_text(asked.pop() + PACKAGE)
    return lambda: (build_programs / "proxies").read_text().split()


def test_with_a_cache_all_builds_together_download_a_package_once(
    run: Run, proxies: Callable[[], list[str]], asked: list[str]
) -> None:
    run("build", "--all", "--cached", *OPTIONS)
    _, said, _ = run("build", "php", "--cached", *OPTIONS)

    assert "Packages: 7 B from the cache, 0 B downloaded." in said

    assert asked == [PACKAGE]
    assert len(set(proxies())) == 7, "each build has a proxy of its own"


def test_several_images_share_packages_also_without_a_cache(
    run: Run, proxies: Callable[[], list[str]], asked: list[str], tmp_path: Path
) -> None:
    run("build", "--all", *OPTIONS)
    assert asked == [PACKAGE]
    run("build", "--all", *OPTIONS)
    assert asked == [PACKAGE] * 2
    assert not list((tmp_path / "cache").rglob("*.*")), "nothing stays"


def test_a_single_image_without_a_cache_downloads_by_itself(
    run: Run, proxies: Callable[[], list[str]]
) -> None:
    run("build", "php", *OPTIONS)
    assert proxies() == ["none"]


def test_a_proxy_that_was_given_is_used_instead(
    run: Run, proxies: Callable[[], list[str]], asked: list[str], build_programs: Path
) -> None:
    address = (build_programs / "url").read_text().removesuffix(PACKAGE)
    run("build", "php", "--cached", "--apt-proxy", address, *OPTIONS)
    assert set(proxies()) == {address}
    assert asked[0].endswith(PACKAGE)


def test_a_twin_is_made_proven_and_listed_when_it_is_wanted(run: Run, tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    name = ArtifactName("base", "trixie", "amd64")
    folder = tmp_path / "out/base"

    assert run("build", "--zstd", *OPTIONS)[0] == 0
    manifest = Manifest.from_json((folder / name.manifest).read_text(), source="it")
    assert manifest.files[0].name == name.archive
    assert name.twin in {record.name for record in manifest.files}
    assert name.twin in parse_sums((folder / "sha256sums.txt").read_text(), source="it")
    assert "zstd" in manifest.phases

    assert run("build", *OPTIONS)[0] == 0
    assert not (folder / name.twin).exists(), "the twin of another build proves nothing"
