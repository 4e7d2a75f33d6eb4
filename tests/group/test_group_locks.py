"""Locks as pure functions: who holds it, who is next, and what the token is."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.group import locks, operations
from chordtx.group.locks import WAITING_MAX, Lock, lock_of
from chordtx.group.operations import (
    ABSENT,
    CONFLICT,
    DONE,
    LOCK,
    RENEW,
    TOO_LARGE,
    UNLOCK,
    WRONG_TYPE,
    Moment,
    arguments_from_wire,
)
from chordtx.group.rank import COUNT_MAX, Ballot, Epoch, Rank
from chordtx.group.record import Record

NOW = 1_000_000
BYTES_MAX = 1 << 20


class Play:
    """One lock's record, and what becomes of it."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.now_ms = NOW
        self.count = 0

    def do(self, kind: int, *arguments: Any) -> tuple[int, Any]:
        self.count += 1
        if self.record is not None and self.record.expires_ms <= self.now_ms:
            self.record = None
        at = Moment(Rank(Epoch(0), Ballot(1, b"a"), self.count), self.now_ms, BYTES_MAX)
        self.record, result = operations.change(kind, self.record, at, arguments)
        return result

    @property
    def lock(self) -> Lock:
        assert self.record is not None
        found = lock_of(msgpack.unpackb(self.record.value))
        assert found is not None
        return found


def test_the_first_holds_it_and_the_others_wait_in_order() -> None:
    play = Play()
    assert play.do(LOCK, "a", 1000, True) == (DONE, NOW)
    play.now_ms += 400
    assert play.do(LOCK, "b", 1000, True) == (CONFLICT, 600)
    assert play.do(LOCK, "c", 2000, True) == (CONFLICT, 600)
    assert play.lock.waiting == [("b", 1000), ("c", 2000)]
    assert play.do(UNLOCK, "a") == (DONE, None)
    assert (play.lock.holder, play.lock.token) == ("b", NOW + 400)
    assert play.do(LOCK, "b", 1000, True) == (DONE, NOW + 400)
    assert play.do(UNLOCK, "b") == (DONE, None)
    assert (play.lock.holder, play.lock.token, play.lock.until_ms) == ("c", NOW + 401, NOW + 2400)


def test_asking_again_changes_nothing_but_the_end_of_the_lease() -> None:
    play = Play()
    play.do(LOCK, "a", 1000, True)
    play.do(LOCK, "b", 1000, True)
    before = play.record
    assert play.do(LOCK, "b", 1000, True) == (CONFLICT, 1000)
    assert play.do(LOCK, "c", 1000, False) == (CONFLICT, 1000)
    assert play.record is before
    play.now_ms += 10
    assert play.do(LOCK, "a", 1000, True) == (DONE, NOW)
    assert play.lock.until_ms == NOW + 1010
    assert play.do(RENEW, "a", 500) == (DONE, NOW)
    assert play.lock.until_ms == NOW + 1010, "a lease is not made shorter"


def test_a_lease_that_is_over_goes_to_who_waits() -> None:
    play = Play()
    play.do(LOCK, "a", 1000, True)
    play.do(LOCK, "b", 1000, True)
    play.now_ms += 1000
    assert play.do(LOCK, "c", 1000, False) == (CONFLICT, 1000)
    assert play.lock.holder == "b"
    assert play.do(RENEW, "a", 1000) == (ABSENT, None)
    assert play.do(UNLOCK, "a") == (ABSENT, None)
    assert play.do(RENEW, "b", 1000) == (DONE, NOW + 1000)


def test_a_lease_that_is_over_is_still_its_holders_while_nobody_asks() -> None:
    play = Play()
    play.do(LOCK, "a", 1000, True)
    play.now_ms += 5000
    assert play.do(RENEW, "a", 1000) == (DONE, NOW)
    play.now_ms += 5000
    assert play.do(LOCK, "a", 1000, True) == (DONE, NOW + 10_000), "another hold has another token"


def test_a_place_in_the_queue_is_given_up() -> None:
    play = Play()
    for owner in "abc":
        play.do(LOCK, owner, 1000, True)
    assert play.do(UNLOCK, "b") == (DONE, None)
    assert play.do(UNLOCK, "b") == (ABSENT, None)
    assert play.do(UNLOCK, "a") == (DONE, None)
    assert play.lock.holder == "c"


