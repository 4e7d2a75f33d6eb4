"""Histories of groups, exact operations included: what takes, adds and compares is explained as a register
would have it, and by nothing else; and a checker that tries everything agrees."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Any

import msgpack
import pytest

from chordtx.group.operations import (
    ABSENT,
    COMPARE_AND_SET,
    CONFLICT,
    DELETE,
    DONE,
    GET,
    INCREMENT,
    SET,
    TAKE,
    TOUCH,
)
from chordtx.sim.group_history import Call, explains
from tests.sim import orders

KINDS = (GET, SET, DELETE, COMPARE_AND_SET, INCREMENT, TAKE)
DID, NOTHING_THERE = (DONE, None), (ABSENT, None)


def packed(value: int) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def id_of(number: int) -> tuple[bytes, int]:
    return b"c", number


def call(number: int, kind: int, *arguments: Any, at: tuple[int, int | None], told: Any = None) -> Call:
    began, ended = at
    return Call(id_of(number), kind, b"key", arguments, began, ended, told)


SET_5 = call(1, SET, packed(5), None, at=(1, 2), told=DID)
SET_5_FOR_A_WHILE = call(1, SET, packed(5), 60, at=(1, 2), told=DID)
TAKEN = (DONE, packed(5))

EXPLAINED = {
    "what is there is taken": [
        SET_5,
        call(2, TAKE, at=(3, 4), told=TAKEN),
        call(3, GET, at=(5, 6), told=(ABSENT, None)),
    ],
    "nothing is taken where nothing is": [call(2, TAKE, at=(3, 4), told=NOTHING_THERE)],
    "of two who take, one gets it": [
        SET_5,
        call(2, TAKE, at=(3, 9), told=TAKEN),
        call(3, TAKE, at=(3, 8), told=NOTHING_THERE),
    ],
    "a deletion without an answer comes first": [
        SET_5,
        call(2, DELETE, at=(3, None)),
        call(3, TAKE, at=(5, 6), told=NOTHING_THERE),
    ],
    "an addition without an answer counts": [
        SET_5,
        call(2, INCREMENT, 2, at=(3, None)),
        call(3, INCREMENT, 1, at=(5, 6), told=(DONE, 8)),
    ],
    "or does not": [
        SET_5,
        call(2, INCREMENT, 2, at=(3, None)),
        call(3, INCREMENT, 1, at=(5, 6), told=(DONE, 6)),
    ],
    "one of two who compare is first": [
        SET_5,
        call(2, COMPARE_AND_SET, id_of(1), packed(6), None, at=(3, 9), told=DID),
        call(3, COMPARE_AND_SET, id_of(1), packed(7), None, at=(3, 8), told=(CONFLICT, id_of(2))),
    ],
    "what may expire is gone": [SET_5_FOR_A_WHILE, call(2, TAKE, at=(3, 4), told=NOTHING_THERE)],
    "what is touched may expire": [
        SET_5,
        call(2, TOUCH, 60, at=(3, 4), told=DID),
        call(3, GET, at=(5, 6), told=NOTHING_THERE),
    ],
}

UNEXPLAINED = {
    "one value is taken twice": [
        SET_5,
        call(2, TAKE, at=(3, 9), told=TAKEN),
        call(3, TAKE, at=(3, 8), told=TAKEN),
    ],
    "what was taken is still there": [
        SET_5,
        call(2, TAKE, at=(3, 4), told=TAKEN),
        call(3, GET, at=(5, 6), told=(packed(5), id_of(1))),
    ],
    "what was deleted is taken": [
        SET_5,
        call(2, DELETE, at=(3, 4), told=DID),
        call(3, TAKE, at=(5, 6), told=TAKEN),
    ],
    "an addition without an answer counts twice": [
        SET_5,
        call(2, INCREMENT, 2, at=(3, None)),
        call(3, INCREMENT, 1, at=(5, 6), told=(DONE, 10)),
    ],
    "an addition counts for some only": [
        SET_5,
        call(2, INCREMENT, 2, at=(3, None)),
        call(3, INCREMENT, 1, at=(5, 6), told=(DONE, 8)),
        call(4, INCREMENT, 1, at=(7, 8), told=(DONE, 7)),
    ],
    "two who compare both win": [
        SET_5,
        call(2, COMPARE_AND_SET, id_of(1), packed(6), None, at=(3, 9), told=DID),
        call(3, COMPARE_AND_SET, id_of(1), packed(7), None, at=(3, 8), told=DID),
    ],
    "what does not expire is gone": [SET_5, call(2, TAKE, at=(3, 4), told=NOTHING_THERE)],
    "what expired is back": [
        SET_5_FOR_A_WHILE,
        call(2, GET, at=(3, 4), told=NOTHING_THERE),
        call(3, GET, at=(5, 6), told=(packed(5), id_of(1))),
    ],
    "who touches nothing is told that it was there": [call(2, TOUCH, None, at=(3, 4), told=DID)],
}


@pytest.mark.parametrize("calls", EXPLAINED.values(), ids=EXPLAINED)
def test_explained(calls: list[Call]) -> None:
    assert explains(calls)


@pytest.mark.parametrize("calls", UNEXPLAINED.values(), ids=UNEXPLAINED)
def test_unexplained(calls: list[Call]) -> None:
    assert not explains(calls)


class Counter:
    """One number that is there or not, and who wrote it: nothing expires."""

    def __init__(self) -> None:
        self.value: int | None = None
        self.writer: Any = None

    def done(self, call: Call) -> Any:
        """Carry an operation out. :returns: its answer."""
        before, writer = self.value, self.writer
        kind, arguments = call.kind, call.arguments
        if kind == GET:
            return NOTHING_THERE if before is None else (packed(before), writer)
        if kind == COMPARE_AND_SET and writer != arguments[0]:
            return CONFLICT, writer
        if kind in (DELETE, TAKE):
            self.value = self.writer = None
            if before is None:
                return NOTHING_THERE
            return DONE, packed(before) if kind == TAKE else None
        if kind == INCREMENT:
            self.value = (before or 0) + arguments[0]
        else:
            self.value = msgpack.unpackb(arguments[-2])
        self.writer = call.id
        return DONE, self.value if kind == INCREMENT else None


def drawn(rng: Random, count: int) -> list[Call]:
    """What a register really told; some have no answer, and of these some never happen."""
    register, calls = Counter(), []
    for number in range(count):
        kind = rng.choice(KINDS)
        arguments: tuple[Any, ...] = ()
        if kind == SET:
            arguments = (packed(100 * number), None)
        elif kind == COMPARE_AND_SET:
            arguments = (rng.choice((register.writer, None)), packed(100 * number), None)
        elif kind == INCREMENT:
            arguments = (rng.randint(1, 3),)
        moment = 1000 * number
        began = moment - rng.choice((100, 1300, 2600)) - number
        each = Call(id_of(number), kind, b"key", arguments, began)
        if rng.random() < 0.8:
            each.result = register.done(each)
            each.ended = moment + rng.choice((200, 1200, 2700)) + number
        elif rng.random() < 0.5:
            register.done(each)
        calls.append(each)
    rng.shuffle(calls)
    return calls


def mutated(rng: Random, calls: list[Call]) -> list[Call]:
    """One was told what another one was told, or was not there."""
    changed = rng.choice(calls)
    others = [each.result for each in calls if each.kind == changed.kind and each.result != changed.result]
    if changed.ended is None or rng.random() < 0.3:
        return [each for each in calls if each is not changed]
    told = rng.choice([*others, NOTHING_THERE, (DONE, 1), DID])
    wrong = Call(changed.id, changed.kind, b"key", changed.arguments, changed.began, changed.ended, told)
    return [wrong if each is changed else each for each in calls]


def is_explained_by_any_order(calls: Sequence[Call]) -> bool:
    certain = [each for each in calls if each.ended is not None]
    open_ends = [each for each in calls if each.ended is None and each.kind != GET]
    return orders.is_explained_by_any_order(certain, open_ends, is_right)


def is_right(order: Sequence[Call]) -> bool:
    register = Counter()
    for place, each in enumerate(order):
        if any((inf if later.ended is None else later.ended) <= each.began for later in order[place + 1 :]):
            return False
        told = register.done(each)
        if each.ended is not None and told != each.result:
            return False
    return True


def test_what_a_register_told_is_explained() -> None:
    rng = Random(3)
    for _ in range(200):
        assert explains(drawn(rng, rng.randint(0, 12)))


def test_agrees_with_trying_all_orders() -> None:
    rng = Random(4)
    verdicts = {True: 0, False: 0}
    for _ in range(1000):
        calls = mutated(rng, drawn(rng, rng.randint(2, 6)))
        verdict = is_explained_by_any_order(calls)
        verdicts[verdict] += 1
        assert explains(calls) == verdict, list(map(str, calls))
    assert min(verdicts.values()) > 200
