"""``tools.lock``: which tools an image gets beside its Debian packages, each with its pin."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from hakim_actions.artifact import ArtifactName
from hakim_actions.catalog import read_yaml
from hakim_actions.debian import ARCHITECTURES
from hakim_actions.errors import ConfigurationError, did_you_mean
from hakim_actions.image.pins import ALL, ALL_BUT_BASE, ANY, Digest, Plan, Source, Tool, filled

LOCK_SCHEMA: Final = 1

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_NPM_NAME: Final = re.compile(r"(?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*")
_PYPI_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_DEB_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_URL: Final = re.compile(r"https?://[^\s/]+(?:/\S*)?")
#: Where tools may go: never over a file that a Debian package brings.
_PLACES: Final = ("/usr/local/", "/opt/", "/etc/skel/")

_TOOL_KEYS: Final = (
    *("version", "kind", "variants", "strip", "put", "links", "omit"),
    *(ANY, *ARCHITECTURES),
)
_SOURCE_KEYS: Final = {
    "url": ("url", "sha256", "integrity", "unpinned", "version"),
    "npm": ("package", "integrity", "lockfile", "unpinned", "version"),
    "pypi": ("package", "platform", "sha256", "unpinned", "version"),
    "apt-repo": ("url", "suite", "components", "packages", "key", "fingerprint", "unpinned"),
}


@dataclass(frozen=True, kw_only=True)
class Lock:
    """All tools by name, in the order of the file at *path*."""

    path: Path
    tools: Mapping[str, Tool]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read ``tools.lock``; raise ConfigurationError that lists every problem in it."""
        document = read_yaml(path)
        problems = list(_unknown(document, ("schema", "tools"), "the file"))
        if document.get("schema") != LOCK_SCHEMA:
            problems.append(f"schema: expected {LOCK_SCHEMA}, found {document.get('schema')!r}")
        entries = document.get("tools")
        if not isinstance(entries, dict):
            entries = {}
            problems.append("tools: expected a table of tools, found none")
        tools = {
            str(name): _Reader(str(name), entry, problems).tool() for name, entry in entries.items()
        }
        if problems:
            msg = f"{path} is not a valid list of tools."
            raise ConfigurationError(msg, problems=problems)
        return cls(path=path, tools=tools)

    def tool(self, name: str) -> Tool:
        """Return the tool called *name*, or raise ConfigurationError with the nearest one."""
        try:
            return self.tools[name]
        except KeyError:
            msg = f"There is no tool '{name}' in {self.path}."
            raise ConfigurationError(msg, hint=did_you_mean(name, self.tools)) from None

    def without(self, names: Collection[str]) -> Self:
        """Return the lock without the tools called *names*."""
        kept = {name: tool for name, tool in self.tools.items() if name not in names}
        return replace(self, tools=kept)

    def for_target(self, name: ArtifactName) -> Plan:
        """Return what the image *name* gets, sorted by name of tool."""
        chosen = (tool for tool in self.tools.values() if tool.is_for(name.variant))
        by_name = sorted(chosen, key=lambda tool: tool.name)
        return Plan(
            name=name,
            folder=self.path.parent,
            tools=tuple((tool, tool.source(name.arch)) for tool in by_name),
        )


