"""What GitHub's answers mean, each by itself; and that no secret gets out."""

import copy
import pickle
import re
from contextlib import AbstractContextManager

import pytest
import requests
import responses
from github import GithubException

from hakim_actions.errors import ConfigurationError, HakimError, PublishError
from hakim_actions.publish.base import Settings, open_target
from hakim_actions.publish.github_api import GitHubApi
from hakim_actions.publish.github_errors import GoneError, RefusedError, translated
from hakim_actions.publish.patience import Patience, TransientError

SECRET = "ghs_very-secret"  # noqa: S105 - nobody's
RELEASES = "https://api.github.com:443/repos/acme/images/releases"


@pytest.fixture
def api() -> GitHubApi:
    return GitHubApi(
        repository="acme/images",
        token=SECRET,
        api_url="https://api.github.com",
        patience=Patience(deadline=0.01),
    )


def outcome(api: GitHubApi, **answer: object) -> Exception:
    """Return what a single attempt raises when GitHub gives *answer*."""
    with responses.RequestsMock() as mock:
        mock.add(responses.POST, RELEASES, **answer)  # type: ignore[arg-type]
        with pytest.raises((HakimError, TransientError)) as caught:
            api.create_draft_once(tag="v1.0.0", name="", body="", commit="0" * 40, prerelease=False)
    assert SECRET not in f"{caught.value!r}{caught.value}{vars(caught.value)}"
    return caught.value


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_may_pass(api: GitHubApi, status: int) -> None:
    error = outcome(api, status=status, body="<html>unicorn</html>")
    assert isinstance(error, TransientError)
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "message", "headers", "wait"),
    [
        (429, "slow down", {"Retry-After": "17"}, 17.0),
        (403, "You have exceeded a secondary rate limit", {}, 60.0),
        (403, "You have exceeded a secondary rate limit", {"Retry-After": "5"}, 5.0),
        (
            403,
            "API rate limit exceeded",
            {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"},
            1.0,
        ),
    ],
)
def test_a_limit_says_how_long(
    api: GitHubApi, status: int, message: str, headers: dict[str, str], wait: float
) -> None:
    error = outcome(api, status=status, json={"message": message}, headers=headers)
    assert isinstance(error, TransientError)
    assert error.everybody
    assert error.wait == wait


def test_a_plain_403_is_a_missing_right(api: GitHubApi) -> None:
    error = outcome(api, status=403, json={"message": "Resource not accessible by integration"})
    assert isinstance(error, ConfigurationError)
    assert "'contents: write' on acme/images" in error.message
    assert "permissions: contents: write" in error.hint


def test_401_is_an_unknown_token(api: GitHubApi) -> None:
    assert isinstance(
        outcome(api, status=401, json={"message": "Bad credentials"}), ConfigurationError
    )


def test_404_is_not_there(api: GitHubApi) -> None:
    assert isinstance(outcome(api, status=404, json={"message": "Not Found"}), GoneError)


def test_422_keeps_its_codes(api: GitHubApi) -> None:
    details = [{"resource": "Release", "code": "already_exists", "field": "tag_name"}]
    error = outcome(api, status=422, json={"message": "Validation Failed", "errors": details})
    assert isinstance(error, RefusedError)
    assert error.codes == ("already_exists",)
    assert "Validation Failed: already_exists" in error.message


@pytest.mark.parametrize("body", ["<html>log in</html>", '{"cut', "[]", '{"id": "no number"}'])
def test_a_good_status_with_something_else_is_no_success(api: GitHubApi, body: str) -> None:
    error = outcome(api, status=201, body=body)
    assert isinstance(error, PublishError)
    assert "not GitHub's" in error.message


def test_a_cut_connection_may_pass(api: GitHubApi) -> None:
    error = outcome(api, body=requests.ConnectionError("cut"))
    assert isinstance(error, TransientError)


def test_every_error_of_the_library_is_translated() -> None:
    """A new child of GithubException must not get out as it is."""
    for kind in _children(GithubException):
        error = kind.__new__(kind)
        GithubException.__init__(error, 418, {"message": "teapot"}, {})
        with pytest.raises((HakimError, TransientError)), _translating():
            raise error


def _translating() -> AbstractContextManager[None]:
    return translated("pour tea", repository="acme/images", api_url="https://api.github.com")


def _children(kind: type[GithubException]) -> set[type[GithubException]]:
    return {kind}.union(*(_children(child) for child in kind.__subclasses__()))


class TestSecrets:
    def test_are_in_no_repr(self, api: GitHubApi) -> None:
        settings = Settings(to="acme/images", token=SECRET, env={"GITHUB_TOKEN": SECRET})
        target = open_target("github", settings)
        for thing in (api, settings, target, copy.copy(settings)):
            assert SECRET not in repr(thing)

    def test_are_not_in_what_is_pickled_by_accident(self, api: GitHubApi) -> None:
        with pytest.raises(TypeError):
            pickle.dumps(api)

    def test_go_to_no_other_host(self, api: GitHubApi) -> None:
        with responses.RequestsMock() as mock:
            mock.add(
                responses.GET,
                re.compile(r".*/releases\?.*"),
                status=301,
                headers={"Location": "https://evil.example.org/releases"},
            )
            with pytest.raises(HakimError):
                api.releases()
            assert len(mock.calls) == 1
