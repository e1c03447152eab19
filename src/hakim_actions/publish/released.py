"""The index of a release on GitHub, read to compare with: a public one needs no token.

https://docs.github.com/rest/releases/releases
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.index import INDEX_NAME, Index
from hakim_actions.publish import versions
from hakim_actions.system.http import Deadline, Http, HttpError

#: Stands for the newest full release, in place of a tag.
LATEST: Final = "latest"
_REPOSITORY: Final = re.compile(r"[\w.-]+/[\w.-]+")
#: Seconds for all requests together: this is a look-up, not a transfer.
_PATIENCE: Final = 60


def read_index(
    release: str, *, env: Mapping[str, str], other_than: str = "", http: Http | None = None
) -> Index | None:
    """Return the index of *release*, a tag of GITHUB_REPOSITORY or ``latest``.

    The latest is the newest full release with images whose tag is not *other_than*; None when
    there is none yet. Raises ConfigurationError for a tag without a release or a release without
    an index, HttpError for the network, VerificationError for a bad index.
    """
    repository = env.get("GITHUB_REPOSITORY", "")
    if _REPOSITORY.fullmatch(repository) is None:
        said = f"GITHUB_REPOSITORY is '{repository}'" if repository else "no repository was named"
        msg = f"Release '{release}' cannot be looked up: {said}."
        raise ConfigurationError(
            msg, hint="Set GITHUB_REPOSITORY to owner/name, or give the path or URL of an index."
        )
    with http or Http(headers=_headers(env), deadline=Deadline(_PATIENCE)) as client:
        api = _Releases(client, repository, env.get("GITHUB_API_URL") or "https://api.github.com")
        try:
            found = api.latest(other_than) if release == LATEST else api.tagged(release)
            return None if found is None else api.index(found)
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"{api.url} answered with something that is not a release: {error!r}."
            raise HttpError(msg, hint="Is GITHUB_API_URL right?") from None


class _Releases:
    """The releases of one repository."""

    def __init__(self, client: Http, repository: str, api_url: str) -> None:
        self._client = client
        self._repository = repository
        self.url = f"{api_url.rstrip('/')}/repos/{repository}/releases"

    def latest(self, other_than: str) -> Any:
        """Return the newest full release with an index: the same that publish calls the latest."""
        known = [
            (key, release)
            for release in self._all()
            if not release["draft"]
            and not release["prerelease"]
            and release["tag_name"] != other_than
            and (key := versions.sort_key(release["tag_name"])) is not None
            and _index_asset(release) is not None
        ]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def tagged(self, tag: str) -> Any:
        try:
            return self._client.get(f"{self.url}/tags/{quote(tag, safe='')}").json()
        except HttpError as error:
            if error.status != 404:
                raise
        tags = [release["tag_name"] for release in self._all() if not release["draft"]]
        msg = f"'{tag}' is not a release of {self._repository}."
        hint = did_you_mean(tag, tags) if tags else "It has none yet."
        raise ConfigurationError(msg, hint=hint)

    def index(self, release: Any) -> Index:
        asset = _index_asset(release)
        if asset is None:
            msg = f"Release '{release['tag_name']}' of {self._repository} has no {INDEX_NAME}."
            raise ConfigurationError(msg, hint="Name a release that 'hakim-actions publish' made.")
        accept = {"Accept": "application/octet-stream"}
        text = self._client.get(asset["url"], headers=accept).body.decode(errors="replace")
        return Index.from_json(text, source=f"{INDEX_NAME} of {release['tag_name']}")

    def _all(self) -> list[Any]:
        """Return the newest hundred releases, which is one page."""
        try:
            found: list[Any] = self._client.get(self.url, params={"per_page": 100}).json()
        except HttpError as error:
            if error.status != 404:
                raise
            msg = f"The repository {self._repository} does not exist, or the token cannot see it."
            raise ConfigurationError(
                msg, hint="A private repository needs GITHUB_TOKEN with contents: read."
            ) from None
        return found


def _index_asset(release: Any) -> Any:
    """Return the asset that is the index of *release*, or None."""
    assets = [
        asset
        for asset in release["assets"]
        if asset["name"] == INDEX_NAME and asset["state"] == "uploaded"
    ]
    return assets[0] if assets else None


def _headers(env: Mapping[str, str]) -> dict[str, str]:
    token = (env.get("GITHUB_TOKEN") or env.get("GH_TOKEN") or "").strip()
    return {
        "Accept": "application/vnd.github+json",
        **({"Authorization": f"Bearer {token}"} if token else {}),
    }
