"""The HTTP client: what is retried, what is refused, and what a download leaves behind."""

import email.utils
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from hakim_actions.system import http
from hakim_actions.system.http import Deadline, Http, HttpError
from hakim_actions.system.tls import Trust

Handler = Callable[[httpx.Request], httpx.Response]
BODY = b"template " * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
URL = "https://files.example/a.tar.xz"


def streamed(body: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(body))


class Pauses(list[float]):
    """Records how long the client would have slept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def client(handler: Handler, **options: object) -> Http:
    defaults: dict[str, object] = {
        "sleep": Pauses(),
        "transport": httpx.MockTransport(handler),
        "trust": Trust(insecure=True),  # no TLS here; saves loading the CAs
    }
    return Http(**{**defaults, **options})  # type: ignore[arg-type]


def answers(*given: httpx.Response | Exception) -> Handler:
    """Give one answer after the other; a test that asks for more fails."""
    queue: Iterator[httpx.Response | Exception] = iter(given)

    def handle(_request: httpx.Request) -> httpx.Response:
        answer = next(queue)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_read_is_repeated_when_the_server_says_later(status: int) -> None:
    with client(answers(httpx.Response(status), httpx.Response(200, json={"a": 1}))) as web:
        assert web.get(URL).json() == {"a": 1}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 501])
def test_a_definite_refusal_is_not_repeated(status: int) -> None:
    with client(answers(httpx.Response(status, text="why"))) as web, pytest.raises(HttpError) as e:
        web.get(URL)
    assert (e.value.status, e.value.body) == (status, "why")


@pytest.mark.parametrize(
    ("failure", "repeated"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("slow"), True),
        (httpx.ReadError("reset"), False),
        (httpx.RemoteProtocolError("cut"), False),
        (httpx.Response(503), False),
        (httpx.Response(429), True),
        (httpx.Response(403, headers={"Retry-After": "1"}), True),
    ],
    ids=str,
)
def test_a_post_is_repeated_only_when_it_was_certainly_not_carried_out(
    failure: httpx.Response | Exception, *, repeated: bool
) -> None:
    with client(answers(failure, httpx.Response(201))) as web:
        if repeated:
            assert web.request("POST", URL).status == 201
        else:
            with pytest.raises(HttpError):
                web.request("POST", URL)


def test_a_post_the_caller_knows_to_be_harmless_is_repeated() -> None:
    with client(answers(httpx.ReadError("reset"), httpx.Response(201))) as web:
        assert web.request("POST", URL, retry=True).status == 201


def test_the_number_of_attempts_is_bounded() -> None:
    seen: list[int] = []

    def handle(_request: httpx.Request) -> httpx.Response:
        seen.append(1)
        return httpx.Response(503)

    with client(handle, attempts=3) as web, pytest.raises(HttpError, match="503"):
        web.get(URL)
    assert len(seen) == 3


@pytest.mark.parametrize("dated", [False, True])
def test_the_server_decides_how_long_to_wait(*, dated: bool) -> None:
    value = email.utils.formatdate(time.time() + 60, usegmt=True) if dated else "60"
    pauses = Pauses()
    busy = httpx.Response(503, headers={"Retry-After": value})
    with client(answers(busy, httpx.Response(200)), sleep=pauses) as web:
        web.get(URL)
    assert len(pauses) == 1
    assert 58 <= pauses[0] <= 60


def test_a_wait_beyond_the_deadline_fails_at_once_with_the_real_reason() -> None:
    pauses = Pauses()
    busy = httpx.Response(503, headers={"Retry-After": "3600"})
    with (
        client(answers(busy), sleep=pauses, deadline=Deadline(5)) as web,
        pytest.raises(HttpError, match="503"),
    ):
        web.get(URL)
    assert pauses == []


def test_nothing_is_sent_after_the_deadline() -> None:
    with (
        client(answers(), deadline=Deadline(0)) as web,
        pytest.raises(HttpError, match="0 seconds"),
    ):
        web.get(URL)


@pytest.mark.parametrize("attempt", range(1, 12))
def test_pauses_grow_but_stay_bounded(attempt: int) -> None:
    assert 0.25 <= http.backoff(attempt) <= 30
    assert http.backoff(attempt, asked=99) == 99


def test_an_answer_that_is_not_json_shows_how_it_starts() -> None:
    with (
        client(answers(httpx.Response(200, text="<html>log in"))) as web,
        pytest.raises(HttpError, match="<html>log in"),
    ):
        web.get(URL).json()


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_ANSWER", 10)
    with (
        client(answers(httpx.Response(200, content=b"x" * 11))) as web,
        pytest.raises(HttpError, match="more than 10 bytes"),
    ):
        web.get(URL)


def test_a_download_is_hashed_on_the_way(tmp_path: Path) -> None:
    seen: list[int] = []
    with client(answers(streamed(BODY))) as web:
        received = web.download(
            URL, tmp_path / "a", sha256=SHA256, size=len(BODY), on_bytes=seen.append
        )
    assert (received.size, received.sha256) == (len(BODY), SHA256)
    assert (tmp_path / "a").read_bytes() == BODY
    assert seen[-1] == len(BODY)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (BODY[:-1] + b"!", "has sha256"),
        (BODY + b"!", "expected 9000"),
        (BODY[:-1], "expected 9000"),
    ],
    ids=["other content", "longer", "shorter"],
)
def test_a_wrong_file_leaves_nothing(tmp_path: Path, body: bytes, message: str) -> None:
    with (
        client(lambda _: streamed(body), attempts=2) as web,
        pytest.raises(HttpError, match=message),
    ):
        web.download(URL, tmp_path / "a", sha256=SHA256, size=len(BODY))
    assert list(tmp_path.iterdir()) == []


def test_a_cut_download_starts_again(tmp_path: Path) -> None:
    with client(answers(streamed(BODY[:5]), streamed(BODY))) as web:
        web.download(URL, tmp_path / "a", sha256=SHA256, size=len(BODY))
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_failed_download_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with client(answers(httpx.Response(404))) as web, pytest.raises(HttpError, match="404"):
        web.download(URL, tmp_path / "a", sha256=SHA256)
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_token_does_not_follow_a_redirect_to_another_host() -> None:
    seen: dict[str, str | None] = {}

    def handle(request: httpx.Request) -> httpx.Response:
        seen[request.url.host] = request.headers.get("authorization")
        if request.url.host == "files.example":
            return httpx.Response(302, headers={"Location": "https://cdn.example/a"})
        return httpx.Response(200)

    with client(handle, headers={"Authorization": "Bearer secret"}) as web:
        web.get(URL)
    assert seen == {"files.example": "Bearer secret", "cdn.example": None}


def test_https_never_becomes_http() -> None:
    away = httpx.Response(302, headers={"Location": "http://cdn.example/a"})
    with client(answers(away)) as web, pytest.raises(HttpError, match="plain http"):
        web.get(URL)


def test_messages_do_not_repeat_what_is_signed_or_secret() -> None:
    with client(answers(httpx.Response(404))) as web, pytest.raises(HttpError) as caught:
        web.get("https://user:pass@files.example/a?X-Signature=secret")
    assert "secret" not in caught.value.message
    assert "pass" not in caught.value.message
    assert "secret" not in repr(client(answers(), headers={"Authorization": "secret"}))


def test_a_bad_address_says_what_was_expected() -> None:
    with client(answers()) as web, pytest.raises(HttpError, match="is not a URL"):
        web.get("https://files.example/\0")
