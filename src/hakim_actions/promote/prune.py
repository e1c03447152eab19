"""Which old versions may go: only names of ours, never the newest, never one that is in use."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hakim_actions.promote import names
from hakim_actions.promote.base import Store
from hakim_actions.promote.state import State, Stored

_DAY = 86400


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A versioned file of a store, and why it stays; without ``reason`` it goes."""

    store: Store
    stored: Stored
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """Return the verdict for tables and JSON."""
        return {
            "store": self.store.label,
            "file": self.stored.name,
            "action": "keep" if self.reason else "remove",
            "size": self.stored.size,
            "reason": self.reason,
        }


def parse_in_use(values: Iterable[str]) -> frozenset[str]:
    """Return the file names in *values*: volume ids, paths or names, also several in one value."""
    words = (word for value in values for word in re.split(r"[\s,]+", value) if word)
    return frozenset(word.rpartition("/")[2] for word in words)


def judge(
    store: Store,
    listing: Iterable[Stored],
    *,
    state: State,
    keep: int,
    older_than: float | None,
    in_use: frozenset[str],
    now: float,
) -> list[Verdict]:
    """Judge every versioned template of *store*, newest first within each image.

    *keep* (at least 1) newest stay; *older_than* is in days; *now* in seconds since 1970. Contract
    names and everything that is not ours are not even looked at.
    """
    groups: dict[str, list[Stored]] = {}
    for stored in listing:
        name = names.ours(stored.name)
        if name is not None and name.version:
            groups.setdefault(names.contract(name).archive, []).append(stored)
    verdicts = []
    for contract, group in sorted(groups.items()):
        current = state.current(store.label, contract)
        for place, stored in enumerate(sorted(group, key=_age, reverse=True)):
            age = (now - stored.changed) / _DAY
            if stored.name in in_use:
                reason = "in use"
            elif place < max(keep, 1):
                reason = "newest" if place == 0 else f"among the {keep} newest"
            elif _is_current(store, stored, state, current.sha256 if current else ""):
                reason = f"same as {contract}"
            elif older_than is not None and age < older_than:
                reason = f"only {age:.0f} days old"
            else:
                reason = ""
            verdicts.append(Verdict(store=store, stored=stored, reason=reason))
    return verdicts


def remove(verdicts: Sequence[Verdict], *, state: State) -> list[str]:
    """Delete what has no reason to stay and return the file names, one a store and file."""
    gone = []
    for verdict in verdicts:
        if not verdict.reason:
            verdict.store.remove(verdict.stored.name)
            state.forget(verdict.store.label, verdict.stored.name)
            gone.append(f"{verdict.store.label}: {verdict.stored.name}")
    return gone


def _age(stored: Stored) -> tuple[int, list[tuple[int, str]]]:
    """Order by time, and within a second by version, where v1.10 is newer than v1.9."""
    parts = re.findall(r"\d+|\D+", stored.name)
    return stored.changed, [(int(p), "") if p.isdigit() else (0, p) for p in parts]


def _is_current(store: Store, stored: Stored, state: State, sha256: str) -> bool:
    return bool(sha256) and state.knows(store.label, stored) == sha256
