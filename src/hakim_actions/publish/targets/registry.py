"""An OCI registry: each variant as an image, for Docker and for the Coder template that uses it.

Every image is pushed under its version first and read back; ``latest`` moves only when all are
there. A version that holds another image is never overwritten.
"""

import hashlib
import ipaddress
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.debian import DEFAULT_RELEASE
from hakim_actions.errors import ConfigurationError, PublishError
from hakim_actions.index import Index, IndexEntry
from hakim_actions.publish import oci, versions
from hakim_actions.publish.base import (
    Plan,
    Publication,
    Published,
    Settings,
    Step,
    Target,
    other_content,
)
from hakim_actions.publish.patience import Patience, TransientError
from hakim_actions.system.process import Completed, ProcessError, child_environment, run
from hakim_actions.system.progress import Progress

LATEST: Final = "latest"
_PLACE: Final = re.compile(r"[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+")
#: What registries say when a tag or a repository is not there; they differ.
_ABSENT: Final = ("manifest unknown", "name unknown", "not found")
_NO_ACCESS: Final = ("unauthorized", "denied", "authentication required", "forbidden")


@dataclass(frozen=True, kw_only=True)
class _Image:
    """One repository and tag, with the entries (architectures) that it holds."""

    repository: str
    tag: str
    entries: tuple[IndexEntry, ...]

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"


def open_target(settings: Settings) -> Target:
    """Check what was typed and return the target; nothing is sent yet."""
    owner = settings.env.get("GITHUB_REPOSITORY_OWNER", "")
    place = (settings.to or (f"ghcr.io/{owner}" if owner else "")).lower().rstrip("/")
    if _PLACE.fullmatch(place) is None:
        msg = f"'{place}' is not a place in a registry." if place else "No registry was named."
        raise ConfigurationError(msg, hint="Give <host>/<owner> with --to, such as ghcr.io/acme.")
    auth_file = settings.auth_file
    if auth_file is not None and not auth_file.is_file():
        msg = f"The auth file {auth_file} does not exist."
        raise ConfigurationError(msg, hint="'skopeo login' and 'docker login' write one.")
    return RegistryTarget(place, settings)


