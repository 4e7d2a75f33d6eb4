"""A loop ends with its service, and by nothing that a round may do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, globalLogPublisher

from chordtx.errors import ChordError
from chordtx.mesh.tasks import Tasks
from chordtx.mesh.turns import Turns

EXPECTED = (ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError, OSError, ChordError)


class Keepalive:
    """A round that does what it is told: what it is to raise, or to wait for."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tasks = Tasks(Logger(), self.clock)
        self.begun_at: list[float] = []
        self.raises: list[Exception] = []
        self.waits: Deferred[Any] | None = None

    async def __call__(self) -> None:
        self.begun_at.append(self.clock.seconds())
        if self.waits is not None:
            await self.waits
        if self.raises:
            raise self.raises.pop(0)

    def keep(self, pause_seconds: float = 1.0, first_after_seconds: float = 0.0) -> Any:
        return self.tasks.keep("going round", self, lambda: pause_seconds, first_after_seconds)

    def run(self, seconds: float) -> None:
        self.clock.pump([0.125] * int(seconds * 8))


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_networks_do_ends_no_loop(kind: type[Exception]) -> None:
    rounds = Keepalive()
    rounds.raises = [kind()]
    loop = rounds.keep()
    rounds.run(10)
    assert len(rounds.begun_at) == 11
    assert rounds.tasks.loops == [loop]
    rounds.tasks.cancel()
    assert not rounds.clock.getDelayedCalls()


def test_a_bug_ends_no_loop_and_is_told_once_in_a_while(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    rounds = Keepalive()
    rounds.raises = [AttributeError("a bug") for _ in range(100)]
    rounds.keep()
    rounds.run(290)
    assert len(flush_logged_errors(AttributeError)) == 1
    rounds.run(20)
    assert len(flush_logged_errors(AttributeError)) == 1
    rounds.raises = [KeyError("another")]
    rounds.run(20)
    assert len(flush_logged_errors(KeyError)) == 1
    rounds.tasks.cancel()


def test_expected_errors_are_told_once_in_a_while_without_traceback() -> None:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    rounds = Keepalive()
    rounds.raises = [ConnectionDone(), ConnectionLost()] * 10
    rounds.keep()
    rounds.run(200)
    globalLogPublisher.removeObserver(events.append)
    told = [event for event in events if event.get("name") == "going round"]
    assert len(told) == 2
    rounds.tasks.cancel()


def test_failures_make_the_pauses_longer_and_success_makes_them_short_again() -> None:
    rounds = Keepalive()
    rounds.raises = [OSError() for _ in range(8)]
    rounds.keep()
    rounds.run(100)
    begun = rounds.begun_at
    pauses = [after - before for before, after in pairwise(begun)]
    assert pauses[:8] == [1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert set(pauses[8:]) == {1.0}
    rounds.tasks.cancel()


def test_a_pause_that_is_longer_than_the_back_off_stays() -> None:
    rounds = Keepalive()
    rounds.raises = [OSError()]
    rounds.keep(pause_seconds=20.0)
    rounds.run(25)
    assert rounds.begun_at == [0.0, 20.0]
    rounds.tasks.cancel()


def test_a_cancellation_by_somebody_else_ends_no_loop() -> None:
    rounds = Keepalive()
    rounds.waits = Deferred()
    rounds.keep()
    rounds.waits.cancel()
    rounds.waits = None
    rounds.run(3)
    assert len(rounds.begun_at) > 2
    rounds.tasks.cancel()


def test_the_end_of_the_service_ends_loops_wherever_they_are() -> None:
    waiting, pausing, later = Keepalive(), Keepalive(), Keepalive()
    waiting.waits = under_way = Deferred()
    for rounds in (waiting, pausing):
        rounds.keep()
    later.keep(first_after_seconds=5.0)
    for rounds in (waiting, pausing, later):
        rounds.tasks.cancel()
        assert not rounds.tasks.loops
        assert not rounds.tasks.count
        assert not rounds.clock.getDelayedCalls()
    under_way.addErrback(lambda failure: failure.trap(CancelledError))
    assert len(later.begun_at) == 0


def test_the_end_from_within_a_round_is_the_end() -> None:
    rounds = Keepalive()
    ended: list[int] = []

    async def end() -> None:
        rounds.tasks.cancel()
        ended.append(1)

    rounds.tasks.keep("ending", end, lambda: 1.0, 1.0)
    rounds.run(5)
    assert ended == [1]
    assert not rounds.tasks.count
    assert not rounds.clock.getDelayedCalls()


def test_a_round_that_is_done_is_the_last() -> None:
    rounds, done = Keepalive(), [None, None, True, None]
    loop = rounds.tasks.keep("until done", lambda: done.pop(0), lambda: 1.0)
    rounds.run(10)
    assert done == [None]
    assert loop.is_over
    assert not rounds.tasks.loops
    assert not rounds.clock.getDelayedCalls()


def test_a_loop_that_is_stopped_finishes_its_round_and_one_that_is_cancelled_does_not() -> None:
    ends: list[str] = []
    for how in ("stop", "cancel"):
        rounds = Keepalive()
        under_way: Deferred[None] = Deferred()

        async def one(under_way: Deferred[None] = under_way, how: str = how) -> None:
            await under_way
            ends.append(how)

        loop = rounds.tasks.keep("one", one, lambda: 1.0)
        getattr(loop, how)()
        if not under_way.called:
            under_way.callback(None)
        assert not rounds.tasks.count
        assert not rounds.clock.getDelayedCalls()
    assert ends == ["stop"]


def test_waking_brings_the_next_round_forward_and_never_back() -> None:
    rounds = Keepalive()
    loop = rounds.keep(pause_seconds=4.0)
    loop.wake(1.0)
    loop.wake(9.0)
    rounds.run(6)
    assert rounds.begun_at == [0.0, 1.0, 5.0]
    rounds.waits = under_way = Deferred()
    rounds.run(3)  # the next round is under way
    loop.wake(0.5)
    rounds.waits = None
    under_way.callback(None)
    rounds.run(2)
    assert rounds.begun_at[:5] == [0.0, 1.0, 5.0, 9.0, 9.5]
    rounds.tasks.cancel()


def test_a_bug_in_one_worker_keeps_no_other_from_its_turns() -> None:
    clock, worked = Clock(), []
    turns = Turns(clock, budget_seconds=0.005)

    class Once:
        def __init__(self, name: str) -> None:
            self._name = name

        def work(self) -> bool:
            worked.append(self._name)
            if self._name == "broken":
                raise AttributeError("a bug")
            return False

    for name in ("one", "broken", "two", "three"):
        turns.wait(Once(name))
    with pytest.raises(AttributeError):
        clock.advance(0)
    clock.advance(0)
    assert worked == ["one", "broken", "two", "three"]
    assert not clock.getDelayedCalls()
