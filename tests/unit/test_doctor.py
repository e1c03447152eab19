"""Doctor names each precondition, and for a missing one the line that grants it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import httpx
import pytest
from fakes import coder as coder_fake

from hakim_actions.coder import doctor as coder_doctor
from hakim_actions.publish import doctor as github_doctor
from hakim_actions.system.finding import Finding
from hakim_actions.system.http import Http

GITHUB = {"GITHUB_REPOSITORY": "acme/images", "GITHUB_TOKEN": "canary-secret"}


def by_check(findings: list[Finding]) -> Mapping[str, Finding]:
    assert "canary-secret" not in repr(findings)
    return {finding.check: finding for finding in findings}


def github(answer: httpx.Response, env: Mapping[str, str] = GITHUB) -> Mapping[str, Finding]:
    http = Http(transport=httpx.MockTransport(lambda _: answer), attempts=1)
    return by_check(list(github_doctor.findings(env, http=http)))


def test_a_token_that_may_write_is_fine() -> None:
    found = github(httpx.Response(200, json={"permissions": {"push": True}}))

    assert all(finding.ok for finding in found.values())


def test_a_token_that_may_only_read_is_told_which_permission() -> None:
    found = github(httpx.Response(200, json={"permissions": {"push": False}}))

    assert found["contents: write"].ok is False
    assert "permissions: contents: write" in found["contents: write"].fix[0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_question_says_what_was_answered(status: int) -> None:
    found = github(httpx.Response(status))

    assert found["contents: write"].ok is False
    assert str(status) in found["contents: write"].detail


def test_without_settings_nothing_is_asked() -> None:
    found = by_check(list(github_doctor.findings({})))

    assert set(found) == {"repository", "token"}
    assert not any(finding.ok for finding in found.values())


def test_enterprise_servers_are_asked_at_their_own_address() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={})

    http = Http(transport=httpx.MockTransport(answer), attempts=1)
    env = {**GITHUB, "GITHUB_API_URL": "https://ghes.test/api/v3"}
    list(github_doctor.findings(env, http=http))

    assert asked == ["https://ghes.test/api/v3/repos/acme/images"]


def test_coder_without_settings_says_how_to_get_them() -> None:
    found = by_check(list(coder_doctor.findings({})))

    assert set(found) == {"address", "token"}
    assert "coder tokens create" in found["token"].fix[0]


@pytest.fixture
def server() -> AbstractContextManager[coder_fake.FakeCoder]:
    return coder_fake.serving(coder_fake.FakeCoder())


def test_a_coder_that_answers_is_fine(server: AbstractContextManager[coder_fake.FakeCoder]) -> None:
    with server as fake:
        env = {"CODER_URL": fake.url, "CODER_SESSION_TOKEN": coder_fake.TOKEN}
        found = by_check(list(coder_doctor.findings(env)))

    assert found["server"].ok
    assert found["login"].ok
    assert found["organization"].ok
    assert not fake.writes


def test_a_wrong_token_is_told(server: AbstractContextManager[coder_fake.FakeCoder]) -> None:
    with server as fake:
        env = {"CODER_URL": fake.url, "CODER_SESSION_TOKEN": "canary-secret"}
        found = by_check(list(coder_doctor.findings(env)))

    assert found["access"].ok is False
