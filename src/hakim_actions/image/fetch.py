"""Gets what tools.lock pins: from the cache, from a URL, or through npm and pip as they are set up.

Nothing gets into the cache, and nothing out of it, without having the pinned checksum.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hakim_actions.errors import ConfigurationError
from hakim_actions.image import aptkey, overlay
from hakim_actions.image.pins import Digest, Source
from hakim_actions.image.registries import MismatchError, Registries, UnavailableError
from hakim_actions.system import files
from hakim_actions.system.http import Http, HttpError

#: Bytes asked for at once: a download that breaks off goes on where the last piece ended.
PIECE: Final = 8 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A file that has the pinned checksum, and its *name*, which tells its format."""

    path: Path
    name: str


@dataclass(kw_only=True)
class Fetcher:
    """Fetches sources for images of *arch* and keeps them in *cache*; may be used by threads.

    *mirrors* maps the beginning of a URL to what stands there instead. *folder* is that of the
    lock. Every method raises UnavailableError or MismatchError.
    """

    http: Http
    cache: Path
    folder: Path
    arch: str
    env: Mapping[str, str]
    mirrors: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the folder of the cache."""
        files.writable_folder(self.cache, option="the cache of tools")
        self.registries = Registries(self.http, self.env)

    def get(self, source: Source) -> Fetched:
        """Return the archive of *source*, or the key of an apt repository."""
        if source.unpinned:
            msg = f"{source} is not pinned: {source.unpinned}"
            hint = "Where it can be reached, 'hakim-actions tools update' pins it."
            raise UnavailableError(msg, hint=hint)
        if source.kind == "apt-repo":
            return self._apt_key(source)
        if source.lockfile:
            return self._npm_tree(source)
        get = {"url": self._url, "npm": self._npm, "pypi": self._pypi}[source.kind]
        return get(source)

    def mirrored(self, url: str) -> str:
        """Return where *url* is fetched from: the longest beginning in ``mirrors`` wins."""
        for start in sorted(self.mirrors, key=len, reverse=True):
            if url == start or url.startswith(start.rstrip("/") + "/"):
                return self.mirrors[start].rstrip("/") + url[len(start.rstrip("/")) :]
        return url

    def _url(self, source: Source) -> Fetched:
        name = source.location.partition("?")[0].rpartition("/")[2]
        return self._kept(source, name, lambda part: self._download(source.location, part))

    def _npm(self, source: Source) -> Fetched:
        def produce(part: Path) -> None:
            release = self.registries.npm_release(source.location, source.version)
            self._download(release["tarball"], part)

        return self._kept(source, "package.tgz", produce)

    def _pypi(self, source: Source) -> Fetched:
        def produce(part: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                requirement = f"{source.location}=={source.version}"
                wheel = self.registries.pip_download(requirement, source.platform, Path(folder))
                wheel.replace(part)

        return self._kept(source, "package.whl", produce)

    def _kept(self, source: Source, name: str, produce: Callable[[Path], None]) -> Fetched:
        """Return the file with the pinned checksum, letting *produce* make it when it is new."""
        digest = source.digest
        assert digest is not None  # noqa: S101 - the lock does not load otherwise
        kept = self.cache / digest.file_name
        if _has(kept, digest):
            return Fetched(path=kept, name=name)
        with self._downloading(digest.file_name) as part:
            if _has(kept, digest):  # by another build, while this one waited
                return Fetched(path=kept, name=name)
            begun = part.exists()
            produce(part)
            if begun and digest_of(part, digest.algorithm) != digest:
                part.unlink()  # what an earlier run left was no good
                produce(part)
            if (found := digest_of(part, digest.algorithm)) != digest:
                part.unlink()
                raise MismatchError(str(source), found=found, expected=digest)
            part.replace(kept)
        return Fetched(path=kept, name=name)

    @contextlib.contextmanager
    def _downloading(self, name: str) -> Iterator[Path]:
        """Wait until no other build is getting *name*, then yield the file for its download."""
        with files.alone(self.cache / f".{name}.lock"):
            yield self.cache / f".{name}.part"

    def _download(self, url: str, part: Path) -> None:
        """Download *url* to *part*, going on where an earlier try ended if the server can."""
        url = self.mirrored(url)
        try:
            size = self._resumable(url)
            if size is None:
                self.http.download(url, part)
            else:
                self._resume(url, part, size)
        except HttpError as error:
            raise UnavailableError(error.message, hint=error.hint) from None

    def _resumable(self, url: str) -> int | None:
        """Return the size of *url* in bytes if parts of it can be asked for."""
        try:
            headers = self.http.request("HEAD", url, headers=_AS_IT_IS).headers
        except HttpError as error:
            if error.status is None:
                raise
            return None  # some servers answer only GET
        size = headers.get("content-length", "")
        ranges = headers.get("accept-ranges", "") == "bytes"
        return int(size) if ranges and size.isdecimal() and int(size) > PIECE else None

    def _resume(self, url: str, part: Path, size: int) -> None:
        done = part.stat().st_size if part.exists() else 0
        with part.open("ab") as stream:
            while done < size:
                last = min(done + PIECE, size) - 1
                answer = self.http.get(url, headers={**_AS_IT_IS, "Range": f"bytes={done}-{last}"})
                if answer.status != 206 or len(answer.body) != last - done + 1:
                    part.unlink()
                    msg = f"{url} sent other bytes than it was asked for."
                    raise HttpError(msg, hint="Is there a proxy between here and there?")
                stream.write(answer.body)
                done = last + 1

    def _apt_key(self, source: Source) -> Fetched:
        """Return the key of a repository that answers, with the pinned fingerprint."""
        kept = self.cache / f"key-{source.fingerprint}"
        with self._downloading(kept.name) as part:
            self._download(source.key, part)
            found = aptkey.fingerprints(part, env=self.env)
            if found != {source.fingerprint}:
                part.unlink()
                listed = " and ".join(sorted(found)) or "no key"
                raise MismatchError(
                    source.key,
                    found=f"the fingerprint {listed}",
                    expected=f"{source.fingerprint}",
                )
            part.replace(kept)
        try:
            self.http.get(self.mirrored(f"{source.location}/dists/{source.suite}/InRelease"))
        except HttpError as error:
            raise UnavailableError(error.message, hint=error.hint) from None
        return Fetched(path=kept, name="key.asc")

    def _npm_tree(self, source: Source) -> Fetched:
        """Return a tar of ``node_modules`` as the lock file of npm says; no script is run."""
        folder = self.folder / source.lockfile
        inputs = {name: folder / name for name in ("package.json", "package-lock.json")}
        _require_integrity(inputs["package-lock.json"])
        key = hashlib.sha256(f"{self.arch}\0{_NPM_TREE}".encode())
        for path in inputs.values():
            key.update(path.read_bytes())
        kept = self.cache / f"npm-{key.hexdigest()}"
        proof = self.cache / f"{kept.name}.sha256"
        if not _is_proven(kept, proof):
            with self._downloading(kept.name) as part:
                if not _is_proven(kept, proof):  # by another build, while this one waited
                    self._install_tree(inputs, part, what=str(source))
                    files.write_text(proof, files.sha256_file(part))
                    part.replace(kept)
        return Fetched(path=kept, name="tree.tar")

    def _install_tree(self, inputs: Mapping[str, Path], target: Path, *, what: str) -> None:
        with tempfile.TemporaryDirectory(dir=self.cache) as work:
            for name, path in inputs.items():
                shutil.copy(path, Path(work, name))
            self.registries.npm_ci(Path(work), arch=self.arch, what=what)
            overlay.pack_folder(Path(work, "node_modules"), target)


#: A coded body would have another checksum, and other ranges, than the file.
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
#: Raised by one when a tree is made in another way from the same lock file.
_NPM_TREE: Final = 1


def _has(path: Path, digest: Digest) -> bool:
    """Tell whether *path* has the checksum *digest*; remove it when it has another."""
    if not path.is_file():
        return False
    if digest_of(path, digest.algorithm) == digest:
        return True
    path.unlink(missing_ok=True)  # the disk, or somebody, has changed it
    return False


def _is_proven(path: Path, proof: Path) -> bool:
    return path.is_file() and proof.is_file() and proof.read_text() == files.sha256_file(path)


def digest_of(path: Path, algorithm: str) -> Digest:
    """Return the checksum of *path*."""
    with path.open("rb") as stream:
        return Digest(algorithm, hashlib.file_digest(stream, algorithm).hexdigest())


def _require_integrity(path: Path) -> None:
    """Refuse a lock file of npm that has a package without checksum, or names a host."""
    try:
        packages = json.loads(path.read_text("utf-8"))["packages"]
        entries = {name: entry for name, entry in packages.items() if name and "link" not in entry}
        loose = [name for name, entry in entries.items() if "integrity" not in entry]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} is not a lock file of npm: {error}."
        raise ConfigurationError(msg, hint="'hakim-actions tools update' makes one.") from None
    bundled = [name for name in loose if entries[name].get("inBundle")]
    if wrong := sorted(set(loose) - set(bundled)):
        msg = f"{path} has packages without a checksum: {', '.join(wrong[:3])}."
        raise ConfigurationError(msg, hint="'hakim-actions tools update' makes one that has them.")
