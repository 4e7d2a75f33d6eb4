"""Histories that one register could have given, and such as none could; and a checker that tries everything,
with which this one agrees."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from chordtx.sim import history
from chordtx.sim.history import Kind, Operation, TooHard, by_key, unexplained
from tests.sim import orders


def get(value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("reader", Kind.GET, b"key", value, began_at, ended_at)


def put(value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("writer", Kind.SET, b"key", value, began_at, ended_at)


def delete(did: bool | None, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("writer", Kind.DELETE, b"key", did, began_at, ended_at)


def swap(expected: object, value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("writer", Kind.COMPARE_AND_SET, b"key", value, began_at, ended_at, expected)


def missed_swap(expected: object, value: object, began_at: float, ended_at: float) -> Operation:
    return evolve(swap(expected, value, began_at, ended_at), has_found_another=True)


def pop(value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("writer", Kind.POP, b"key", value, began_at, ended_at)


def count(value: object, began_at: float, ended_at: float = inf) -> Operation:
    return Operation("writer", Kind.INCREMENT, b"key", value, began_at, ended_at)


EXPLAINED = {
    "one value goes by another": [swap(None, 1, 0, 1), swap(1, 2, 2, 3), get(2, 4, 5)],
    "one of two goes by a value": [put(1, 0, 1), swap(1, 2, 2, 5), missed_swap(1, 3, 2, 5), get(2, 6, 7)],
    "one without an answer was first": [put(1, 0, 1), swap(1, 2, 2), missed_swap(1, 3, 3, 4), get(2, 6, 7)],
    "one without an answer came too late": [put(1, 0, 1), swap(1, 2, 2), swap(1, 3, 3, 4), get(3, 6, 7)],
    "a write that nobody saw was seen by who missed": [put(1, 0), missed_swap(None, 2, 1, 2)],
    "an item is popped": [put(1, 0, 1), pop(1, 2, 3), pop(None, 4, 5), get(None, 6, 7)],
    "an item without an answer is popped": [put(1, 0), pop(1, 2, 3)],
    "it is counted": [count(1, 0, 1), count(2, 2, 3), count(3, 2, 3), get(3, 4, 5)],
    "some are counted that have no answer": [
        *(count(None, 0) for _ in range(4)),
        count(3, 1, 2),
        get(5, 3, 4),
    ],
    "some are counted later": [
        *(count(None, 0) for _ in range(4)),
        count(3, 1, 2),
        get(3, 3, 4),
        get(5, 5, 6),
    ],
    "it is counted from the beginning again": [count(1, 0, 1), pop(1, 2, 3), count(1, 4, 5)],
    "nothing happened": [],
    "nothing was written": [get(None, 0, 1)],
    "a write is read": [put(1, 0, 1), get(1, 2, 3)],
    "a read during a write sees what was before it": [put(1, 0, 5), get(None, 1, 2), get(1, 3, 4)],
    "a read during a write sees it": [put(1, 0, 9), get(1, 1, 2), get(1, 3, 4)],
    "of two writes at once either is last": [put(1, 0, 5), put(2, 0, 5), get(1, 6, 7)],
    "and stays so": [put(1, 0, 5), put(2, 0, 5), get(2, 6, 7), get(2, 8, 9)],
    "both are seen one after the other": [put(1, 0, 9), put(2, 0, 9), get(2, 1, 2), get(1, 3, 4)],
    "what is called at the moment of an answer may come before it": [put(1, 0, 1), get(None, 1, 2)],
    "a write without an answer is seen later": [put(1, 0), get(1, 5, 6)],
    "a write without an answer is never seen": [put(1, 0, 1), put(2, 2), get(1, 3, 4), get(1, 50, 51)],
    "a write without an answer takes effect late": [put(1, 0), get(None, 5, 6), get(1, 7, 8)],
    "and after another one": [put(1, 0), put(2, 1, 2), get(2, 3, 4), get(1, 5, 6)],
    "a read without an answer says nothing": [put(1, 0, 1), get(None, 2), get(1, 3, 4)],
    "a key is deleted": [put(1, 0, 1), delete(True, 2, 3), get(None, 4, 5)],
    "a deletion finds nothing": [delete(False, 0, 1), put(1, 2, 3), get(1, 4, 5)],
    "a deletion without an answer takes effect late": [
        put(1, 0, 1),
        delete(None, 2),
        get(1, 3, 4),
        get(None, 5, 6),
    ],
    "a deletion without an answer does nothing": [put(1, 0, 1), delete(None, 2), get(1, 30, 31)],
    "of two deletions one finds it": [put(1, 0, 1), delete(True, 2, 6), delete(False, 2, 6)],
    "a write without an answer is deleted, unseen": [put(1, 0), delete(True, 2, 3), get(None, 4, 5)],
    "a write comes between two deletions": [
        put(1, 0, 1),
        put(2, 2, 9),
        delete(True, 3, 4),
        delete(True, 5, 6),
        get(None, 10, 11),
    ],
}

#: With the first answer that cannot be explained.
UNEXPLAINED = {
    "two go by one value": ([put(1, 0, 1), swap(1, 2, 2, 5), swap(1, 3, 2, 5)], 2),
    "two go by nothing": ([swap(None, 1, 0, 5), swap(None, 2, 0, 5)], 1),
    "nobody came between": ([put(1, 0, 1), missed_swap(1, 2, 2, 3)], 1),
    "who missed has written": ([put(1, 0, 1), missed_swap(9, 2, 2, 3), get(2, 4, 5)], 2),
    "an item is popped twice": ([put(1, 0, 1), pop(1, 2, 5), pop(1, 2, 5)], 2),
    "an item that was popped is there": ([put(1, 0, 1), pop(1, 2, 3), get(1, 4, 5)], 2),
    "one is not counted": ([count(1, 0, 1), count(1, 2, 3)], 1),
    "one is counted twice": ([count(1, 0, 1), count(3, 2, 3)], 1),
    "two are told the same": ([count(1, 0, 5), count(1, 0, 5)], 1),
    "one that is not called yet is counted": ([count(2, 0, 1), count(None, 2)], 0),
    "one without an answer is counted twice": ([count(None, 0), count(1, 1, 2), get(3, 3, 4)], 2),
    "a write is lost": ([put(1, 0, 1), get(None, 2, 3)], 1),
    "a read is stale": ([put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)], 2),
    "a read is stale though another one was not": (
        [put(1, 0, 1), put(2, 2, 9), get(2, 3, 4), get(1, 5, 6)],
        3,
    ),
    "a write is taken back": ([put(1, 0, 9), get(1, 1, 2), get(None, 3, 4)], 2),
    "a write without an answer is taken back": (
        [put(1, 0, 1), put(2, 2), get(2, 3, 4), get(1, 5, 6)],
        3,
    ),
    "a value that nobody wrote": ([get(7, 0, 1)], 0),
    "a value that is written later": ([get(1, 0, 1), put(1, 2, 3)], 0),
    "a write takes effect twice": (
        [put(1, 0, 9), put(2, 1, 2), get(1, 3, 4), put(3, 5, 6), get(1, 7, 8)],
        4,
    ),
    "a write without an answer takes effect twice": (
        [put(1, 0), get(1, 1, 2), put(2, 3, 4), get(1, 5, 6)],
        3,
    ),
    "a write that was answered takes effect again": (
        [put(1, 0, 1), put(2, 2, 3), get(2, 4, 5), get(1, 6, 7)],
        3,
    ),
    "two agree on no order": (
        [put(1, 0, 1), put(2, 0, 5), put(3, 0, 5), get(2, 6, 7), get(3, 8, 9)],
        4,
    ),
    "a deleted key is back": ([put(1, 0, 1), delete(True, 2, 3), get(1, 4, 5)], 2),
    "a deletion does not find what is there": ([put(1, 0, 1), delete(False, 2, 3)], 1),
    "a deletion finds what is not there": ([delete(True, 0, 1)], 0),
    "one value is deleted twice": ([put(1, 0, 1), delete(True, 2, 6), delete(True, 2, 6)], 2),
    "a value is deleted before it is written": ([delete(True, 0, 1), put(1, 2)], 0),
    "a deletion without an answer takes effect twice": (
        [put(1, 0, 1), delete(None, 2), get(None, 3, 4), put(2, 5, 6), get(None, 7, 8)],
        4,
    ),
    "a deletion is certain not to have happened": (
        [put(1, 0, 1), delete(False, 2, 9), get(1, 3, 4), get(1, 10, 11)],
        1,
    ),
}


@pytest.mark.parametrize("operations", EXPLAINED.values(), ids=EXPLAINED)
def test_explained(operations: list[Operation]) -> None:
    assert unexplained(operations) is None
    assert is_explained_by_any_order(operations)


@pytest.mark.parametrize(("operations", "culprit"), UNEXPLAINED.values(), ids=UNEXPLAINED)
def test_unexplained(operations: list[Operation], culprit: int) -> None:
    assert unexplained(operations) is operations[culprit]
    assert not is_explained_by_any_order(operations)


def is_explained_by_any_order(operations: Sequence[Operation]) -> bool:
    """The plain way: each choice of writes without an answer that happened, in each order."""
    certain = [op for op in operations if op.is_answered]
    open_ends = [op for op in operations if not op.is_answered and op.kind is not Kind.GET]
    return orders.is_explained_by_any_order(certain, open_ends, is_right)


def is_right(order: Sequence[Operation]) -> bool:
    value: object = None
    for place, operation in enumerate(order):
        if any(later.ended_at < operation.began_at for later in order[place + 1 :]):
            return False
        right, value = answer_and_after(operation, value)
        if operation.is_answered and right != (operation.has_found_another, operation.value):
            return False
    return True


def answer_and_after(operation: Operation, value: object) -> tuple[tuple[bool, object], object]:
    """What is right to answer, and what is there afterwards."""
    kind, written = operation.kind, operation.value
    number = (value if isinstance(value, int) else 0) + 1
    misses = kind is Kind.COMPARE_AND_SET and operation.expected != value
    return {
        Kind.GET: ((False, value), value),
        Kind.SET: ((False, written), written),
        Kind.DELETE: ((False, value is not None), None),
        Kind.POP: ((False, value), None),
        Kind.INCREMENT: ((False, number), number),
        Kind.COMPARE_AND_SET: ((misses, written), value if misses else written),
    }[kind]


def drawn_counter(rng: Random, count: int) -> list[Operation]:
    """As :func:`drawn`, of a number that grows, and is taken away now and then."""
    number, told = 0, []
    for moment in range(count):
        kind = rng.choice((Kind.GET, Kind.INCREMENT, Kind.INCREMENT, Kind.POP))
        began_at = moment - rng.choice((0.1, 0.4, 1.3, 2.6))
        is_answered = rng.random() < 0.7
        before = number
        if is_answered or rng.random() < 0.5:
            number = {Kind.GET: number, Kind.INCREMENT: number + 1, Kind.POP: 0}[kind]
        answer = number if kind is Kind.INCREMENT else before or None
        ended_at = moment + rng.choice((0.2, 0.5, 1.2, 2.7)) if is_answered else inf
        told.append(
            Operation(f"client {moment}", kind, b"key", answer if is_answered else None, began_at, ended_at)
        )
    rng.shuffle(told)
    return told


WRITES = (Kind.SET, Kind.COMPARE_AND_SET)


def drawn(rng: Random, count: int) -> list[Operation]:
    """What a register really told: each operation happens at a moment between call and answer, or has no
    answer, and then it happens at any later moment, or never."""
    value: object = None
    told = []
    for moment in range(count):
        kind = rng.choice((Kind.GET, Kind.SET, Kind.DELETE, Kind.POP, Kind.COMPARE_AND_SET))
        expected = rng.choice((value, value, None, 0)) if kind is Kind.COMPARE_AND_SET else None
        misses = kind is Kind.COMPARE_AND_SET and expected != value
        began_at = moment - rng.choice((0.1, 0.4, 1.3, 2.6))
        if rng.random() < 0.2:
            happens = rng.random() < 0.5
            answer: object = moment if kind in WRITES else None
            ended_at = inf
        else:
            happens = True
            answer = moment if kind in WRITES else (value is not None) if kind is Kind.DELETE else value
            ended_at = moment + rng.choice((0.2, 0.5, 1.2, 2.7))
        if happens and kind is not Kind.GET and not misses:
            value = moment if kind in WRITES else None
        is_told = misses and ended_at < inf
        told.append(
            Operation(f"client {moment}", kind, b"key", answer, began_at, ended_at, expected, is_told)
        )
    rng.shuffle(told)
    return told


def mutated(rng: Random, operations: list[Operation]) -> list[Operation]:
    """One answer is another one, or came at another time, or a write happened less or more often."""
    changed = list(operations)
    place = rng.randrange(len(changed))
    operation = changed[place]
    draw = rng.random()
    if draw < 0.2:
        del changed[place]
    elif draw < 0.4 and operation.is_answered:
        changed[place] = evolve(operation, ended_at=operation.began_at + 0.01)
    elif operation.kind is Kind.INCREMENT:
        changed[place] = evolve(operation, value=rng.randrange(1, 5))
    elif operation.kind is Kind.COMPARE_AND_SET and operation.is_answered:
        changed[place] = evolve(operation, has_found_another=not operation.has_found_another)
    elif operation.kind in (Kind.GET, Kind.POP):
        written = [op.value for op in operations if op.kind is Kind.SET]
        changed[place] = evolve(operation, value=rng.choice([None, -1, *written]))
    elif operation.kind is Kind.DELETE:
        changed[place] = evolve(operation, value=not operation.value)
    else:
        changed[place] = evolve(operation, kind=Kind.DELETE, value=rng.random() < 0.5)
    return changed


@given(st.randoms(use_true_random=False), st.integers(0, 25))
def test_what_a_register_told_is_explained(rng: Random, count: int) -> None:
    assert unexplained(drawn(rng, count)) is None


def test_agrees_with_trying_all_orders() -> None:
    rng = Random(5)
    verdicts = {True: 0, False: 0}
    for _ in range(2000):
        made = rng.choice((drawn, drawn, drawn_counter))
        operations = mutated(rng, made(rng, rng.randint(2, 6)))
        verdict = is_explained_by_any_order(operations)
        verdicts[verdict] += 1
        assert (unexplained(operations) is None) == verdict, operations
    assert min(verdicts.values()) > 300


def test_before_the_culprit_was_answered_all_could_be_explained() -> None:
    rng = Random(6)
    found = 0
    for _ in range(300):
        operations = mutated(rng, drawn(rng, rng.randint(3, 20)))
        culprit = unexplained(operations)
        if culprit is not None:
            found += 1
            assert unexplained([known_before(culprit.ended_at, op) for op in operations]) is None
    assert found > 50


def known_before(at: float, operation: Operation) -> Operation:
    """What was not answered by then had no answer."""
    if operation.ended_at < at or not operation.is_answered:
        return operation
    value = operation.value if operation.kind in WRITES else None
    return evolve(operation, value=value, ended_at=inf, has_found_another=False)


def test_keys_are_judged_one_by_one() -> None:
    other = Operation("reader", Kind.GET, b"other", None, 0.5, 0.6)
    read, written = get(1, 3, 4), put(1, 0, 1)
    assert by_key([read, other, written]) == {b"key": [written, read], b"other": [other]}


def test_what_is_too_hard_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_STATES_MAX", 1000)
    at_once = [put(number, 0, 9) for number in range(12)]
    assert unexplained([put(0, 0, 1), get(0, 2, 3)]) is None
    with pytest.raises(TooHard):
        unexplained([*at_once, get(-1, 10, 11)])
