"""Tools that are not in Debian: fetched here, checked, and laid out as they are in the image."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hakim_actions.errors import BuildError, ConfigurationError
from hakim_actions.image.fetch import Fetched, Fetcher
from hakim_actions.image.overlay import Overlay
from hakim_actions.image.pins import Plan, Source, Tool, placed
from hakim_actions.image.registries import MismatchError, UnavailableError
from hakim_actions.image.toolslock import Lock
from hakim_actions.system.http import Http

__all__ = ["Lock", "Plan", "Staged", "load", "stage"]

#: The file that distrobuilder copies in and post-packages.sh unpacks.
TAR_NAME: Final = "tools.tar"
#: Downloads at a time: more would only fill the same line.
_PARALLEL: Final = 4
_KEYRINGS: Final = "etc/apt/keyrings"
#: What post-packages.sh needs to install the packages of a repository: three files of each tool.
_VENDOR: Final = "usr/local/lib/hakim-build/vendor"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The tar of all tools, which versions are in it, and which tools could not be had.

    *reasons* tells of each tool in *missing* where it should have come from and why it did not.
    """

    tar: Path
    versions: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def load(path: Path) -> Lock:
    """Read ``tools.lock``; see :meth:`Lock.load`."""
    return Lock.load(path)


def check_allowed(lock: Lock, names: Collection[str]) -> None:
    """Raise ConfigurationError for a name of ``--allow-missing`` that no tool has."""
    for name in names:
        try:
            lock.tool(name)
        except ConfigurationError as error:
            msg = f"--allow-missing: {error.message}"
            raise ConfigurationError(msg, hint=error.hint) from None


def stage(
    plan: Plan,
    *,
    into: Path,
    cache: Path,
    env: Mapping[str, str],
    allow_missing: Collection[str] = (),
    mirrors: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
    http: Http | None = None,
) -> Staged:
    """Fetch all tools of *plan* at once and write them to ``<into>/tools.tar``.

    Downloads are kept below ``<cache>/tools``. A tool that cannot be had is left out if
    *allow_missing* names it. Raises BuildError naming every tool that failed, with its source and
    the reason; nothing is written then. What has the wrong checksum fails in any case.
    """
    with http or Http() as client:
        fetcher = Fetcher(
            http=client,
            cache=cache / "tools",
            folder=plan.folder,
            arch=plan.name.arch,
            env=env,
            mirrors=mirrors or {},
        )
        results = _fetch_all(plan, fetcher, on_line)
    reasons = _judged(plan, results, allow_missing)
    for name, reason in reasons.items():
        on_line(f"without {name}: {reason}")
    target = into / TAR_NAME
    versions = _write(plan, results, target, fetcher)
    return Staged(tar=target, versions=versions, missing=tuple(reasons), reasons=reasons)


def _fetch_all(
    plan: Plan, fetcher: Fetcher, on_line: Callable[[str], None]
) -> Sequence[Fetched | BuildError]:
    """Return what came of each tool of *plan*, in its order."""

    def fetch(pair: tuple[Tool, Source | None]) -> Fetched | BuildError:
        tool, source = pair
        if source is None:
            msg = f"it has no source for {plan.name.arch}"
            return UnavailableError(msg, hint="Add one to tools.lock.")
        try:
            fetched = fetcher.get(source)
        except BuildError as error:
            return error
        on_line(f"{tool.name} {source.version}")
        return fetched

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="tools") as pool:
        return list(pool.map(fetch, plan.tools))


def _judged(
    plan: Plan, results: Sequence[Fetched | BuildError], allow_missing: Collection[str]
) -> Mapping[str, str]:
    """Return the reasons of tools that may be missing; raise BuildError for all others."""
    failed = {
        tool.name: result
        for (tool, _), result in zip(plan.tools, results, strict=True)
        if isinstance(result, BuildError)
    }
    allowed = {
        name: error.message
        for name, error in failed.items()
        if isinstance(error, UnavailableError) and name in allow_missing
    }
    if fatal := {name: failed[name] for name in failed if name not in allowed}:
        raise _failure(plan, fatal)
    return allowed


def _failure(plan: Plan, errors: Mapping[str, BuildError]) -> BuildError:
    said = "; ".join(f"{name}: {error.message.rstrip('.')}" for name, error in errors.items())
    forgivable = [name for name, error in errors.items() if isinstance(error, UnavailableError)]
    hint = f"To build without them: --allow-missing {','.join(forgivable)}" if forgivable else ""
    if any(isinstance(error, MismatchError) for error in errors.values()):
        hint = next(e.hint for e in errors.values() if isinstance(e, MismatchError))
    if not hint:
        hint = next(iter(errors.values())).hint
    return BuildError(f"{plan.name.stem} lacks tools: {said}.", hint=hint)


def _write(
    plan: Plan, results: Sequence[Fetched | BuildError], target: Path, fetcher: Fetcher
) -> Mapping[str, str]:
    versions = {}
    part = target.with_suffix(".part")
    try:
        with Overlay(part) as overlay:
            for (tool, source), result in zip(plan.tools, results, strict=True):
                if source is None or isinstance(result, BuildError):
                    continue
                if source.kind == "apt-repo":
                    _add_repository(overlay, tool, source, result, fetcher)
                else:
                    overlay.add_archive(placed(tool, source), result.path, name=result.name)
                versions[tool.name] = source.version
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return versions


def _add_repository(
    overlay: Overlay, tool: Tool, source: Source, key: Fetched, fetcher: Fetcher
) -> None:
    """Add the key, the source and the list of packages; apt in the image does the rest.

    Users of the image get updates from the vendor, so the address of a mirror that served this
    build does not stay in it.
    """
    keyring = f"{_KEYRINGS}/{tool.name}.asc"
    overlay.add_bytes(tool.name, keyring, key.path.read_bytes())
    for ending, text in (
        ("address", source.location),
        ("packages", "\n".join(source.packages)),
        ("sources", _sources(source, fetcher.mirrored(source.location), keyring)),
    ):
        overlay.add_bytes(tool.name, f"{_VENDOR}/{tool.name}.{ending}", f"{text}\n".encode())


def _sources(source: Source, url: str, keyring: str) -> str:
    """Return the paragraph for apt (https://manpages.debian.org/sources.list)."""
    return (
        "Types: deb\n"
        f"URIs: {url}\n"
        f"Suites: {source.suite}\n"
        f"Components: {' '.join(source.components)}\n"
        f"Signed-By: /{keyring}"
    )
