"""Refreshes tools.lock: asks each source for its newest version and pins that.

The file is changed line by line, so that its comments, its order and its quotes stay.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hakim_actions.errors import BuildError, ConfigurationError, HakimError
from hakim_actions.image.fetch import Fetcher, digest_of
from hakim_actions.image.pins import Digest, Source, Tool
from hakim_actions.image.registries import UnavailableError
from hakim_actions.image.toolslock import Lock
from hakim_actions.system.http import Http, HttpError

_GITHUB: Final = re.compile(r"https://github\.com/([^/]+/[^/]+)/releases/download/")
_LATEST: Final = "https://api.github.com/repos/{repository}/releases/latest"
_WHEEL: Final = re.compile(r"[^-]+-(?P<version>[^-]+)-.*\.whl")
_VALUE: Final = re.compile(r"(?P<key>\s+\w+:\s+)(?P<quote>[\"']?)[^\s\"']+(?P=quote)(?P<rest>.*)")
_NUMBERED: Final = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A pin that is not what it was; *arch* is that of the source."""

    tool: str
    arch: str
    version: tuple[str, str]
    digest: tuple[Digest | None, Digest]

    def __str__(self) -> str:
        """Return it as a line."""
        old, new = self.version
        versions = old if old == new else f"{old} -> {new}"
        was, now = self.digest
        return f"{self.tool} ({self.arch}): {versions}, {was or 'no pin'} -> {now}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The new *text* of the lock, what changed in it, and what could not be refreshed."""

    text: str
    changes: tuple[Change, ...]
    problems: tuple[str, ...]


def parse_mirrors(pairs: Sequence[str]) -> Mapping[str, str]:
    """Read ``URL=MIRROR`` pairs, or raise ConfigurationError showing the wrong one."""
    mirrors = {}
    for pair in pairs:
        url, _, mirror = pair.partition("=")
        if not all(part.startswith(("https://", "http://")) for part in (url, mirror)):
            msg = f"--tool-mirror: '{pair}' is not URL=MIRROR."
            raise ConfigurationError(
                msg, hint="Example: --tool-mirror https://github.com=https://mirror.example/github"
            )
        mirrors[url.rstrip("/")] = mirror.rstrip("/")
    return mirrors


def update(
    lock: Lock,
    *,
    names: Sequence[str],
    http: Http,
    env: Mapping[str, str],
    mirrors: Mapping[str, str] | None = None,
) -> Result:
    """Return the lock with the newest pins of *names*; writes nothing.

    All architectures of a tool move together, or none does. A key of an apt repository is never
    changed here: a new one has to be compared by a person.
    """
    text = lock.path.read_text("utf-8")
    changes: list[Change] = []
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            fetcher = Fetcher(
                http=http,
                cache=Path(folder, "cache"),
                folder=lock.path.parent,
                arch="amd64",
                env=env,
                mirrors=mirrors or {},
            )
            try:
                found = _Asker(fetcher, Path(folder)).changes(lock.tools[name])
            except HakimError as error:
                problems.append(f"{name}: {error.message.rstrip('.')}")
                continue
            changes += found
            text = _rewritten(text, lock.tools[name], found)
    return Result(text=text, changes=tuple(changes), problems=tuple(problems))


