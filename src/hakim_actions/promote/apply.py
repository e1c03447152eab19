"""Carry a plan out: stores in parallel, one file at a time in each, every success on record.

A store is never left without a good template: what is in use is replaced only after the new one
was proven under a versioned name beside it.
"""

import enum
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakim_actions.errors import HakimError, PromotionError
from hakim_actions.promote import names
from hakim_actions.promote.api import ApiError, Cancelled
from hakim_actions.promote.base import Landed, Proof, Target, Way
from hakim_actions.promote.plan import Action, Plan, Step
from hakim_actions.promote.source import Source, Template
from hakim_actions.promote.state import Record, State, Stored, now


class Result(enum.StrEnum):
    """How a step ended."""

    KEPT = "kept"
    ADDED = "added"
    REPLACED = "replaced"
    FAILED = "failed"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A step and its end; *proof* is empty, *message* and *hint* are not, when it failed."""

    step: Step
    result: Result
    proof: str = ""
    message: str = ""
    hint: str = ""
    seconds: float = 0

    def row(self) -> dict[str, Any]:
        """Return the outcome for tables and JSON."""
        step = self.step
        return {
            "store": step.store.label,
            "file": step.file,
            "result": self.result.value,
            "proof": self.proof,
            "template": step.store.identifier(step.file),
            "sha256": step.template.sha256,
            "message": self.message,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Who hears how far it is: bytes of a file sent to a store, and every end."""

    on_bytes: Callable[[Step, int], None] = lambda _step, _count: None
    on_outcome: Callable[[Outcome], None] = lambda _outcome: None


def apply(
    plan: Plan,
    target: Target,
    *,
    state: State,
    obtain: Callable[[Template], Path],
    parallel: int = 4,
    listener: Listener | None = None,
) -> list[Outcome]:
    """Carry out *plan* and return how each step ended, in the plan's order.

    *obtain* gives the proven bytes of a template; all that must be sent are obtained before the
    first byte is, so that a wrong file stops everything while nothing has changed yet.
    """
    run = _Run(plan.source, state, _Once(obtain), listener or Listener())
    for step in plan.steps:
        if _must_send(step):
            run.obtain(step.template)
    by_store: dict[str, list[Step]] = {}
    for step in plan.steps:
        by_store.setdefault(step.store.label, []).append(step)
    outcomes = _in_parallel(run, list(by_store.values()), target, parallel=parallel)
    return [outcomes[id(step)] for step in plan.steps]


def _must_send(step: Step) -> bool:
    """Tell whether the bytes are certainly needed on this machine."""
    here_already = step.store.keeps_versions and step.staged_there is not None
    return (
        step.action in {Action.ADD, Action.REPLACE}
        and step.way is not Way.FETCH
        and not here_already
    )


def _in_parallel(
    run: "_Run", groups: Sequence[Sequence[Step]], target: Target, *, parallel: int
) -> Mapping[int, Outcome]:
    outcomes: dict[int, Outcome] = {}

    def work(steps: Sequence[Step]) -> None:
        for step in steps:
            outcomes[id(step)] = run.carry_out(step)

    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(work, steps) for steps in groups]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:  # Ctrl-C or SIGTERM: let no thread go on behind our back
            target.stop()
            pool.shutdown(cancel_futures=True)
            raise
        for future in futures:
            future.result()
    return outcomes


class _Once:
    """Obtains every template once, however many stores wait for it."""

    def __init__(self, obtain: Callable[[Template], Path]) -> None:
        self._obtain = obtain
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}

    def __call__(self, template: Template) -> Path:
        with self._lock:
            if template.sha256 not in self._found:
                self._found[template.sha256] = self._obtain(template)
            return self._found[template.sha256]


@dataclass
class _Run:
    """What all threads of one run share."""

    source: Source
    state: State
    obtain: _Once
    listener: Listener
    refused: threading.Event = field(default_factory=threading.Event)

    def carry_out(self, step: Step) -> Outcome:
        """Do *step*; an error becomes its outcome, so that the other steps go on."""
        start = time.monotonic()
        try:
            outcome = self._attempt(step)
        except Cancelled:
            raise
        except HakimError as error:
            if isinstance(error, ApiError) and error.status == 401:
                self.refused.set()
            outcome = Outcome(
                step=step, result=Result.FAILED, message=error.message, hint=error.hint
            )
        outcome = Outcome(**{**vars(outcome), "seconds": time.monotonic() - start})
        self.listener.on_outcome(outcome)
        return outcome

    def _attempt(self, step: Step) -> Outcome:
        if step.action is Action.KEEP:
            return Outcome(step=step, result=Result.KEPT, proof=Proof.SHA256.value)
        if self.refused.is_set():
            message = "The token is not accepted any more."
            return Outcome(step=step, result=Result.NOT_TRIED, message=message)
        if step.action is Action.CHECK:
            return self._check(step)
        if step.action is Action.ADD and not step.staged:
            landed = self._bring(step, step.file)
        else:
            landed = self._replace(step)
        self._record(step, landed)
        result = Result.REPLACED if step.there else Result.ADDED
        return Outcome(step=step, result=result, proof=landed.proof.value)

    def _check(self, step: Step) -> Outcome:
        there = step.there
        assert there is not None  # noqa: S101 - only a file that is there is checked
        good = step.store.prove(step.file, step.template)
        if good is False and not step.staged:
            msg = f"{step.file} is there with other content, and a version never changes."
            raise PromotionError(msg, hint="Publish under a new version.")
        if good is False:
            landed = self._replace(step)
            self._record(step, landed)
            return Outcome(step=step, result=Result.REPLACED, proof=landed.proof.value)
        proof = Proof.SHA256 if good else Proof.SIZE
        if good:
            self._record(step, Landed(stored=there, proof=proof))
        return Outcome(step=step, result=Result.KEPT, proof=proof.value)

    def _replace(self, step: Step) -> Landed:
        """Prove the new template under a versioned name, then give it the name in use."""
        staged = self._stage(step)
        return step.store.swap(
            step.template,
            step.file,
            staged=staged,
            obtain=self.obtain,
            on_bytes=lambda _template, count: self.listener.on_bytes(step, count),
        )

    def _stage(self, step: Step) -> str:
        template, store, staged, there = step.template, step.store, step.staged, step.staged_there
        if there is not None:
            if self._is(there, step):
                return staged
            # Whatever has that name, somebody may use it. The name of the content is ours alone.
            name = names.versioned(template.name, self.source.version)
            staged = names.distinct(name, template.sha256).archive
            again = store.listing().get(staged)
            if again is not None and self._is(again, step):
                return staged
        self._record(step, self._bring(step, staged))
        return staged

    def _is(self, stored: Stored, step: Step) -> bool:
        """Tell whether *stored* is the template of *step*, for sure."""
        if stored.size != step.template.size:
            return False
        known = self.state.knows(step.store.label, stored)
        if known:
            return known == step.template.sha256
        return bool(step.store.prove(stored.name, step.template))

    def _bring(self, step: Step, file: str) -> Landed:
        return step.store.bring(
            step.template,
            file,
            obtain=self.obtain,
            on_bytes=lambda _template, count: self.listener.on_bytes(step, count),
        )

    def _record(self, step: Step, landed: Landed) -> None:
        proven = landed.proof is Proof.SHA256
        record = Record(
            store=step.store.label,
            file=landed.stored.name,
            size=landed.stored.size,
            changed=landed.stored.changed,
            sha256=step.template.sha256 if proven else "",
            version=self.source.version,
            source=self.source.reference,
            at=now(),
        )
        self.state.add(record)