class RegistryTarget:
    """Images ``<place>/hakim-<variant>``, moved by skopeo."""

    def __init__(self, place: str, settings: Settings) -> None:
        """Push below *place* (``host/owner``)."""
        self._place = place
        self._settings = settings
        self._patience = Patience(deadline=settings.deadline)
        auth = settings.auth_file or settings.env.get("REGISTRY_AUTH_FILE", "")
        extra = {"REGISTRY_AUTH_FILE": os.fspath(auth)} if auth else {}
        self._env = child_environment(settings.env, extra)
        self._tls = "false" if _is_loopback(place) else "true"

    def previous(self, version: str) -> Index | None:
        """Return None: a registry keeps no index."""
        return None

    def base_url(self, version: str) -> str:
        """Return nothing: a registry keeps images, not files."""
        return ""

    def generated_notes(self, publication: Publication) -> str:
        """Return nothing: a registry has nothing to add."""
        return ""

    def plan(self, publication: Publication) -> Plan:
        """Ask which tags are there; whether they are the same shows when the image is made."""
        steps = []
        for image in self._images(publication):
            size = sum(entry.archive.size for entry in image.entries)
            there = self._digest(image.reference)
            recorded = _recorded(image)
            if there and recorded and there != recorded:
                raise other_content(publication.version, image.repository, differs=there)
            if there and there == recorded:
                steps.append(Step(action="keep", name=image.reference, why=there))
            else:
                steps.append(Step(action="send", name=image.reference, size=size))
        steps += [
            Step(action="publish", name=f"{image.repository}:{LATEST}", why="after all others")
            for image in self._latest(publication)
        ]
        done = all(step.action == "keep" or self._moved(step, publication) for step in steps)
        return Plan(destination=self._place, steps=() if done else tuple(steps))

    def publish(self, publication: Publication, *, notes: str, progress: Progress) -> Published:
        """Make, push and read back each image, then move ``latest``; see :class:`Target`."""
        changed = False
        digests: dict[str, str] = {}
        for image in self._images(publication):
            recorded = _recorded(image)
            if recorded and self._digest(image.reference) == recorded:
                digests[image.reference] = recorded
                continue
            with (
                progress.phase(f"Pushing {image.reference}"),
                tempfile.TemporaryDirectory(prefix="hakim-oci-") as folder,
            ):
                digests[image.reference], sent = self._push(image, publication, Path(folder))
                changed |= sent
        for image in self._latest(publication):
            changed |= self._move_latest(image, digests[image.reference])
        images = {
            entry.name.stem: f"{image.repository}@{digests[image.reference]}"
            for image in self._images(publication)
            for entry in image.entries
        }
        return Published(url=self._place, changed=changed, images=images)

    def _images(self, publication: Publication) -> list[_Image]:
        """Return one image a variant and Debian release; the default release has the plain tag."""
        tag = versions.folder_name(publication.version)
        groups: dict[tuple[str, str], list[IndexEntry]] = {}
        for entry in publication.index.entries:
            groups.setdefault((entry.variant, entry.release), []).append(entry)
        return [
            _Image(
                repository=f"{self._place}/hakim-{variant}",
                tag=tag if release == DEFAULT_RELEASE else f"{tag}-{release}",
                entries=tuple(sorted(entries, key=lambda entry: entry.arch)),
            )
            for (variant, release), entries in sorted(groups.items())
        ]

    def _latest(self, publication: Publication) -> list[_Image]:
        if versions.is_prerelease(publication.version):
            return []
        return [it for it in self._images(publication) if it.tag == publication.version]

    def _moved(self, step: Step, publication: Publication) -> bool:
        """Tell whether the ``latest`` of *step* is where it belongs."""
        wanted = {f"{it.repository}:{LATEST}": _recorded(it) for it in self._latest(publication)}
        return bool(wanted.get(step.name)) and self._digest(step.name) == wanted[step.name]

    def _push(self, image: _Image, publication: Publication, folder: Path) -> tuple[str, bool]:
        """Return the digest in the registry, and whether anything had to be sent."""
        digest = oci.write_layout(
            folder / "layout",
            [self._source(entry, publication) for entry in image.entries],
            tag=image.tag,
            threads=os.cpu_count() or 1,
        )
        there = self._digest(image.reference)
        if there == digest:
            return digest, False
        if there:
            raise other_content(publication.version, image.repository, differs=there)
        self._copy(f"oci:{folder / 'layout'}:{image.tag}", image.reference)
        self._prove(image.reference, digest)
        return digest, True

    def _source(self, entry: IndexEntry, publication: Publication) -> oci.Source:
        archive = publication.by_name[entry.archive.name].path
        assert archive is not None  # noqa: S101 - archives are never in memory
        index = publication.index
        server = self._settings.env.get("GITHUB_SERVER_URL", "")
        repository = self._settings.env.get("GITHUB_REPOSITORY", "")
        return oci.Source(
            entry=entry,
            archive=archive,
            version=index.version,
            commit=index.commit,
            epoch=index.epoch,
            url=f"{server}/{repository}" if server and repository else "",
        )

    def _move_latest(self, image: _Image, digest: str) -> bool:
        latest = f"{image.repository}:{LATEST}"
        if self._digest(latest) == digest:
            return False
        tls = f"--src-tls-verify={self._tls}"
        self._copy(f"docker://{image.repository}@{digest}", latest, tls)
        self._prove(latest, digest)
        return True

    def _copy(self, source: str, reference: str, *options: str) -> None:
        tls = f"--dest-tls-verify={self._tls}"
        argv = ["skopeo", "copy", "--quiet", "--all", "--preserve-digests", tls, *options]
        self._skopeo(f"push {reference}", [*argv, source, f"docker://{reference}"])

    def _prove(self, reference: str, digest: str) -> None:
        there = self._digest(reference)
        if there != digest:
            msg = f"{reference} reads back as {there or 'nothing'}, not as {digest}."
            raise PublishError(msg, hint="Somebody else pushed, or the registry is broken.")

    def _digest(self, reference: str) -> str:
        """Return the digest that *reference* stands for, empty when it is not there."""
        tls = f"--tls-verify={self._tls}"
        try:
            done = self._skopeo(
                f"read {reference}", ["skopeo", "inspect", "--raw", tls, f"docker://{reference}"]
            )
        except _AbsentError:
            return ""
        return f"sha256:{hashlib.sha256(done.stdout.encode()).hexdigest()}"

    def _skopeo(self, what: str, argv: Sequence[str]) -> Completed:
        def attempt(seconds: float) -> Completed:
            try:
                return run(argv, env=self._env, timeout=seconds)
            except ProcessError as error:
                raise self._meaning(what, error) from None

        return self._patience.call(what, attempt)

    def _meaning(self, what: str, error: ProcessError) -> Exception:
        """Return what the last line of skopeo means."""
        said = error.message.lower()
        if error.returncode == 127 or "was not found" in said:
            return ConfigurationError(error.message, hint="Install it: apt-get install skopeo.")
        if any(word in said for word in _NO_ACCESS):
            msg = f"Unable to {what}: the registry refuses these credentials ({error.message})"
            return ConfigurationError(
                msg,
                hint="Log in with 'skopeo login' and name its file with --auth-file. In a workflow"
                " the job needs 'permissions: packages: write'.",
            )
        if any(word in said for word in _ABSENT):
            return _AbsentError(f"Unable to {what}: {error.message}")
        return TransientError(error.message)


class _AbsentError(PublishError):
    """The registry has no such image."""


def _recorded(image: _Image) -> str:
    """Return the digest that index.json has for *image*, when it names this very repository."""
    known = {entry.image for entry in image.entries}
    repository, _, digest = known.pop().partition("@") if len(known) == 1 else ("", "", "")
    return digest if repository == image.repository else ""


def _is_loopback(place: str) -> bool:
    """Tell whether *place* is on this machine: like Docker, only there plain HTTP is fine."""
    host = place.partition("/")[0].partition(":")[0]
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
