"""Real images: Debian from its archive, distrobuilder, and LXC. Nothing is replaced."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from images import ALLOW_MISSING, ROOT, Build, build_images, hakim, stdout_of

from hakim_actions.artifact import Manifest
from hakim_actions.catalog import Catalog
from hakim_actions.image.mirror import default_mirror
from hakim_actions.system.files import sha256_file

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to bootstrap Debian and to boot"),
]


def test_the_base_template_is_built_verified_and_booted(build_image: Build) -> None:
    built = build_image("base")

    archive = Path(built["artifact"])
    manifest = Manifest.from_json(Path(built["manifest"]).read_text(), source="manifest")
    assert sha256_file(archive) == built["sha256"]
    proven = {check.name for check in manifest.checks}
    assert {"structure", "state", "units", "ssh", "coder"} <= proven
    assert {"systemd", "openssh-server", "git", "neovim"} <= set(manifest.packages)
    stdout_of("verify", str(archive.parent))


def test_gnu_tar_and_xz_read_the_real_archive(build_image: Build) -> None:
    archive = build_image("base")["artifact"]

    subprocess.run(("xz", "-t", archive), check=True)
    listing = subprocess.run(
        ("tar", "-tJf", archive), check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert listing[0] == "./"
    assert all(name.startswith("./") for name in listing)
    assert "./etc/hakim-release" in listing


class _Snapshots(BaseHTTPRequestHandler):
    """An archive of snapshots that has one state at all times: that of the mirror just now."""

    def do_GET(self) -> None:
        _, _, archive, _stamp, *rest = self.path.split("/")
        mirror = default_mirror().removesuffix("/debian")
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", f"{mirror}/{archive}/{'/'.join(rest)}")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - likewise

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def snapshot_url() -> Iterator[str]:
    """Return the URL of an archive of snapshots."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Snapshots) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_second_build_gives_the_same_bytes(build_image: Build) -> None:
    """It stands on the base layer; the first one made that, wherever the cache was empty."""
    first = build_image("base")
    second = build_image("base", again=True)

    assert second["sha256"] == first["sha256"]


@pytest.mark.every_variant
def test_the_manifest_is_enough_to_make_the_same_bytes_again(
    build_image: Build, snapshot_url: str, tmp_path: Path
) -> None:
    """Bootstrapped once more, whatever the first one stood on, from a snapshot of the archive."""
    built = build_image("base")

    said = stdout_of(
        *("reproduce", built["manifest"], "--snapshot-url", snapshot_url),
        *("--cache-dir", str(tmp_path)),
    )

    assert built["sha256"] in said


def test_a_variant_has_the_same_bytes_on_a_layer_and_from_scratch(build_image: Build) -> None:
    """The same packages and files, that is, with the same contents, modes, owners and times.

    The second build is always from scratch, and the command fails when it differs. Elixir's
    packages add a user, a group and services to those of the base.
    """
    build_image("elixir", "--check-reproducible")


@pytest.mark.every_variant
@pytest.mark.timeout(5400)
def test_every_variant_has_the_same_bytes_on_a_layer_and_from_scratch(tmp_path: Path) -> None:
    """With as little compression as there is; equal bytes are equal at any level."""
    images = build_images(
        *("--all", "--cached", "--check-reproducible"),
        *("--compression-level", "0", "--out", str(tmp_path)),
    )

    assert len(images) == len(
        Catalog.load(ROOT / "distrobuilder/variants.yaml").of_release("trixie")
    )


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle of the real bootstrap: no process, no mount, no file, no folder."""
    work = tmp_path / "work"
    with subprocess.Popen(
        hakim(
            *("build", "--variant", "base", "--from-scratch"),
            *("--allow-missing", ",".join(ALLOW_MISSING)),
            *("--out", str(tmp_path / "out"), "--work-dir", str(work)),
        ),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stderr
        for line in child.stderr:
            if "Extracting" in line or "Unpacking" in line:
                break
        child.send_signal(signal.SIGTERM)
        rest = child.stderr.read()
        assert child.wait(60) == 143, rest

    assert str(work) not in Path("/proc/self/mountinfo").read_text()
    assert list(work.iterdir()) == []
    out = {path.name for path in (tmp_path / "out/base").iterdir()}
    assert out == {"hakim-base-trixie-amd64.build.log", ".hakim-base-trixie-amd64.lock"}
    deadline = time.monotonic() + 10
    while _commands_with(str(work)):
        assert time.monotonic() < deadline, _commands_with(str(work))
        time.sleep(0.2)


def test_a_dead_mirror_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        hakim("build", "--mirror", "http://127.0.0.1:9/debian", "--out", str(tmp_path)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 4
    assert "http://127.0.0.1:9/debian/dists/trixie/InRelease" in done.stderr
    assert "--mirror" in done.stderr


def _commands_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


def test_bookworm_is_built_without_a_password(build_image: Build) -> None:
    """Proxmox gives it keys and password; the boot test proves that root's is refused."""
    built = build_image("base", "--release", "bookworm")

    manifest = json.loads(Path(built["manifest"]).read_text())
    ssh = next(check for check in manifest["checks"] if check["name"] == "ssh")
    assert "refused" in ssh["detail"]


def promised(variant: str, missing: Sequence[str]) -> set[str]:
    """Return the names of the checks that *variant* has to pass without the *missing* tools."""
    catalog = Catalog.load(ROOT / "distrobuilder/variants.yaml")
    return {check.name for check in catalog.checks(variant, "trixie", missing=missing)}


def keeps_its_promises(built: dict[str, Any], variant: str) -> None:
    manifest = json.loads(Path(built["manifest"]).read_text())
    proven = {check["name"] for check in manifest["checks"]}
    assert set(manifest["missing"]) <= set(ALLOW_MISSING)
    assert promised(variant, manifest["missing"]) <= proven
    assert variant in json.dumps(manifest["name"])


@pytest.mark.parametrize("variant", ["php", "elixir"])
def test_a_variant_keeps_its_promises_when_it_runs(build_image: Build, variant: str) -> None:
    """Each check of variants.yaml ran in the booted container; the build fails when one does."""
    keeps_its_promises(build_image(variant), variant)


@pytest.mark.every_variant
@pytest.mark.parametrize("variant", ["dotnet", "js", "rust"])
def test_every_other_variant_does_so_too(build_image: Build, variant: str) -> None:
    keeps_its_promises(build_image(variant), variant)