class _Asker:
    """Finds the newest pins of a tool."""

    def __init__(self, fetcher: Fetcher, folder: Path) -> None:
        self._fetcher = fetcher
        self._folder = folder

    def changes(self, tool: Tool) -> list[Change]:
        if tool.kind == "apt-repo":
            return []  # the repository has the newest packages by itself
        if any(source.lockfile for source in tool.sources.values()):
            msg = "a tree of npm is refreshed by 'npm update --package-lock-only' in its folder"
            raise BuildError(msg)
        found = {}
        for arch, source in tool.sources.items():
            try:
                found[arch] = self._newest(tool, source)
            except UnavailableError:
                if not source.unpinned or len(tool.sources) == 1:
                    raise  # else it stays without a pin, and the others go on
        _refuse_apart(tool, {arch: version for arch, (version, _) in found.items()})
        return [
            Change(
                tool=tool.name,
                arch=arch,
                version=(tool.sources[arch].version, version),
                digest=(tool.sources[arch].digest, digest),
            )
            for arch, (version, digest) in found.items()
            if (version, digest) != (tool.sources[arch].version, tool.sources[arch].digest)
        ]

    def _newest(self, tool: Tool, source: Source) -> tuple[str, Digest]:
        if source.kind == "npm":
            return self._npm(source)
        if source.kind == "pypi":
            return self._pypi(source)
        return self._url(tool, source)

    def _npm(self, source: Source) -> tuple[str, Digest]:
        """Ask for the newest release of the same major version; years count as one."""
        major = source.version.partition(".")[0]
        wanted = f"^{major}" if major.isdecimal() and int(major) < 1000 else "*"
        release = self._fetcher.registries.npm_newest(f"{source.location}@{wanted}")
        digest = Digest.of_integrity(release["integrity"])
        if digest is None:
            msg = f"{source.location} {release['version']} has no integrity in the registry"
            raise UnavailableError(msg)
        return release["version"], digest

    def _pypi(self, source: Source) -> tuple[str, Digest]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            wheel = self._fetcher.registries.pip_download(
                source.location, source.platform, Path(folder)
            )
            match = _WHEEL.fullmatch(wheel.name)
            if match is None:
                msg = f"'{wheel.name}' is not the name of a wheel"
                raise UnavailableError(msg)
            return match["version"], digest_of(wheel, "sha256")

    def _url(self, tool: Tool, source: Source) -> tuple[str, Digest]:
        """Download the file of the newest release on GitHub, else that of the version given."""
        version = self._github_version(source) or source.version
        url = source.location.replace(source.version, version)
        target = self._folder / f"{tool.name}.download"
        try:
            received = self._fetcher.http.download(self._fetcher.mirrored(url), target)
        except HttpError as error:
            raise UnavailableError(error.message, hint=error.hint) from None
        target.unlink()
        return version, Digest("sha256", received.sha256)

    def _github_version(self, source: Source) -> str:
        match = _GITHUB.match(source.location)
        if match is None:
            return ""
        url = self._fetcher.mirrored(_LATEST.format(repository=match[1]))
        try:
            tag = str(self._fetcher.http.get(url).json().get("tag_name", ""))
        except HttpError as error:
            raise UnavailableError(error.message, hint=error.hint) from None
        number = _NUMBERED.search(tag)
        return number[0] if number else ""


def _refuse_apart(tool: Tool, newest: Mapping[str, str]) -> None:
    """Refuse versions that differ between architectures which share the version of *tool*."""
    shared = {arch: v for arch, v in newest.items() if tool.sources[arch].version == tool.version}
    if len(set(shared.values())) > 1:
        listed = ", ".join(f"{arch} {version}" for arch, version in shared.items())
        msg = f"its architectures are not at the same version: {listed}"
        raise UnavailableError(msg)


def _rewritten(text: str, tool: Tool, changes: Sequence[Change]) -> str:
    """Return *text* with the *changes* of *tool*, every other line as it was."""
    lines = text.split("\n")
    in_tool = source = ""
    by_arch = {change.arch: change for change in changes}
    shared = next((c.version[1] for c in changes if c.version[0] == tool.version), tool.version)
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        key = line.strip().partition(":")[0]
        if not key or key.startswith("#"):
            continue
        if indent <= 2:
            in_tool = key if indent == 2 else ""
        elif in_tool == tool.name and indent == 4:
            source = key
            if key == "version":
                lines[number] = _with_value(line, shared)
        elif in_tool == tool.name and indent == 6 and source in by_arch:
            lines[number] = _repinned(line, key, by_arch[source])
    return "\n".join(lines)


def _repinned(line: str, key: str, change: Change) -> str:
    if key == "version":
        return _with_value(line, change.version[1])
    if key not in {"sha256", "integrity", "unpinned"}:
        return line
    digest = change.digest[1]
    if digest.algorithm == "sha256":
        return f"      sha256: {digest.value}"
    return f"      integrity: {digest}"


def _with_value(line: str, value: str) -> str:
    """Return *line* with another *value*, in quotes if it had some, and with its comment."""
    match = _VALUE.fullmatch(line)
    assert match is not None  # noqa: S101 - the lock has been read: a text is there
    return f"{match['key']}{match['quote']}{value}{match['quote']}{match['rest']}"
