"""What actions/cache calls the parts of the cache: the key to save under, and what to look for.

A saved entry never changes, and of those that start like a restore key the newest is taken
(https://docs.github.com/actions/reference/workflows-and-actions/dependency-caching). Whether a
layer or a piece may be used is decided by the build, not by its key: so a key ends in the run that
made the entry, and is only saved when that run made something new.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hakim_actions.artifact import ArtifactName
from hakim_actions.content import Sources
from hakim_actions.image.toolslock import Lock

#: Hex digits of a hash in a key; the whole one says no more to people.
_SHORT = 16


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """One part: its *folder* in the cache, its *key*, and the beginnings of keys to fall back to.

    The most specific of *restore* comes first.
    """

    folder: str
    key: str
    restore: tuple[str, ...]


def cache_keys(
    names: Sequence[ArtifactName],
    *,
    sources: Sources,
    lock: Lock | None,
    level: int,
    env: Mapping[str, str],
) -> Mapping[str, CacheKey]:
    """Return the keys of ``layer``, ``pieces`` and ``tools`` for building *names* in one job.

    All *names* are of one release and architecture. *level* is that of xz: pieces of another level
    are of no use.
    """
    run = env.get("GITHUB_RUN_ID", "") or "local"
    release, arch = names[0].release, names[0].arch
    variant = names[0].variant if len(names) == 1 else "all"
    layer = f"hakim-layer-{release}-{arch}-{_content(sources, [names[0].base])}-"
    pieces = f"hakim-pieces-{variant}-{release}-{arch}-{level}-"
    same = f"{pieces}{_content(sources, names)}-"
    tools = f"hakim-tools-{variant}-{release}-{arch}-"
    return {
        "layer": CacheKey(folder="layers", key=f"{layer}{run}", restore=(layer,)),
        "pieces": CacheKey(folder="pieces", key=f"{same}{run}", restore=(same, pieces)),
        "tools": CacheKey(folder="tools", key=f"{tools}{_pins(lock, names)}", restore=(tools,)),
    }


def _content(sources: Sources, names: Sequence[ArtifactName]) -> str:
    return _hash("".join(sources.key(name) for name in names))


def _pins(lock: Lock | None, names: Sequence[ArtifactName]) -> str:
    return _hash(repr([lock.for_target(name).tools for name in names] if lock else []))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]
