"""A GitHub release, all or nothing: a draft takes every file, is proven, and then published once.

After the one call that publishes, nothing is uploaded, changed or deleted, so immutable releases
are safe; before it, nobody but the repository's writers sees anything. A run that dies anywhere
leaves a draft that the next run recognises by its marker and completes.
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from hakim_actions.errors import ConfigurationError, PublishError
from hakim_actions.index import INDEX_NAME, Index
from hakim_actions.publish import versions
from hakim_actions.publish.base import (
    Asset,
    Plan,
    Publication,
    Published,
    Settings,
    Step,
    Target,
    other_content,
)
from hakim_actions.publish.github_api import (
    PUBLIC_API,
    GitHubApi,
    RemoteAsset,
    RemoteRelease,
)
from hakim_actions.publish.github_errors import GoneError, RefusedError
from hakim_actions.publish.github_rules import (
    check_limits,
    explain_refusal,
    is_latest,
    marked_digest,
    marker,
)
from hakim_actions.publish.patience import Patience, StoppedError, TransientError
from hakim_actions.system.progress import Progress

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class _State:
    """What GitHub holds for a tag: the release, our drafts (best first), and those of others."""

    releases: Sequence[RemoteRelease]
    published: RemoteRelease | None
    drafts: Sequence[RemoteRelease]
    foreign: Sequence[RemoteRelease]

    @property
    def draft(self) -> RemoteRelease | None:
        """The draft to go on with."""
        return self.drafts[0] if self.drafts else None


def open_target(settings: Settings) -> Target:
    """Check what was typed and return the target; nothing is sent yet."""
    repository = settings.to or settings.env.get("GITHUB_REPOSITORY", "")
    if _REPOSITORY.fullmatch(repository) is None:
        msg = f"'{repository}' is not a repository." if repository else "No repository was named."
        raise ConfigurationError(msg, hint="Give owner/name with --to, or set GITHUB_REPOSITORY.")
    token = settings.token or settings.env.get("GITHUB_TOKEN", "")
    if not token:
        msg = f"No token to publish to {repository}."
        raise ConfigurationError(
            msg,
            hint="Set GITHUB_TOKEN (in a workflow: ${{ github.token }} and 'permissions: contents:"
            " write'), or name a file with --token-file.",
        )
    patience = Patience(deadline=settings.deadline)
    api = GitHubApi(
        repository=repository,
        token=token.strip(),
        api_url=settings.env.get("GITHUB_API_URL", "") or PUBLIC_API,
        patience=patience,
    )
    return GitHubTarget(api, patience, settings)


class GitHubTarget:
    """Releases of one repository."""

    def __init__(self, api: GitHubApi, patience: Patience, settings: Settings) -> None:
        """Work on *api*; *patience* is the one it uses."""
        self._api = api
        self._patience = patience
        self._settings = settings

    def previous(self, version: str) -> Index | None:
        """Return the index of the newest release before *version*; None when it has none."""
        release = self._before(version)
        for asset in release.assets if release else ():
            if asset.name == INDEX_NAME and asset.state == "uploaded":
                return Index.from_json(self._api.fetch(asset).decode(), source=asset.url)
        return None

    def base_url(self, version: str) -> str:
        """Return the address that GitHub gives the assets of a published release."""
        known = self._settings.env.get("GITHUB_SERVER_URL", "")
        # An Enterprise Server's API is below its own address, GitHub's has one of its own.
        own = self._api.api_url.removesuffix("/api/v3") if self._api.api_url != PUBLIC_API else ""
        server = known or own or "https://github.com"
        return f"{server}/{self._api.repository}/releases/download/{version}/"

    def generated_notes(self, publication: Publication) -> str:
        """Return GitHub's own notes, or nothing where the server does not make any."""
        before = self._before(publication.version)
        try:
            return self._api.generated_notes(
                publication.version,
                previous=before.tag if before else "",
                commit=publication.index.commit,
            )
        except PublishError:
            return ""

    def plan(self, publication: Publication) -> Plan:
        """Check everything that can be checked without changing anything; see :class:`Target`."""
        state = self._examined(publication)
        tag = publication.version
        if state.published is not None:
            return Plan(destination=state.published.page, steps=self._deleted(state.drafts))
        steps = [*self._deleted([*state.drafts[1:], *state.foreign])]
        if state.draft is None:
            steps.append(Step(action="make", name=f"draft {tag}"))
        steps += self._file_steps(publication, state.draft)
        final = "prerelease" if versions.is_prerelease(tag) else "release"
        latest = is_latest(tag, state.releases)
        why = "becomes the latest" if latest else f"a {final}, not the latest"
        steps.append(Step(action="publish", name=tag, why=why))
        return Plan(destination=f"{self._api.repository} {tag}", steps=tuple(steps))

    def publish(self, publication: Publication, *, notes: str, progress: Progress) -> Published:
        """Go from whatever is there to a complete release; see :class:`Target`."""
        state = self._examined(publication)
        for draft in state.drafts if state.published else [*state.drafts[1:], *state.foreign]:
            self._api.delete_release(draft)
        if state.published is not None:
            return Published(url=state.published.page, changed=False)
        body = f"{notes.rstrip()}\n\n{marker(publication)}\n"
        draft = state.draft or self._create(publication, body)
        with progress.phase(f"Uploading to the draft of {publication.version}"):
            self._upload_all(draft, publication, progress)
        with progress.phase("Reading every file back"):
            self._prove(draft, publication)
        with progress.phase(f"Publishing {publication.version}"):
            self._publish(draft, publication, body, latest=is_latest(draft.tag, state.releases))
            release = self._read_back(draft, publication)
        return Published(url=release.page, changed=True)

    # What is there

    def _examined(self, publication: Publication) -> _State:
        """Return what is there, or refuse: limits, tag, another release, another draft."""
        check_limits(publication)
        state = self._state(publication)
        if state.published is not None:
            self._refuse_other(state.published, publication)
        else:
            self._check_tag(publication)
            self._check_foreign(state, publication.version)
        return state

    def _state(self, publication: Publication) -> _State:
        releases = self._releases()
        same = [release for release in releases if release.tag == publication.version]
        drafts = [release for release in same if release.draft]
        ours = [it for it in drafts if marked_digest(it.body) == publication.digest]
        ours.sort(key=lambda it: (-len(_good(it.assets, publication)), it.id))
        return _State(
            releases=releases,
            published=next((release for release in same if not release.draft), None),
            drafts=ours,
            foreign=[draft for draft in drafts if draft not in ours],
        )

    def _releases(self) -> list[RemoteRelease]:
        try:
            return self._api.releases()
        except GoneError:
            msg = (
                f"The repository {self._api.repository} does not exist, or the token cannot see it."
            )
            raise ConfigurationError(
                msg, hint="Check --to and GITHUB_API_URL, and which repositories the token may use."
            ) from None

    def _before(self, version: str) -> RemoteRelease | None:
        published = {release.tag: release for release in self._releases() if not release.draft}
        tag = versions.before(version, list(published))
        return published[tag] if tag else None

    def _check_tag(self, publication: Publication) -> None:
        commit = publication.index.commit
        if _COMMIT.fullmatch(commit) is None:
            msg = f"The artifacts do not say from which commit they come ('{commit}')."
            raise ConfigurationError(msg, hint="Build in a clean checkout of the repository.")
        tagged = self._api.commit_of_tag(publication.version)
        if tagged and tagged != commit:
            msg = (
                f"The tag {publication.version} stands for {tagged[:12]}, but the artifacts were"
                f" built from {commit[:12]}."
            )
            raise PublishError(msg, hint="Build the tagged commit, or publish under a new tag.")

    def _check_foreign(self, state: _State, tag: str) -> None:
        if not state.foreign or self._settings.replace_draft:
            return
        urls = ", ".join(draft.page for draft in state.foreign)
        msg = f"There is a draft for {tag} with other content: {urls}."
        raise PublishError(
            msg,
            hint="Look at it; --replace-draft deletes it and makes a new one. Nothing was changed.",
        )

    def _refuse_other(self, release: RemoteRelease, publication: Publication) -> None:
        """A finished release is only left alone when it is exactly what we have."""
        problems = self._problems(self._api.assets(release), publication)
        if problems:
            raise other_content(
                publication.version, self._api.repository, differs="; ".join(problems[:3])
            )

    def _file_steps(self, publication: Publication, draft: RemoteRelease | None) -> list[Step]:
        remote = draft.assets if draft else ()
        good = self._proven(remote, publication)
        steps = [
            Step(action="delete", name=asset.name, why=f"{asset.state}, not what belongs there")
            for asset in remote
            if asset.name not in good
        ]
        for asset in publication.assets:
            if asset.name in good:
                steps.append(Step(action="keep", name=asset.name, why="there, same sha256"))
            else:
                steps.append(Step(action="send", name=asset.name, size=asset.size))
        return steps

    @staticmethod
    def _deleted(drafts: Sequence[RemoteRelease]) -> tuple[Step, ...]:
        return tuple(
            Step(action="delete", name=f"draft {draft.tag} ({draft.id})", why="one is enough")
            for draft in drafts
        )

    # Making the draft complete

    def _create(self, publication: Publication, body: str) -> RemoteRelease:
        tag = publication.version

        def attempt(_seconds: float) -> RemoteRelease:
            # The answer to an earlier attempt may have been lost, not the draft.
            there = self._state(publication).draft
            return there or self._api.create_draft_once(
                tag=tag,
                name=tag,
                body=body,
                commit=publication.index.commit,
                prerelease=versions.is_prerelease(tag),
            )

        try:
            return self._patience.call(f"create a draft for {tag}", attempt)
        except GoneError as error:
            raise ConfigurationError(
                error.message,
                hint="GitHub says so to a token that lacks 'contents: write', or that lacks the"
                " 'workflow' right when the commit changes files under .github/workflows.",
            ) from None
        except RefusedError as error:
            explain_refusal(error, tag, left="Nothing was made.")

    def _upload_all(
        self, draft: RemoteRelease, publication: Publication, progress: Progress
    ) -> None:
        """Upload what is missing, the largest first; the first failure ends all."""
        remote = self._api.assets(draft)
        good = self._proven(remote, publication)
        for asset in remote:
            if asset.name not in good:
                self._api.delete_asset(asset)
        missing = [asset for asset in publication.assets if asset.name not in good]
        missing.sort(key=lambda asset: -asset.size)
        with ThreadPoolExecutor(self._settings.parallel) as pool:
            jobs = [pool.submit(self._upload, draft, asset, progress) for asset in missing]
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
            finally:
                if not all(job.done() and job.exception() is None for job in jobs):
                    self._patience.stop.set()
                    pool.shutdown(cancel_futures=True)
        failures = [error for job in jobs if not job.cancelled() and (error := job.exception())]
        for error in failures:
            if not isinstance(error, StoppedError):
                raise error

    def _upload(self, draft: RemoteRelease, asset: Asset, progress: Progress) -> None:
        """Upload one file; before every further attempt, look what the last one left."""
        tried = False

        def attempt(seconds: float) -> None:
            nonlocal tried
            if tried and self._settled(draft, asset):
                return
            tried = True
            try:
                self._api.upload_once(draft, asset, seconds=seconds)
            except RefusedError as error:
                if "already_exists" not in error.codes:
                    raise
                # Somebody was faster, or our own lost attempt was: look, and try again.
                msg = f"{asset.name} is there already"
                raise TransientError(msg) from None

        self._patience.call(f"upload {asset.name}", attempt)
        progress.line(f"{asset.name} uploaded")

    def _settled(self, draft: RemoteRelease, asset: Asset) -> bool:
        """Tell whether *asset* is there after all; if what is there is not it, delete that."""
        for remote in self._api.assets(draft):
            if remote.name == asset.name:
                if self._same(remote, asset):
                    return True
                self._api.delete_asset(remote)
        return False

    # Proof

    def _same(self, remote: RemoteAsset, asset: Asset) -> bool:
        if remote.state != "uploaded" or remote.size != asset.size:
            return False
        if remote.digest:
            return remote.digest == f"sha256:{asset.sha256}"
        # Older GitHub Enterprise Servers do not say; then only the bytes themselves can.
        return self._api.sha256_of(remote) == asset.sha256

    def _proven(self, remote: Sequence[RemoteAsset], publication: Publication) -> set[str]:
        wanted = publication.by_name
        return {it.name for it in remote if it.name in wanted and self._same(it, wanted[it.name])}

    def _problems(self, remote: Sequence[RemoteAsset], publication: Publication) -> list[str]:
        """Return how the assets of a release differ from what we have, in words."""
        there = {asset.name for asset in remote}
        good = self._proven(remote, publication)
        wanted = publication.by_name.keys()
        return [
            *(f"{name} is missing" for name in sorted(wanted - there)),
            *(f"{name} is another file" for name in sorted((wanted & there) - good)),
            *(f"{name} is not ours" for name in sorted(there - wanted)),
        ]

    def _prove(self, draft: RemoteRelease, publication: Publication) -> None:
        problems = self._problems(self._api.assets(draft), publication)
        if problems:
            msg = f"The draft {draft.page} is not complete: {'; '.join(problems)}."
            raise PublishError(msg, hint="Nothing was published. Run the same command again.")

    # The moment it becomes visible

    def _publish(
        self, draft: RemoteRelease, publication: Publication, body: str, *, latest: bool
    ) -> None:
        tag = publication.version
        tried = False

        def attempt(_seconds: float) -> None:
            nonlocal tried
            if tried and not self._api.release(draft.id).draft:
                return
            tried = True
            self._api.publish_once(
                draft,
                name=tag,
                body=body,
                commit=publication.index.commit,
                prerelease=versions.is_prerelease(tag),
                latest=latest,
            )

        try:
            self._patience.call(f"publish {tag}", attempt)
        except RefusedError as error:
            explain_refusal(error, tag, left=f"The draft is complete and stays: {draft.page}.")

    def _read_back(self, draft: RemoteRelease, publication: Publication) -> RemoteRelease:
        release = self._api.release(draft.id)
        problems = self._problems(self._api.assets(release), publication)
        if release.draft or release.tag != publication.version:
            problems.append(f"it is {'a draft' if release.draft else release.tag}")
        if problems:
            msg = f"{release.page} was published but does not read back: {'; '.join(problems)}."
            raise PublishError(msg, hint="Look at the release; do not use it before it is right.")
        return release


def _good(remote: Sequence[RemoteAsset], publication: Publication) -> Mapping[str, RemoteAsset]:
    """Return the assets that are whole by the server's own word; enough to choose a draft."""
    wanted = publication.by_name
    return {it.name: it for it in remote if it.name in wanted and it.size == wanted[it.name].size}
