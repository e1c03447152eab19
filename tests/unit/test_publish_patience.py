"""Trying again: how long, how often, and when not."""

import threading

import pytest

from hakim_actions.errors import PublishError
from hakim_actions.publish.patience import (
    LONGEST_WAIT,
    Patience,
    StoppedError,
    TransientError,
)


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def patience(clock: Clock, deadline: float = 1000.0) -> Patience:
    return Patience(deadline=deadline, clock=clock, jitter=lambda: 1.0, wait_for=clock.wait)


class Flaky:
    """Fails *times* and then returns the seconds it was given."""

    def __init__(self, times: int, **how: object) -> None:
        self.left, self.how = times, how

    def __call__(self, seconds: float) -> float:
        if self.left:
            self.left -= 1
            msg = "GitHub answered 502"
            raise TransientError(msg, **self.how)  # type: ignore[arg-type]
        return seconds


def test_what_works_is_done_once(clock: Clock) -> None:
    assert patience(clock).call("upload a", Flaky(0)) == 1000.0
    assert clock.waits == []


def test_waits_double_up_to_a_limit(clock: Clock) -> None:
    left = patience(clock).call("upload a", Flaky(9))
    assert clock.waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    assert left == 1000.0 - sum(clock.waits)


def test_what_the_server_asks_for_is_waited(clock: Clock) -> None:
    patience(clock).call("upload a", Flaky(2, wait=7.0))
    assert clock.waits == [7.0, 7.0]


def test_the_deadline_ends_it_with_the_last_reason(clock: Clock) -> None:
    with pytest.raises(PublishError) as caught:
        patience(clock, deadline=20).call("upload a", Flaky(1000))
    assert (
        "Unable to upload a: GitHub answered 502; gave up after 5 attempts" in caught.value.message
    )
    assert clock.now <= 1020


def test_a_wait_beyond_the_deadline_is_not_begun(clock: Clock) -> None:
    with pytest.raises(PublishError, match="The server asks to wait 3600 s"):
        patience(clock).call("upload a", Flaky(1, wait=3600.0))
    assert clock.waits == []


def test_a_limit_for_everybody_holds_other_calls_back(clock: Clock) -> None:
    shared = patience(clock)
    shared.call("upload a", Flaky(1, wait=30.0, everybody=True))
    clock.now -= 10
    shared.call("upload b", Flaky(0))
    assert clock.waits == [30.0, 10.0]


def test_a_wait_ends_when_the_run_is_stopped() -> None:
    shared = Patience(deadline=100.0)
    threading.Timer(0.05, shared.stop.set).start()
    with pytest.raises(StoppedError):
        shared.call("upload a", Flaky(1000, wait=60.0))
