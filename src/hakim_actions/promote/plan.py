"""What a promotion would do and why, decided from what the stores list; nothing is written."""

import enum
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from hakim_actions.promote import names
from hakim_actions.promote.base import Store, Survey, Way
from hakim_actions.promote.source import Source, Template
from hakim_actions.promote.state import State, Stored


class Action(enum.StrEnum):
    """What happens to one file in one store."""

    KEEP = "keep"
    #: The size is right, the content not known yet: prove it first, then keep or replace.
    CHECK = "check"
    ADD = "add"
    REPLACE = "replace"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One template for one store.

    ``file`` is the name it gets; ``staged`` the versioned name the new one is proven under before
    a file in use is replaced. ``there`` and ``staged_there`` are what has these names now.
    """

    store: Store
    template: Template
    file: str
    action: Action
    way: Way
    reason: str
    staged: str = ""
    there: Stored | None = None
    staged_there: Stored | None = None

    def row(self) -> dict[str, Any]:
        """Return the step for tables and JSON."""
        return {
            "store": self.store.label,
            "file": self.file,
            "action": self.action.value,
            "way": "" if self.action is Action.KEEP else self.way.value,
            "size": self.template.size,
            "sha256": self.template.sha256,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps, what is worth knowing, and every problem that forbids to start."""

    target: str
    source: Source
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether anything would be written for sure, or may be after a check."""
        return any(step.action is not Action.KEEP for step in self.steps)

    def document(self) -> dict[str, Any]:
        """Return the plan for ``--json``."""
        return {
            "target": self.target,
            "source": self.source.reference,
            "version": self.source.version,
            "steps": [step.row() for step in self.steps],
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


def make(
    source: Source,
    templates: Sequence[Template],
    survey: Survey,
    *,
    target: str,
    state: State,
    versioned: bool = False,
    parallel: int = 4,
) -> Plan:
    """Decide for every store and template; *parallel* stores are listed at a time."""
    steps: list[Step] = []
    notes, problems = list(survey.notes), list(survey.problems)
    with ThreadPoolExecutor(parallel) as pool:
        listings = list(pool.map(lambda store: store.listing(), survey.stores))
    for store, listing in zip(survey.stores, listings, strict=True):
        notes += [f"Drift: {line}." for line in state.drift(store.label, listing)]
        state.rebuild(store.label, listing.values())
        chosen, left = _fitting(store, templates)
        if left:
            notes.append(f"{store.label}: {', '.join(left)} left out, another architecture.")
        if not chosen:
            problems.append(f"{store.label}: nothing here is for its architecture.")
        decider = _Decider(store=store, listing=listing, state=state, version=source.version)
        decide = decider.versioned if versioned else decider.contract
        mine = [step for template in chosen if (step := decide(template)) is not None]
        problems += decider.problems + _lacking_room(store, mine)
        steps += mine
    return Plan(
        target=target,
        source=source,
        steps=tuple(steps),
        notes=tuple(notes),
        problems=tuple(problems),
    )


def _fitting(store: Store, templates: Iterable[Template]) -> tuple[list[Template], list[str]]:
    chosen, left = [], []
    for template in templates:
        if store.fits(template):
            chosen.append(template)
        else:
            left.append(template.name.stem)
    return chosen, left


def _lacking_room(store: Store, steps: Iterable[Step]) -> list[str]:
    room, needed = store.room(), 0
    for step in steps:
        size = step.template.size
        if step.action is Action.ADD:
            needed += size
        elif step.action is Action.REPLACE:
            needed += size if step.staged_there is None else 0
            if step.there is not None and not store.keeps_versions:
                needed += max(0, size - step.there.size)
    if room is None or needed <= room:
        return []
    lacking = f"{store.label} has {room / 1e9:.1f} GB left, {needed / 1e9:.1f} GB are needed."
    return [f"{lacking} 'hakim-actions prune' removes old versions."]


@dataclass(kw_only=True)
class _Decider:
    """The rules for one store."""

    store: Store
    listing: Mapping[str, Stored]
    state: State
    version: str
    problems: list[str] = field(default_factory=list)

    def contract(self, template: Template) -> Step:
        """Decide for the contract name, which always means the newest."""
        file = template.name.archive
        action, reason = self._compare(file, template)
        staged = names.versioned(template.name, self.version).archive
        if action is Action.KEEP or (action is Action.ADD and not self.store.keeps_versions):
            staged = ""
        return self._step(template, file, action, reason, staged=staged)

    def versioned(self, template: Template) -> Step | None:
        """Decide for a versioned name; None, with a problem, when it holds something else."""
        file = names.versioned(template.name, self.version).archive
        action, reason = self._compare(file, template)
        if action is Action.REPLACE:
            if not self._is_fragment(file, template):
                self.problems.append(
                    f"{self.store.label}: {reason} under the name {file}, and a version never "
                    "changes. Publish under a new version."
                )
                return None
            action, reason = Action.ADD, "an unfinished copy is there"
        return self._step(template, file, action, reason)

    def _step(
        self, template: Template, file: str, action: Action, reason: str, *, staged: str = ""
    ) -> Step:
        way, why = self.store.way(template)
        if action in {Action.ADD, Action.REPLACE}:
            reason = f"{reason}; {why}"
        return Step(
            store=self.store,
            template=template,
            file=file,
            action=action,
            way=way,
            reason=reason,
            staged=staged,
            there=self.listing.get(file),
            staged_there=self.listing.get(staged),
        )

    def _compare(self, file: str, template: Template) -> tuple[Action, str]:
        stored = self.listing.get(file)
        if stored is None:
            return Action.ADD, "not there yet"
        if stored.size != template.size:
            return Action.REPLACE, f"another file is there ({stored.size} bytes)"
        proven = self.state.knows(self.store.label, stored)
        if not proven:
            return Action.CHECK, "same size, content not proven"
        if proven != template.sha256:
            return Action.REPLACE, "another file is there (same size)"
        return Action.KEEP, "proven, unchanged since"

    def _is_fragment(self, file: str, template: Template) -> bool:
        """Tell whether *file* is what a cut upload leaves: shorter, and never promoted by us."""
        stored = self.listing[file]
        return stored.size < template.size and not self.state.knows(self.store.label, stored)
