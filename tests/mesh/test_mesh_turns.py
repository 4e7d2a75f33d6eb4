"""Who works when."""

from __future__ import annotations

from collections.abc import Callable

from chordtx.mesh.turns import Turns

BUDGET_SECONDS = 0.005


class Clock:
    """A reactor whose time only work moves, turn by turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[Callable[[], None]] = []

    def seconds(self) -> float:
        return self.now

    def callLater(self, seconds: float, work: Callable[[], None]) -> object:
        self._due.append(work)
        return work

    def turn(self) -> None:
        due, self._due = self._due, []
        for work in due:
            work()


class Busy:
    """Has so many pieces of work, each of which takes the same time."""

    def __init__(self, clock: Clock, seconds: float, pieces: int) -> None:
        self._clock = clock
        self.seconds = seconds
        self.pieces = pieces
        self.done_at: list[float] = []

    def work(self) -> bool:
        self._clock.now += self.seconds
        self.done_at.append(self._clock.seconds())
        self.pieces -= 1
        return self.pieces > 0


def run(clock: Clock, turns: int) -> None:
    """So many turns of the reactor."""
    for _ in range(turns):
        clock.turn()


def test_who_asks_for_little_is_served_before_many_who_ask_for_much() -> None:
    clock = Clock()
    turns = Turns(clock, BUDGET_SECONDS)
    dear = [Busy(clock, 0.011, 1000) for _ in range(100)]
    for each in dear:
        turns.wait(each)
    run(clock, 350)
    light = Busy(clock, 0.0001, 1)
    for _ in range(50):
        asked_at, light.pieces = clock.seconds(), 1
        turns.wait(light)
        run(clock, 2)
        assert light.pieces == 0
        assert light.done_at[-1] - asked_at < 0.025
    counts = [len(each.done_at) for each in dear]
    assert max(counts) - min(counts) <= 1


def test_time_is_shared_whatever_a_piece_takes() -> None:
    clock = Clock()
    turns = Turns(clock, BUDGET_SECONDS)
    workers = [Busy(clock, seconds, 100_000) for seconds in (0.010, 0.001, 0.0001)]
    for each in workers:
        turns.wait(each)
    run(clock, 1000)
    had = [each.seconds * len(each.done_at) for each in workers]
    assert max(had) - min(had) < 0.03


def test_nobody_waits_for_ever_while_others_come_and_come() -> None:
    clock = Clock()
    turns = Turns(clock, BUDGET_SECONDS)
    steady = Busy(clock, 0.004, 1000)
    turns.wait(steady)
    for _ in range(500):
        for _ in range(2):
            turns.wait(Busy(clock, 0.004, 1))
        run(clock, 1)
    assert len(steady.done_at) > 20


def test_who_is_forgotten_is_not_served_and_may_come_again() -> None:
    clock = Clock()
    turns = Turns(clock, BUDGET_SECONDS)
    gone, other = Busy(clock, 0.001, 3), Busy(clock, 0.001, 3)
    turns.wait(gone)
    turns.wait(other)
    turns.forget(gone)
    run(clock, 3)
    assert (len(gone.done_at), len(other.done_at)) == (0, 3)
    turns.wait(gone)
    turns.forget(gone)
    turns.wait(gone)
    run(clock, 3)
    assert len(gone.done_at) == 3
    turns.forget(gone)
    turns.forget(other)
    assert not turns._shares
    assert not turns._queue
