"""The mirror is asked first: what it has now, or a clear word that it does not answer."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.image.mirror import default_mirror, read_archive
from hakim_actions.system.http import Http

Handler = Callable[[httpx.Request], httpx.Response]


def http(handler: Handler) -> Http:
    return Http(transport=httpx.MockTransport(handler), sleep=lambda _: None, attempts=3)


def test_the_state_of_all_three_suites_is_read() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, text=request.url.path)

    archive = read_archive("http://m.test/debian/", "trixie", proxy="", env={}, http=http(answer))

    assert seen == [
        "http://m.test/debian/dists/trixie/InRelease",
        "http://m.test/debian/dists/trixie-updates/InRelease",
        "http://m.test/debian-security/dists/trixie-security/InRelease",
    ]
    assert archive.mirror == "http://m.test/debian"
    path = b"/debian/dists/trixie/InRelease"
    assert archive.digests["trixie"] == hashlib.sha256(path).hexdigest()


def test_a_site_can_have_its_security_archive_elsewhere() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    env = {"HAKIM_SECURITY_MIRROR": "http://other.test/sec/"}
    read_archive("http://m.test/debian", "trixie", proxy="", env=env, http=http(answer))

    assert seen[-1] == "http://other.test/sec/dists/trixie-security/InRelease"


def test_a_dead_mirror_is_tried_again_and_then_named_with_the_reason() -> None:
    attempts: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        attempts.append(str(request.url))
        msg = "Connection refused"
        raise httpx.ConnectError(msg)

    with pytest.raises(BuildError, match=r"http://m\.test/debian/dists/trixie/InRelease") as caught:
        read_archive("http://m.test/debian", "trixie", proxy="", env={}, http=http(refuse))

    assert len(attempts) == 3
    assert "Connection refused" in caught.value.message
    assert "--mirror" in caught.value.hint


def test_a_mirror_without_the_release_is_not_asked_twice() -> None:
    attempts: list[str] = []

    def missing(request: httpx.Request) -> httpx.Response:
        attempts.append(str(request.url))
        return httpx.Response(404)

    with pytest.raises(BuildError, match="404"):
        read_archive("http://m.test/debian", "trixie", proxy="", env={}, http=http(missing))
    assert len(attempts) == 1


def test_the_default_mirror_is_the_one_of_debootstrap(tmp_path: Path) -> None:
    script = tmp_path / "debootstrap"
    script.write_text('#!/bin/sh\nDEF_MIRROR="http://mirror.test/debian"\n')

    assert default_mirror(script) == "http://mirror.test/debian"


def test_a_debootstrap_without_default_asks_for_one(tmp_path: Path) -> None:
    script = tmp_path / "debootstrap"
    script.write_text("#!/bin/sh\n")

    with pytest.raises(ConfigurationError) as caught:
        default_mirror(script)
    assert "--mirror" in caught.value.hint
