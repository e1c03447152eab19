"""An artifact as an OCI layout: documents, digests, and the layer itself."""

import hashlib
import io
import json
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import publications

from hakim_actions.cli.main import main
from hakim_actions.errors import PublishError
from hakim_actions.publish import oci


@pytest.fixture
def content() -> bytes:
    return os.urandom(5_000_000) + b"\0" * 5_000_000


@pytest.fixture
def source(tmp_path: Path, content: bytes) -> oci.Source:
    archive = tmp_path / "rootfs.tar.xz"
    archive.write_bytes(lzma.compress(content, preset=0))
    entry = publications.publication(tmp_path / "out").index.entries[0]
    return oci.Source(entry=entry, archive=archive, version="v1.2.0", commit="c" * 40, epoch=0)


def blob(layout: Path, digest: str) -> bytes:
    data = (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


def document(layout: Path, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(layout, digest))
    return found


def test_the_layer_is_the_very_same_tar(tmp_path: Path, source: oci.Source, content: bytes) -> None:
    layout = tmp_path / "layout"
    digest = oci.write_layout(layout, [source], tag="v1.2.0", threads=2)
    manifest = document(layout, digest)
    (layer,) = manifest["layers"]
    packed = blob(layout, layer["digest"])
    assert len(packed) == layer["size"]
    import gzip  # noqa: PLC0415

    assert gzip.decompress(packed) == content
    config = document(layout, manifest["config"]["digest"])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(content).hexdigest()}"]


def test_it_starts_as_coder_in_the_project(tmp_path: Path, source: oci.Source) -> None:
    layout = tmp_path / "layout"
    manifest = document(layout, oci.write_layout(layout, [source], tag="x", threads=1))
    config = document(layout, manifest["config"]["digest"])
    assert config["config"]["User"] == "coder"
    assert config["config"]["WorkingDir"] == "/home/coder/project"
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert config["config"]["Labels"]["hakim.artifact.sha256"] == source.entry.archive.sha256


@pytest.mark.parametrize("threads", [1, 3])
def test_the_digest_does_not_depend_on_threads_or_place(
    tmp_path: Path, source: oci.Source, threads: int
) -> None:
    one = oci.write_layout(tmp_path / "one", [source], tag="a", threads=2)
    assert oci.write_layout(tmp_path / "two", [source], tag="b", threads=threads) == one


def test_two_architectures_are_one_image(tmp_path: Path, source: oci.Source) -> None:
    layout = tmp_path / "layout"
    index = document(layout, oci.write_layout(layout, [source, source], tag="x", threads=2))
    assert [it["platform"]["os"] for it in index["manifests"]] == ["linux", "linux"]
    assert all(document(layout, it["digest"])["layers"] for it in index["manifests"])


def test_a_broken_archive(tmp_path: Path, source: oci.Source) -> None:
    source.archive.write_bytes(source.archive.read_bytes()[:-100])
    with pytest.raises(PublishError, match="is not a readable"):
        oci.write_layout(tmp_path / "layout", [source], tag="x", threads=2)


def test_memory_is_bounded_by_threads() -> None:
    """Pieces are read as they are packed, never all at once."""
    taken: list[int] = []

    def pieces() -> Any:
        for number in range(50):
            taken.append(number)
            yield bytes([number])

    packed = oci._gzip(pieces(), threads=2)
    next(packed)
    assert len(taken) <= 4
    rest = io.BytesIO(b"".join(packed)).getvalue()
    assert zlib.decompress(rest[:100], wbits=31)[:1] == b"\x01"


class TestRegistry:
    """The parts that need no registry; the rest is in tests/e2e/test_registry.py."""

    @pytest.mark.parametrize(
        "place", ["", "acme", "https://ghcr.io/acme", "ghcr.io/a b", "ghcr.io/../x"]
    )
    def test_what_is_no_place(
        self, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = publications.write_all(tmp_path / "out")
        assert main(["publish", str(out), "--target", "registry", "--to", place], {}) == 2
        assert "--to" in capsys.readouterr().err

    def test_without_skopeo_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def missing(program: str, *, env: object) -> str:
            from hakim_actions.system.process import ProcessError  # noqa: PLC0415

            msg = f"The program '{program}' was not found."
            raise ProcessError(msg)

        monkeypatch.setattr("hakim_actions.system.process.find", missing)
        out = publications.write_all(tmp_path / "out")
        env = {"GITHUB_REPOSITORY_OWNER": "Acme"}
        assert main(["publish", str(out), "--target", "registry"], env) == 2
        assert "apt-get install skopeo" in capsys.readouterr().err

    def test_credentials_travel_as_a_file_and_never_as_an_argument(
        self, tmp_path: Path, program: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = tmp_path / "calls"
        program(
            "skopeo",
            f'echo "$@ auth=$REGISTRY_AUTH_FILE" >> {calls}; echo manifest unknown >&2; exit 1',
        )
        auth = tmp_path / "auth.json"
        auth.write_text('{"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}}')
        out = publications.write_all(tmp_path / "out")
        argv = ["publish", str(out), "--target", "registry", "--to", "ghcr.io/acme", "--dry-run"]
        assert main([*argv, "--auth-file", str(auth)], dict(os.environ)) == 0
        called = calls.read_text()
        assert f"auth={auth}" in called
        assert "--tls-verify=true docker://ghcr.io/acme/hakim-base:v1.2.0" in called
        assert "c2VjcmV0" not in called

    def test_a_missing_auth_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["publish", "--target", "registry", "--to", "ghcr.io/acme", "--auth-file"]
        assert main([*argv, str(tmp_path / "none")], {}) == 2
        assert "auth file" in capsys.readouterr().err