class _Reader:
    """Reads one tool and adds every problem in it to *problems*."""

    def __init__(self, name: str, entry: Any, problems: list[str]) -> None:
        self._name = name
        self._problems = problems
        self._entry: dict[str, Any] = entry if isinstance(entry, dict) else {}
        if not _NAME.fullmatch(name):
            self._problem("", "expected lower-case letters, digits and '-', a letter first")
        problems.extend(_unknown(self._entry, _TOOL_KEYS, f"tool '{name}'"))

    def tool(self) -> Tool:
        version = self._text(self._entry, "version", _VERSION)
        kind = self._entry.get("kind")
        if kind not in _SOURCE_KEYS:
            self._problem("kind", f"expected one of {', '.join(_SOURCE_KEYS)}, found {kind!r}")
            return Tool(name=self._name, version="", kind="", variants=ALL, sources={})
        tool = Tool(
            name=self._name,
            version=version,
            kind=kind,
            variants=self._variants(),
            sources=self._sources(kind, version),
            strip=self._strip(kind),
            put=self._table("put", _is_place),
            links=self._table("links", lambda key, _: _is_place("", key)),
            omit=self._texts(self._entry, "omit", optional=True),
        )
        if kind != "apt-repo" and not tool.put:
            self._problem("put", "expected where the files go, found nothing")
        return tool

    def _problem(self, where: str, expectation: str) -> None:
        place = f"tool '{self._name}'" + (f", {where}" if where else "")
        self._problems.append(f"{place}: {expectation}")

    def _variants(self) -> str | tuple[str, ...]:
        value = self._entry.get("variants")
        if value in {ALL, ALL_BUT_BASE} if isinstance(value, str) else False:
            return str(value)
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        self._problem("variants", f"expected {ALL}, {ALL_BUT_BASE} or a list, found {value!r}")
        return ALL

    def _strip(self, kind: str) -> int:
        value = self._entry.get("strip", 1 if kind == "npm" else 0)
        if isinstance(value, int) and 0 <= value <= 9:
            return value
        self._problem("strip", f"expected a number of folders, found {value!r}")
        return 0

    def _table(self, key: str, is_valid: Any) -> Mapping[str, str]:
        value = self._entry.get(key, {})
        if not isinstance(value, dict) or not all(
            isinstance(text, str) for pair in value.items() for text in pair
        ):
            self._problem(key, f"expected a table of paths, found {value!r}")
            return {}
        for source, target in value.items():
            if not is_valid(source, target):
                places = ", ".join(_PLACES)
                self._problem(key, f"'{source}: {target}' is no path below {places}")
        return value

    def _sources(self, kind: str, version: str) -> Mapping[str, Source]:
        given = [arch for arch in (ANY, *ARCHITECTURES) if arch in self._entry]
        if not given:
            self._problem("", f"expected a source: {ANY}, or {', '.join(ARCHITECTURES)}")
        if ANY in given and len(given) > 1:
            self._problem(ANY, "expected alone: it is the source of all architectures")
        return {arch: self._source(arch, kind, version) for arch in given}

    def _source(self, arch: str, kind: str, version: str) -> Source:
        entry = self._entry[arch]
        if not isinstance(entry, dict):
            self._problem(arch, f"expected a table, found {entry!r}")
            return Source(kind=kind, version=version, location="")
        where = f"{arch} of tool '{self._name}'"
        self._problems.extend(_unknown(entry, _SOURCE_KEYS[kind], where))
        if "version" in entry:
            version = self._text(entry, "version", _VERSION, where=arch)
        read = {"npm": self._npm, "pypi": self._pypi, "url": self._url, "apt-repo": self._apt}
        source = Source(
            kind=kind,
            version=version,
            unpinned=str(entry.get("unpinned", "")),
            **read[kind](arch, entry, version),
        )
        self._require_pin(arch, source)
        return source

    def _require_pin(self, arch: str, source: Source) -> None:
        pinned = source.digest or source.lockfile or source.fingerprint
        if not pinned and not source.unpinned:
            wanted = {
                "npm": "integrity (sha512-…)",
                "apt-repo": "fingerprint (40 or 64 hex digits)",
            }.get(source.kind, "sha256")
            self._problem(
                arch, f"expected a pin: {wanted}; or 'unpinned' with the reason why there is none"
            )
        if pinned and source.unpinned:
            self._problem(arch, "expected a pin or 'unpinned', found both")

    def _npm(self, arch: str, entry: Mapping[str, Any], _version: str) -> dict[str, Any]:
        lockfile = entry.get("lockfile", "")
        if lockfile and not (isinstance(lockfile, str) and _is_inside(lockfile)):
            self._problem(arch, f"lockfile: expected a path beside tools.lock, found {lockfile!r}")
        if lockfile and "integrity" in entry:
            self._problem(arch, "expected integrity or lockfile, found both")
        name = self._text(entry, "package", _NPM_NAME, where=arch)
        return {"location": name, "digest": self._digest(arch, entry), "lockfile": lockfile}

    def _pypi(self, arch: str, entry: Mapping[str, Any], _version: str) -> dict[str, Any]:
        return {
            "location": self._text(entry, "package", _PYPI_NAME, where=arch),
            "platform": self._text(entry, "platform", _WORD, where=arch),
            "digest": self._digest(arch, entry),
        }

    def _url(self, arch: str, entry: Mapping[str, Any], version: str) -> dict[str, Any]:
        url = self._text(entry, "url", _URL, where=arch)
        return {"location": filled(url, version), "digest": self._digest(arch, entry)}

    def _apt(self, arch: str, entry: Mapping[str, Any], _version: str) -> dict[str, Any]:
        fingerprint = entry.get("fingerprint", "")
        if fingerprint and not (
            isinstance(fingerprint, str) and _FINGERPRINT.fullmatch(fingerprint)
        ):
            self._problem(arch, f"fingerprint: expected 40 hex digits, found {fingerprint!r}")
        packages = self._texts(entry, "packages", where=arch)
        for package in packages:
            if not _DEB_NAME.fullmatch(package):
                self._problem(arch, f"packages: '{package}' is not the name of a package")
        return {
            "location": self._text(entry, "url", _URL, where=arch).rstrip("/"),
            "suite": self._text(entry, "suite", _WORD, where=arch),
            "components": self._texts(entry, "components", where=arch),
            "packages": packages,
            "key": self._text(entry, "key", _URL, where=arch),
            "fingerprint": fingerprint,
        }

    def _digest(self, arch: str, entry: Mapping[str, Any]) -> Digest | None:
        digests = []
        if "sha256" in entry:
            value = entry["sha256"]
            if isinstance(value, str) and _HEX.fullmatch(value):
                digests.append(Digest("sha256", value))
            else:
                self._problem(arch, f"sha256: expected 64 hex digits, found {value!r}")
        if "integrity" in entry:
            digest = Digest.of_integrity(str(entry["integrity"]))
            if digest is None:
                self._problem(
                    arch, f"integrity: expected sha512-<base64>, found {entry['integrity']!r}"
                )
            else:
                digests.append(digest)
        if len(digests) > 1:
            self._problem(arch, "expected sha256 or integrity, found both")
        return digests[0] if digests else None

    def _text(
        self, entry: Mapping[str, Any], key: str, pattern: re.Pattern[str], *, where: str = ""
    ) -> str:
        value = entry.get(key)
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        hint = " (in quotes)" if isinstance(value, int | float) else ""
        expected = f"{key}: expected a text{hint} like {pattern.pattern}, found {value!r}"
        self._problem(where, expected)
        return ""

    def _texts(
        self, entry: Mapping[str, Any], key: str, *, where: str = "", optional: bool = False
    ) -> tuple[str, ...]:
        value = entry.get(key, [] if optional else None)
        if (
            isinstance(value, list)
            and (value or optional)
            and all(isinstance(item, str) and item for item in value)
        ):
            return tuple(value)
        self._problem(where, f"{key}: expected a list of texts, found {value!r}")
        return ()


def _is_place(source: str, target: str) -> bool:
    return (
        target.startswith(_PLACES)
        and _is_inside(target[1:])
        and (not source or source == "." or _is_inside(source))
    )


def _is_inside(path: str) -> bool:
    """Tell whether the relative *path* is written plainly and stays where it starts."""
    parts = path.split("/")
    return not any(part in {"", ".", ".."} for part in parts) and "\0" not in path


def _unknown(document: Mapping[Any, Any], known: Sequence[str], where: str) -> Iterator[str]:
    for key in document:
        if key not in known:
            yield f"{where}: unknown key '{key}'. {did_you_mean(str(key), known)}"