def test_a_lock_that_nobody_holds_is_forgotten_later_than_its_token() -> None:
    play = Play()
    token = play.do(LOCK, "a", 1000, True)[1]
    play.do(UNLOCK, "a")
    assert play.lock.holder is None
    assert play.record is not None
    play.now_ms = play.record.expires_ms
    assert play.now_ms > token
    assert play.do(LOCK, "b", 1000, True)[1] > token


def test_a_queue_has_an_end() -> None:
    play = Play()
    play.do(LOCK, "holder", 1000, True)
    for number in range(WAITING_MAX):
        assert play.do(LOCK, str(number), 1000, True) == (CONFLICT, 1000)
    assert play.do(LOCK, "one more", 1000, True) == (TOO_LARGE, None)
    assert play.do(LOCK, "0", 1000, True) == (CONFLICT, 1000)


@pytest.mark.parametrize(
    "value",
    [
        5,
        {},
        [],
        {"holder": 1, "token": 1, "until": 1, "waiting": []},
        {"holder": None, "token": -1, "until": 1, "waiting": []},
        {"holder": None, "token": True, "until": 1, "waiting": []},
        {"holder": None, "token": 1, "until": None, "waiting": []},
        {"holder": None, "token": 1, "until": 1, "waiting": [["a"]]},
        {"holder": None, "token": 1, "until": 1, "waiting": [["a", 0]]},
        {"holder": None, "token": 1, "until": 1, "waiting": {}},
        {"holder": None, "token": COUNT_MAX + 1, "until": 1, "waiting": []},
        {1: None, 2: 1, 3: 1, 4: []},
    ],
)
def test_what_is_no_lock_stays_as_it_is(value: Any) -> None:
    play = Play()
    play.record = Record(msgpack.packb(value), COUNT_MAX, Rank(Epoch(0), Ballot(1, b"a"), 0), NOW)
    before = play.record
    for kind, arguments in [(LOCK, ("a", 1000, True)), (RENEW, ("a", 1000)), (UNLOCK, ("a",))]:
        assert play.do(kind, *arguments) == (WRONG_TYPE, None)
    assert play.record is before


owners = st.sampled_from("abcd")
steps = st.lists(
    st.one_of(
        st.tuples(st.just(LOCK), owners, st.integers(1, 3000), st.booleans()),
        st.tuples(st.just(RENEW), owners, st.integers(1, 3000)),
        st.tuples(st.just(UNLOCK), owners),
        st.tuples(st.integers(0, 100_000)),
    ),
    max_size=40,
)


@given(steps)
def test_of_two_holds_the_later_has_the_greater_token(steps: list[Any]) -> None:
    play = Play()
    holder, token = None, 0
    for kind, *arguments in steps:
        if not arguments:
            play.now_ms += kind
            continue
        before = play.lock.waiting if play.record is not None else []
        result = play.do(kind, *arguments)
        if play.record is None:
            assert result == (ABSENT, None)
            continue
        lock = play.lock
        assert lock.token >= token
        if lock.holder != holder and lock.holder is not None:
            assert lock.token > token
        if kind == LOCK and result[0] == DONE:
            assert (lock.holder, lock.token) == (arguments[0], result[1])
        assert lock.holder is not None or not lock.waiting
        kept = [each for each in before if each in lock.waiting]
        assert lock.waiting[: len(kept)] == kept, "nobody overtakes"
        holder, token = lock.holder, lock.token


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (LOCK, ["", 1, True]),
        (LOCK, [b"a", 1, True]),
        (LOCK, ["a" * 129, 1, True]),
        (LOCK, ["\u00e4" * 65, 1, True]),
        (LOCK, ["a", 0, True]),
        (LOCK, ["a", True, True]),
        (LOCK, ["a", locks.LEASE_MS_MAX + 1, True]),
        (LOCK, ["a", 1, 1]),
        (LOCK, ["a", 1]),
        (RENEW, ["a", 1.5]),
        (UNLOCK, [None]),
    ],
)
def test_wrong_arguments_are_refused(kind: int, arguments: list[Any]) -> None:
    with pytest.raises(Exception, match=r"lock|lease|true or false|takes"):
        arguments_from_wire(kind, arguments, BYTES_MAX)
