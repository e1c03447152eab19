"""How long to go on trying: capped exponential waits, what the server asks for, one deadline."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hakim_actions.errors import PublishError

_T = TypeVar("_T")

#: Seconds: the first wait, and the longest one that nobody asked for.
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0


class TransientError(Exception):
    """An attempt failed in a way that may pass.

    *wait* is what the server asked for, in seconds; with *everybody*, it asked all of us at once
    (a rate limit), so no other thread may go on either.
    """

    def __init__(self, reason: str, *, wait: float | None = None, everybody: bool = False) -> None:
        """Keep why it failed, in words for people."""
        super().__init__(reason)
        self.wait = wait
        self.everybody = everybody


class StoppedError(Exception):
    """Another transfer failed for good, so this one ends as well."""


@dataclass
class Patience:
    """Repeats what may fail. Shared by all threads of a run; ``deadline`` is seconds a call."""

    deadline: float
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    stop: threading.Event = field(default_factory=threading.Event)
    wait_for: Callable[[float], object] | None = None
    _not_before: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, what: str, attempt: Callable[[float], _T]) -> _T:
        """Run *attempt*, which gets the seconds left, until it succeeds or the deadline comes.

        *what* completes "Unable to …". Raises PublishError with the last reason when time is up.
        """
        end = self.clock() + self.deadline
        tries = 0
        while True:
            self._pause(self._not_before - self.clock())
            tries += 1
            try:
                return attempt(max(end - self.clock(), 0.001))
            except TransientError as error:
                wait = self._next_wait(error, tries)
                if self.clock() + wait >= end:
                    raise self._given_up(what, error, tries, wait) from None
            self._pause(wait)

    def _next_wait(self, error: TransientError, tries: int) -> float:
        if error.wait is None:
            longest: float = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (tries - 1))
            return longest * (0.5 + self.jitter() / 2)
        if error.everybody:
            with self._lock:
                self._not_before = max(self._not_before, self.clock() + error.wait)
        return error.wait

    def check(self) -> None:
        """Raise StoppedError when this run is over."""
        if self.stop.is_set():
            raise StoppedError

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            (self.wait_for or self.stop.wait)(seconds)
        self.check()

    def _given_up(self, what: str, error: TransientError, tries: int, wait: float) -> PublishError:
        tried = "1 attempt" if tries == 1 else f"{tries} attempts"
        asked = f" The server asks to wait {wait:.0f} s." if error.wait is not None else ""
        return PublishError(
            f"Unable to {what}: {error}; gave up after {tried}"
            f" (deadline {self.deadline:.0f} s).{asked}",
            hint="Nothing was published. Run the same command again: it goes on where it stopped.",
        )
