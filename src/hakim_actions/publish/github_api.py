"""GitHub's releases through PyGithub: plain records in, plain records out, errors in our words.

With github_errors, the only module that knows PyGithub. One object serves all threads: each gets a
client of its own, because a client's connection carries the state of one request.
"""

import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self, TypeVar

import github
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.Repository import Repository

from hakim_actions.errors import PublishError
from hakim_actions.publish.base import Asset
from hakim_actions.publish.github_errors import GoneError, RefusedError, translated
from hakim_actions.publish.patience import Patience
from hakim_actions.publish.transfer import TimedReader
from hakim_actions.system.http import Deadline, Http

PUBLIC_API: Final = "https://api.github.com"
#: Seconds without any byte before a connection counts as dead. An answer to an upload comes only
#: when GitHub has stored the file.
STALL: Final = 120
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class RemoteAsset:
    """A file of a release on GitHub; *state* ``starter`` is one that never arrived whole."""

    id: int
    name: str
    state: str
    size: int
    digest: str
    url: str

    @classmethod
    def read(cls, asset: GitReleaseAsset) -> Self:
        """Take what we use; the digest is empty on older servers."""
        return cls(
            id=asset.id,
            name=asset.name,
            state=asset.state,
            size=asset.size,
            digest=asset.digest or "",
            url=asset.url,
        )


@dataclass(frozen=True, kw_only=True)
class RemoteRelease:
    """A release or a draft on GitHub, with its *assets* as they were when it was read.

    *page* is for people, *url* and *upload_url* are for the API.
    """

    id: int
    tag: str
    draft: bool
    prerelease: bool
    body: str
    page: str
    url: str
    upload_url: str
    assets: tuple[RemoteAsset, ...]

    @classmethod
    def read(cls, release: GitRelease) -> Self:
        """Take what we use."""
        return cls(
            id=release.id,
            tag=release.tag_name,
            draft=release.draft,
            prerelease=release.prerelease,
            body=release.body or "",
            page=release.html_url,
            url=release.url,
            upload_url=release.upload_url,
            assets=tuple(RemoteAsset.read(asset) for asset in release.assets),
        )


