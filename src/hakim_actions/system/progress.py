"""How long work says what it is doing, without knowing who listens."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, Self


class Progress(Protocol):
    """A listener: a terminal, the log of a workflow, or a plain log."""

    def phase(self, title: str) -> AbstractContextManager[None]:
        """Show that *title* is under way for as long as the block runs; phases never nest."""
        ...

    def line(self, text: str) -> None:
        """Show a line that a child program printed: untrusted, never a command."""
        ...

    def note(self, text: str) -> None:
        """Show something the user should read."""
        ...


class PhaseClock:
    """The phases of one job with their seconds: each ends where the next one starts.

    Use it as a context manager; leaving it ends the last phase, as failed when an error does.
    """

    def __init__(self, progress: Progress) -> None:
        """Report to *progress*."""
        self.progress = progress
        #: Seconds by name of every phase that ended well, in the order they ran.
        self.seconds: dict[str, float] = {}
        self._open = ExitStack()
        self._name = ""
        self._start = 0.0

    def __enter__(self) -> Self:
        """Start without a phase."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """End the phase under way; one that an error ended is not counted."""
        if kind is None:
            self.end()
        else:
            self._open.__exit__(kind, error, at)

    def start(self, name: str, title: str) -> None:
        """End the phase under way and start *name*, shown as *title*."""
        if name == self._name:
            return
        self.end()
        self._name, self._start = name, time.monotonic()
        self._open.enter_context(self.progress.phase(title))

    def end(self) -> None:
        """End the phase under way, if there is one; a phase that comes back adds up."""
        if self._name:
            self._open.close()
            spent = time.monotonic() - self._start
            self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + spent, 3)
            self._name = ""


class Silent:
    """A listener that shows nothing, for callers that only want the result."""

    def phase(self, title: str) -> AbstractContextManager[None]:
        """Run the block."""
        return _nothing()

    def line(self, text: str) -> None:
        """Drop *text*."""

    def note(self, text: str) -> None:
        """Drop *text*."""


@contextmanager
def _nothing() -> Iterator[None]:
    yield
