"""The mirror is asked first: what it has now, or a clear word that it does not answer."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hakim_actions.artifact import Archive
from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.image.mirror import default_mirror, read_archive, snapshot_of
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


class Snapshots:
    """An archive of snapshots: states of Debian by the hour they were kept, on loopback."""

    def __init__(self, kept: dict[str, str]) -> None:
        self._kept = kept

    def answer(self, request: httpx.Request) -> httpx.Response:
        _, _, _, stamp, *rest = request.url.path.split("/")
        states = [state for since, state in sorted(self._kept.items()) if since <= stamp]
        if not states:
            return httpx.Response(404)
        date = "Date: Sat, 01 Nov 2025 12:00:00 UTC"
        return httpx.Response(200, text=f"{date}\n{'/'.join(rest)} {states[-1]}")


def recorded(state: str) -> Archive:
    """Return the archive as a mirror had it in *state*, which snapshots keep a while later."""
    suites = ("trixie", "trixie-updates", "trixie-security")
    bodies = {
        suite: f"Date: Sat, 01 Nov 2025 12:00:00 UTC\ndists/{suite}/InRelease {state}"
        for suite in suites
    }
    return Archive(
        mirror="http://m.test/debian",
        security="http://m.test/debian-security",
        date=1_761_998_400,  # 2025-11-01 12:00 UTC
        digests={
            suite: hashlib.sha256(body.encode()).hexdigest() for suite, body in bodies.items()
        },
    )


def test_the_date_of_the_archive_is_what_its_release_files_say() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        hour = "15" if "updates" in request.url.path else "12"
        return httpx.Response(
            200, text=f"Origin: Debian\nDate: Sat, 01 Nov 2025 {hour}:00:00 UTC\n"
        )

    archive = read_archive("http://m.test/debian", "trixie", proxy="", env={}, http=http(answer))

    assert archive.date == 1_761_998_400 + 3 * 3600
    assert archive.security == "http://m.test/debian-security"


def test_the_snapshot_with_the_recorded_state_is_found_though_it_was_kept_later() -> None:
    kept = Snapshots({"20251101T0": "before", "20251101T17": "then", "20251102T05": "after"})

    found = snapshot_of(recorded("then"), "http://s.test/", "trixie", http=http(kept.answer))

    assert found.mirror == "http://s.test/archive/debian/20251101T180000Z"
    assert found.security == "http://s.test/archive/debian-security/20251101T180000Z"


def test_a_state_that_no_snapshot_has_is_refused_with_its_date() -> None:
    kept = Snapshots({"20251101T0": "before", "20251102T05": "after"})

    with pytest.raises(BuildError, match=r"as it was on 2025-11-01 12:00 UTC"):
        snapshot_of(recorded("then"), "http://s.test", "trixie", http=http(kept.answer))


def test_a_snapshot_archive_that_does_not_answer_is_named() -> None:
    with pytest.raises(BuildError, match=r"http://s\.test/archive/debian/.*404"):
        snapshot_of(recorded("then"), "http://s.test", "trixie", http=http(Snapshots({}).answer))