class GitHubApi:
    """What we need of one repository (``owner/name``), each call tried again within a deadline."""

    def __init__(self, *, repository: str, token: str, api_url: str, patience: Patience) -> None:
        """Remember where to go; nothing is sent yet."""
        self.repository = repository
        self.api_url = api_url
        self._token = token
        self._patience = patience
        self._local = threading.local()

    def __repr__(self) -> str:
        """Name the repository; the token is nobody's business."""
        return f"{type(self).__name__}({self.repository!r}, api_url={self.api_url!r})"

    def releases(self) -> list[RemoteRelease]:
        """Return all releases and, with the right to write, all drafts."""

        def read(repo: Repository) -> list[RemoteRelease]:
            return [RemoteRelease.read(release) for release in repo.get_releases()]

        return self._call("list the releases", read)

    def release(self, release_id: int) -> RemoteRelease:
        """Return one release or draft."""
        return self._call(
            f"read release {release_id}",
            lambda repo: RemoteRelease.read(repo.get_release(release_id).complete()),
        )

    def release_by_tag(self, tag: str) -> RemoteRelease:
        """Return the published release of *tag*; drafts are not found this way."""
        return self._call(
            f"read release {tag}", lambda repo: RemoteRelease.read(repo.get_release(tag))
        )

    def assets(self, release: RemoteRelease) -> list[RemoteAsset]:
        """Return the assets of *release* as they are now."""

        def read(repo: Repository) -> list[RemoteAsset]:
            return [RemoteAsset.read(it) for it in _object(repo, release).get_assets()]

        return self._call(f"list the assets of {release.tag}", read)

    def commit_of_tag(self, tag: str) -> str:
        """Return the commit that *tag* stands for, or an empty text when there is no such tag."""
        try:
            return self._call(
                f"read the tag {tag}",
                lambda repo: str(repo.get_commit(f"tags/{tag}").complete().sha),
            )
        except (GoneError, RefusedError):
            # 422 "No commit found for SHA" in a repository with commits, 404 in others.
            return ""

    def generated_notes(self, tag: str, *, previous: str, commit: str) -> str:
        """Return the notes that GitHub writes from the merged pull requests."""
        options = {"target_commitish": commit} | (
            {"previous_tag_name": previous} if previous else {}
        )
        return self._call(
            "generate release notes",
            lambda repo: repo.generate_release_notes(tag, **options).body,
        )

    def create_draft_once(
        self, *, tag: str, name: str, body: str, commit: str, prerelease: bool
    ) -> RemoteRelease:
        """Make a draft, in one attempt. An answer that got lost may have left one: list first."""
        return self._once(
            f"create a draft for {tag}",
            lambda repo: RemoteRelease.read(
                repo.create_git_release(
                    tag,
                    name,
                    body,
                    draft=True,
                    prerelease=prerelease,
                    target_commitish=commit,
                    make_latest="false",
                )
            ),
        )

    def publish_once(
        self,
        draft: RemoteRelease,
        *,
        name: str,
        body: str,
        commit: str,
        prerelease: bool,
        latest: bool,
    ) -> None:
        """Turn *draft* into a release, in one attempt: the one call that makes it visible."""
        self._once(
            f"publish {draft.tag}",
            lambda repo: _object(repo, draft).update_release(
                name,
                body,
                draft=False,
                prerelease=prerelease,
                tag_name=draft.tag,
                target_commitish=commit,
                make_latest="true" if latest else "false",
            ),
        )

    def delete_release(self, release: RemoteRelease) -> None:
        """Delete a draft; one that is gone already is fine."""
        self._delete(
            f"delete the draft {release.id}", lambda repo: _object(repo, release).delete_release()
        )

    def delete_asset(self, asset: RemoteAsset) -> None:
        """Delete an asset; one that is gone already is fine."""

        def delete(repo: Repository) -> None:
            record = {"url": asset.url}
            GitReleaseAsset(repo.requester, {}, record, completed=True).delete_asset()

        self._delete(f"delete the asset {asset.name}", delete)

    def upload_once(self, release: RemoteRelease, asset: Asset, *, seconds: float) -> None:
        """Send *asset* once, within *seconds*; TransientError: it may be repeated."""
        with _opened(asset) as stream:
            body = TimedReader(stream, size=asset.size, seconds=seconds, check=self._patience.check)

            def send(repo: Repository) -> None:
                _object(repo, release).upload_asset_from_memory(
                    body,  # type: ignore[arg-type] # it has what an HTTP body needs
                    asset.size,
                    asset.name,
                    _content_type(asset.name),
                )

            self._once(f"upload {asset.name}", send)

    def fetch(self, asset: RemoteAsset) -> bytes:
        """Return the content of a small asset."""
        with self._http() as http:
            return http.get(asset.url, headers={"Accept": "application/octet-stream"}).body

    def sha256_of(self, asset: RemoteAsset) -> str:
        """Download *asset* and return its sha256, where the server itself cannot tell."""
        with self._http() as http, tempfile.TemporaryDirectory() as folder:
            accept = {"Accept": "application/octet-stream"}
            return http.download(asset.url, Path(folder) / "asset", headers=accept).sha256

    def _http(self) -> Http:
        return Http(
            headers={"Authorization": f"Bearer {self._token}"},
            deadline=Deadline(self._patience.deadline),
            timeout=STALL,
        )

    def _delete(self, what: str, delete: Callable[[Repository], None]) -> None:
        with suppress(GoneError):
            self._call(what, delete)

    def _call(self, what: str, ask: Callable[[Repository], _T]) -> _T:
        return self._patience.call(what, lambda _seconds: self._once(what, ask))

    def _once(self, what: str, ask: Callable[[Repository], _T]) -> _T:
        with translated(what, repository=self.repository, api_url=self.api_url):
            return ask(self._repository())

    def _repository(self) -> Repository:
        repo: Repository | None = getattr(self._local, "repo", None)
        if repo is None:
            client = github.Github(
                auth=github.Auth.Token(self._token),
                base_url=self.api_url,
                timeout=max(1, min(STALL, int(self._patience.deadline))),
                retry=None,
                per_page=100,
                seconds_between_requests=None,
                seconds_between_writes=None,
                user_agent="hakim-actions",
                lazy=True,
            )
            repo = self._local.repo = client.get_repo(self.repository)
        return repo


def _object(repo: Repository, release: RemoteRelease) -> GitRelease:
    """Return PyGithub's object for *release*, without asking GitHub."""
    record = {"id": release.id, "url": release.url, "upload_url": release.upload_url}
    return GitRelease(repo.requester, {}, record, completed=True)


def _opened(asset: Asset) -> BinaryIO:
    try:
        return asset.open()
    except OSError as error:
        msg = f"Unable to read {asset.path}: {error.strerror}."
        raise PublishError(msg, hint="It was there when it was verified. Run it again.") from None


def _content_type(name: str) -> str:
    for ending, kind in ((".json", "application/json"), (".txt", "text/plain")):
        if name.endswith(ending):
            return kind
    return "application/x-xz"
