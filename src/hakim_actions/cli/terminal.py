"""The progress of a build on a terminal: the phase under way, its time, and the last line."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text


class TerminalProgress:
    """A line that lives while a phase runs and stays, with its time, when it is done."""

    def __init__(self) -> None:
        """Write to stderr, so that stdout can be piped."""
        self._console = Console(stderr=True, highlight=False)
        self._title = ""
        self._start = 0.0
        self._last = ""

    @contextmanager
    def phase(self, title: str) -> Iterator[None]:
        """Show *title* with a running clock until the block ends."""
        self._title, self._start, self._last = title, time.monotonic(), ""
        mark = "[red]✗[/]"
        with Live(
            get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True
        ):
            try:
                yield
                mark = "[green]✓[/]"
            finally:
                seconds = time.monotonic() - self._start
                self._console.print(f"{mark} {escape(title)} [dim]{seconds:.1f} s[/]")

    def line(self, text: str) -> None:
        """Show *text* behind the phase until the next line comes."""
        self._last = text.strip()

    def note(self, text: str) -> None:
        """Print *text* above the phase under way."""
        self._console.print(escape(text))

    def _render(self) -> Spinner:
        seconds = int(time.monotonic() - self._start)
        head = f"{self._title}  {seconds // 60}:{seconds % 60:02d}  "
        room = max(self._console.width - len(head) - 4, 0)
        text = Text.assemble(head, (self._last[:room], "dim"))
        return Spinner("dots", text=text)
