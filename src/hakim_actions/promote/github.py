"""A release of a GitHub repository, as far as promotion reads it.

https://docs.github.com/rest/releases/releases
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.system.http import Http, HttpError

_REFERENCE = re.compile(r"github:(?P<repository>[\w.-]+/[\w.-]+)@(?P<tag>[^\s?#]+)")


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of a release: where anybody gets it, where a token gets it, and what GitHub knows."""

    name: str
    size: int
    url: str
    api_url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published release; *public* tells whether its assets need no token."""

    repository: str
    tag: str
    public: bool
    assets: Mapping[str, Asset]

    def text(self, name: str, *, web: Http, env: Mapping[str, str]) -> str:
        """Return a small asset as text."""
        answer = web.get(self.assets[name].api_url, headers=asset_headers(env))
        return answer.body.decode(errors="replace")


def reference(repository: str, tag: str) -> str:
    """Return how state files and messages name a release, or raise ConfigurationError."""
    text = f"github:{repository}@{tag}"
    if not _REFERENCE.fullmatch(text):
        msg = f"--repo '{repository}' --release '{tag}' is not a release."
        raise ConfigurationError(msg, hint="Expected --repo owner/name --release v1.2.0.")
    return text


def asset_headers(env: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that make the API send an asset's bytes instead of its description."""
    return {**_headers(env), "Accept": "application/octet-stream"}


def read_release(text: str, *, web: Http, env: Mapping[str, str]) -> Release:
    """Read the release that :func:`reference` names."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        msg = f"'{text}' does not name a release."
        raise ConfigurationError(msg, hint="Expected github:owner/name@tag.")
    repository, tag = match["repository"], match["tag"]
    base = f"{env.get('GITHUB_API_URL') or 'https://api.github.com'}/repos/{repository}"
    try:
        document = web.get(f"{base}/releases/tags/{tag}", headers=_headers(env)).json()
    except HttpError as error:
        if error.status != 404:
            raise
        raise _not_found(base, repository, tag, web=web, env=env) from None
    about = web.get(base, headers=_headers(env)).json()
    try:
        return Release(
            repository=repository,
            tag=tag,
            public=not about["private"],
            assets={asset["name"]: _asset(asset) for asset in document["assets"]},
        )
    except (KeyError, TypeError, AttributeError) as error:
        msg = f"{base} answered with something that is not a release: {error!r}."
        raise HttpError(msg, hint="Is GITHUB_API_URL right?") from None


def _asset(document: Mapping[str, Any]) -> Asset:
    # GitHub computes the digest itself; assets from before June 2025 have none.
    return Asset(
        name=document["name"],
        size=document["size"],
        url=document["browser_download_url"],
        api_url=document["url"],
        sha256=(document.get("digest") or "").removeprefix("sha256:"),
    )


def _not_found(
    base: str, repository: str, tag: str, *, web: Http, env: Mapping[str, str]
) -> ConfigurationError:
    try:
        tags = [
            release["tag_name"]
            for release in web.get(f"{base}/releases", headers=_headers(env)).json()
        ]
    except (HttpError, KeyError, TypeError):
        tags = []
    if not tags:
        msg = f"--repo '{repository}' has no release, or the token may not see it."
        hint = "A private repository needs GITHUB_TOKEN with contents: read."
        return ConfigurationError(msg, hint=hint)
    msg = f"--release '{tag}' is not a release of {repository}."
    return ConfigurationError(msg, hint=did_you_mean(tag, tags))


def _headers(env: Mapping[str, str]) -> dict[str, str]:
    token = env.get("GITHUB_TOKEN") or env.get("GH_TOKEN")
    return {
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
