"""Adds up how long something takes that happens in several places."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds of wall-clock time, from zero; one for each thread that measures."""

    def __init__(self) -> None:
        """Start at zero, stopped."""
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - began
