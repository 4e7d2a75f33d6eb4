"""``service[key] = value`` in a loop: some at a time, in order, and each told once."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from chordtx.assignments import UNDER_WAY_BYTES_MAX, UNDER_WAY_MAX, Assignments
from tests.mesh.peers import outcomes


class Slow:
    """A dict far away, of which a test says when something is done."""

    def __init__(self) -> None:
        self.assignments = Assignments()
        self.under_way: list[tuple[bytes, object, Deferred[None]]] = []
        self.done: list[tuple[bytes, object]] = []

    def assign(self, key: bytes, value: object, size_bytes: int = 10) -> None:
        def begin() -> Deferred[None]:
            working: Deferred[None] = Deferred()
            self.under_way.append((key, value, working))
            return working

        self.assignments.add(key, size_bytes, begin)

    def finish(self, place: int = 0, error: Exception | None = None) -> None:
        key, value, working = self.under_way.pop(place)
        self.done.append((key, value))
        if error is None:
            working.callback(None)
        else:
            working.errback(error)

    def finish_all(self) -> None:
        while self.under_way:
            self.finish()

    def flush(self) -> list[Any]:
        """What comes of a flush, once something does."""
        flushed = self.assignments.flush()
        assert flushed is not None
        return outcomes(flushed)


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_so_many_are_under_way_and_the_others_follow_in_order(slow: Slow) -> None:
    count = 5 * UNDER_WAY_MAX
    for number in range(count):
        slow.assign(b"%d" % number, number)
        assert len(slow.under_way) <= UNDER_WAY_MAX
    assert len(slow.under_way) == slow.assignments.under_way == UNDER_WAY_MAX
    flushed = slow.flush()
    while slow.under_way:
        slow.finish()
        assert len(slow.under_way) <= UNDER_WAY_MAX
        assert flushed == [] or not slow.under_way
    assert [value for _, value in slow.done] == list(range(count))
    assert flushed == [None]


def test_so_many_bytes_are_under_way(slow: Slow) -> None:
    share = UNDER_WAY_BYTES_MAX // 4
    for number in range(20):
        slow.assign(b"%d" % number, number, share)
    assert len(slow.under_way) == 4
    slow.finish_all()
    assert len(slow.done) == 20
    slow.assign(b"huge", 1, 10 * UNDER_WAY_BYTES_MAX)  # alone, whatever its size
    slow.assign(b"small", 2)
    assert [key for key, _, _ in slow.under_way] == [b"huge"]
    slow.finish_all()
    assert slow.done[-2:] == [(b"huge", 1), (b"small", 2)]


def test_what_is_done_to_one_key_is_done_one_after_another(slow: Slow) -> None:
    for number in range(5):
        slow.assign(b"same", number)
        slow.assign(b"other %d" % number, number)
    assert [key for key, _, _ in slow.under_way].count(b"same") == 1
    rng = Random(1)
    while slow.under_way:
        slow.finish(rng.randrange(len(slow.under_way)))
        assert [key for key, _, _ in slow.under_way].count(b"same") <= 1
    assert [value for key, value in slow.done if key == b"same"] == list(range(5))
    slow.assign(b"same", 5)
    slow.finish()
    assert slow.done[-1] == (b"same", 5)


def test_what_waits_for_its_key_goes_before_what_came_later(slow: Slow) -> None:
    slow.assign(b"same", 1)
    slow.assign(b"same", 2)
    for number in range(2 * UNDER_WAY_MAX):
        slow.assign(b"%d" % number, number)
    slow.finish()
    assert slow.under_way[-1][:2] == (b"same", 2)
    slow.finish_all()


def test_the_first_failure_is_told_once_whenever_it_came(slow: Slow) -> None:
    for number in range(4):
        slow.assign(b"%d" % number, number)
    flushed = slow.flush()
    slow.finish(2, ValueError("later"))
    slow.finish(1, KeyError("first"))
    slow.assign(b"after the flush", 5)
    slow.finish()
    assert flushed == []
    slow.finish()
    assert isinstance(flushed[0], KeyError)
    assert slow.flush() == []
    slow.finish()
    assert slow.assignments.flush() is None


def test_a_failure_before_the_flush_is_told_by_it(slow: Slow) -> None:
    slow.assign(b"a", 1)
    slow.assign(b"a", 2)
    slow.finish(0, KeyError("a"))
    slow.finish()
    assert isinstance(slow.flush()[0], KeyError)
    assert slow.assignments.flush() is None


def test_to_cancel_a_flush_ends_only_the_waiting(slow: Slow) -> None:
    slow.assign(b"a", 1)
    flushed = slow.assignments.flush()
    assert flushed is not None
    flushed.addErrback(lambda _: None)
    flushed.cancel()
    slow.assign(b"a", 2)
    slow.finish_all()
    assert slow.done == [(b"a", 1), (b"a", 2)]
    assert slow.flush() == [None]


def test_what_ends_at_once_costs_no_stack(slow: Slow) -> None:
    slow.assign(b"first", 1, UNDER_WAY_BYTES_MAX)
    for number in range(20_000):  # all wait for the first
        end = fail(KeyError(number)) if number == 7 else None
        slow.assignments.add(b"%d" % (number % 7), 10, lambda end=end: end or succeed(None))  # type: ignore[misc]
    slow.finish()
    assert slow.assignments.under_way == 0
    (told,) = slow.flush()
    assert told.args == (7,)
