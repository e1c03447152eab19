"""What GitHub's answers mean, in our words: which may pass, which are refusals, and what to do."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import github
import requests

from hakim_actions.errors import ConfigurationError, HakimError, PublishError
from hakim_actions.publish.patience import TransientError

#: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
SECONDARY_WAIT: Final = 60.0
_RIGHTS_HINT: Final = (
    "In a workflow, give the job 'permissions: contents: write'. A fine-grained token needs the"
    " repository permission Contents: Read and write; a classic one the scope 'repo'."
)
#: What PyGithub makes of an answer that GitHub would never give.
_NONSENSE: Final = (
    github.BadAttributeException,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
)


class RefusedError(PublishError):
    """GitHub understood and said no (422). *codes* are its words for the reasons."""

    def __init__(self, message: str, *, hint: str = "", codes: tuple[str, ...] = ()) -> None:
        """Keep *codes*, such as ``already_exists``."""
        super().__init__(message, hint=hint)
        self.codes = codes


class GoneError(PublishError):
    """What was asked for is not there (404)."""


@contextmanager
def translated(what: str, *, repository: str, api_url: str) -> Iterator[None]:
    """Let nothing of PyGithub or requests out; what may pass becomes TransientError.

    *what* completes "Unable to …".
    """
    try:
        yield
    except github.GithubException as error:
        raise _meaning(what, error, repository) from None
    except requests.RequestException as error:
        reason = _network_reason(error)
        raise TransientError(reason) from None
    except _NONSENSE as error:
        msg = f"Unable to {what}: {api_url} gave an answer that is not GitHub's."
        hint = f"Check GITHUB_API_URL and proxies ({type(error).__name__})."
        raise PublishError(msg, hint=hint) from None


def _meaning(what: str, error: github.GithubException, repository: str) -> Exception:
    """Return what *error* means."""
    headers = error.headers or {}
    said = _said(error)
    if error.status >= 500:
        wait = _seconds(headers.get("retry-after"))
        return TransientError(f"GitHub answered {error.status} ({said})", wait=wait)
    if _is_limit(error, headers, said):
        wait = _limit_wait(headers)
        return TransientError(f"GitHub limits the rate ({said})", wait=wait, everybody=True)
    if error.status == 422:
        msg = f"Unable to {what}: GitHub refused it ({said})."
        return RefusedError(msg, codes=_codes(error))
    return _no_access(what, error.status, said, repository)


def _no_access(what: str, status: int, said: str, repository: str) -> HakimError:
    if status == 401:
        msg = f"Unable to {what}: GitHub does not know this token ({said})."
        return ConfigurationError(msg, hint="Is GITHUB_TOKEN expired, or of another server?")
    if status == 403:
        right = f"'contents: write' on {repository}"
        msg = f"Unable to {what}: the token lacks {right} ({said})."
        return ConfigurationError(msg, hint=_RIGHTS_HINT)
    if status == 404:
        return GoneError(f"Unable to {what}: {repository} has no such thing ({said}).")
    return PublishError(f"Unable to {what}: GitHub answered {status} ({said}).")


def _said(error: github.GithubException) -> str:
    """Return GitHub's words, at most a line of them."""
    data = error.data if isinstance(error.data, dict) else {}
    said = str(data.get("message") or error.message or "no reason given")
    details = [
        str(detail.get("message") or detail.get("code") if isinstance(detail, dict) else detail)
        for detail in data.get("errors") or []
    ]
    return ": ".join([said, *details])[:300].replace("\n", " ")


def _codes(error: github.GithubException) -> tuple[str, ...]:
    details = error.data.get("errors") or [] if isinstance(error.data, dict) else []
    return tuple(str(detail.get("code")) for detail in details if isinstance(detail, dict))


def _is_limit(error: github.GithubException, headers: Mapping[str, Any], said: str) -> bool:
    if error.status == 429:
        return True
    limited = "rate limit" in said.lower() or headers.get("x-ratelimit-remaining") == "0"
    return error.status == 403 and (limited or "retry-after" in headers)


def _limit_wait(headers: Mapping[str, Any]) -> float:
    asked = _seconds(headers.get("retry-after"))
    if asked is not None:
        return asked
    reset = _seconds(headers.get("x-ratelimit-reset"))
    if headers.get("x-ratelimit-remaining") == "0" and reset is not None:
        return max(reset - time.time(), 0.0) + 1.0
    return SECONDARY_WAIT


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, str) and value.isdigit() else None


def _network_reason(error: requests.RequestException) -> str:
    """Say in a few words what broke, without the URL's query or any header."""
    if isinstance(error, requests.Timeout):
        return "GitHub did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the TLS connection to GitHub failed"
    return f"the connection to GitHub failed ({type(error).__name__})"
