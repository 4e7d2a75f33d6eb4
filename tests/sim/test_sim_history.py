"""Histories that one register could have given, and such as none could."""

from __future__ import annotations

from itertools import permutations
from math import inf
from random import Random

import pytest

from chordtx.sim.history import Kind, Operation, before, by_key, invented, lost, unexplained


def get(value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("reader", Kind.GET, b"key", value, began_at, ended_at)


def put(value: object, began_at: float, ended_at: float = inf, clock: int = 0) -> Operation:
    return Operation("writer", Kind.SET, b"key", value, began_at, ended_at, clock)


def delete(did: bool | None, began_at: float, ended_at: float = inf, clock: int = 0) -> Operation:
    return Operation("writer", Kind.DELETE, b"key", did, began_at, ended_at, clock)


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [get(None, 0, 1)],
        [put(1, 0, 1), get(1, 2, 3)],
        [put(1, 0, 5), get(None, 1, 2), get(1, 3, 4)],
        [put(1, 0, 5), put(2, 0, 5), get(2, 6, 7), get(2, 8, 9)],
        [put(1, 0), get(1, 5, 6)],  # never answered, and seen later
        [put(1, 0), get(None, 5, 6), get(1, 7, 8)],
        [put(1, 0, 1), delete(True, 2, 3), get(None, 4, 5)],
        [delete(False, 0, 1), put(1, 2, 3)],
        [put(1, 0, 1), delete(None, 2), get(1, 3, 4), get(None, 5, 6)],
        [put(1, 0, 1), delete(True, 2, 6), delete(True, 2, 6), get(None, 7, 8)],
    ],
)
def test_explained(operations: list[Operation]) -> None:
    assert unexplained(operations) is None


@pytest.mark.parametrize(
    ("operations", "culprit"),
    [
        ([put(1, 0, 1), get(None, 2, 3)], 1),  # lost
        ([put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)], 2),  # stale
        ([put(1, 0, 9), get(1, 1, 2), get(None, 3, 4)], 2),  # back again
        ([get(7, 0, 1)], 0),  # from nowhere
        ([put(1, 0, 1), delete(True, 2, 3), get(1, 4, 5)], 2),  # a deleted key is back
        ([put(1, 0, 1), put(2, 0, 5), put(3, 0, 5), get(2, 6, 7), get(3, 8, 9)], 4),
        ([put(1, 0, 1), delete(False, 2, 3)], 1),
        ([delete(True, 0, 1)], 0),
    ],
)
def test_unexplained(operations: list[Operation], culprit: int) -> None:
    assert unexplained(operations) is operations[culprit]


def test_agrees_with_trying_all_orders() -> None:
    rng = Random(5)
    verdicts = set()
    for _ in range(400):
        operations = []
        for number in range(rng.randint(2, 5)):
            began_at = rng.randrange(10)
            ended_at = began_at + rng.randint(1, 6)
            make = put(number, began_at, ended_at) if rng.random() < 0.5 else get(None, began_at, ended_at)
            operations.append(make)
        written = [None, *(op.value for op in operations if op.kind is Kind.SET)]
        for operation in operations:
            if operation.kind is Kind.GET:
                operation.value = rng.choice(written)
        verdict = any(map(is_right, permutations(operations)))
        verdicts.add(verdict)
        assert (unexplained(operations) is None) == verdict, operations
    assert verdicts == {True, False}


def is_right(order: tuple[Operation, ...]) -> bool:
    value: object = None
    for place, operation in enumerate(order):
        if any(later.ended_at < operation.began_at for later in order[place + 1 :]):
            return False
        if operation.kind is Kind.SET:
            value = operation.value
        elif operation.value != value:
            return False
    return True


def test_the_newest_version_is_to_stand() -> None:
    operations = [put("old", 0, 1, clock=5), put("new", 0, 2, clock=9), put("unanswered", 3, clock=7)]
    assert lost(operations, "new") is None
    assert lost(operations, "old") is not None
    assert lost(operations, "unanswered") is not None
    assert lost([*operations, put("later", 5, clock=11)], "later") is None
    assert lost([*operations, delete(True, 5, 6, clock=12)], None) is None
    assert lost([*operations, delete(True, 5, 6, clock=12)], "new") is not None
    assert lost([], None) is None
    assert lost([], "from nowhere") is not None


def test_keys_are_judged_one_by_one() -> None:
    other = Operation("reader", Kind.GET, b"other", None, 0.5, 0.6)
    read, written = get(1, 3, 4), put(1, 0, 1)
    assert by_key([read, other, written]) == {b"key": [written, read], b"other": [other]}


def test_before_leaves_out_what_came_later() -> None:
    early, open_read = put(1, 0, 1), get(1, 0.5, 3)
    kept = before([early, open_read, put(2, 4, 5)], 2)
    assert kept[0] is early
    assert [(op.kind, op.value, op.is_answered) for op in kept[1:]] == [(Kind.GET, None, False)]


def test_a_value_that_nobody_wrote_is_found() -> None:
    wrong = get(2, 1, 2)
    assert invented([put(1, 0, 1), get(1, 1, 2), get(None, 1, 2), put(2, 3, 4), get(2, 3, 4)]) is None
    assert invented([put(1, 0, 1), wrong, put(2, 3, 4)]) is wrong
    assert invented([wrong]) is wrong
