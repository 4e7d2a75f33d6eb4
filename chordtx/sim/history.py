"""What clients asked for and were told, and whether one register after another could have told them that.

A history is checked per key: it is linearizable when each operation can be given an instant between its call
and its answer such that, in the order of these instants, each answer is right (Herlihy and Wing, 1990). The
search is the one of Wing and Gong (1993) as Lowe runs it ("Testing for linearizability", 2017): event by
event, with the set of all states that are possible so far. Pure.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import inf

from attrs import define, frozen

Value = object


class Kind(enum.Enum):
    """What was asked for."""

    GET = enum.auto()
    SET = enum.auto()
    DELETE = enum.auto()


@define(eq=False)
class Operation:
    """One call.

    :ivar value: written by SET; answered to GET (None: nothing is there); for DELETE, whether it deleted.
    :ivar ended_at: when it was answered; infinity when never, or with an error: then a write may have come
        to stand, or may yet.
    """

    client: str
    kind: Kind
    key: bytes
    value: Value
    began_at: float
    ended_at: float = inf

    @property
    def is_answered(self) -> bool:
        """Whether the client knows how it ended."""
        return self.ended_at < inf


@frozen
class _Step:
    """What an operation does at one instant.

    :ivar finds: the state that it is possible in; :data:`_ANYTHING` is all, :data:`_SOMETHING` all but None.
    :ivar leaves: what the state is afterwards; :data:`_ANYTHING` where it stays as it is.
    """

    number: int
    finds: Value
    leaves: Value
    began_at: float
    ended_at: float


class TooHard(Exception):
    """There are too many possibilities to look at."""


_STATES_MAX = 200_000
_ANYTHING, _SOMETHING = object(), object()


def by_key(operations: Iterable[Operation]) -> dict[bytes, list[Operation]]:
    """The operations of each key, in order of their calls."""
    keys: dict[bytes, list[Operation]] = defaultdict(list)
    for operation in operations:
        keys[operation.key].append(operation)
    return {key: sorted(each, key=lambda op: op.began_at) for key, each in keys.items()}


def unexplained(operations: Sequence[Operation]) -> Operation | None:
    """Look for one key's first answer that no order of the operations explains.

    :returns: None when the history is linearizable.
    :raises TooHard: when too much was going on at once to tell.
    """
    steps, owners = _steps(operations)
    events = sorted(
        [(step.began_at, 0, step.number) for step in steps]
        + [(step.ended_at, 1, step.number) for step in steps if step.ended_at < inf]
    )
    pending: dict[int, _Step] = {}
    states: set[tuple[Value, frozenset[int]]] = {(None, frozenset())}
    for _, is_end, number in events:
        if not is_end:
            pending[number] = steps[number]
            continue
        states = _with_done(states, pending, number)
        if not states:
            return owners[number]
        del pending[number]
    return None


def _with_done(
    states: set[tuple[Value, frozenset[int]]], pending: dict[int, _Step], number: int
) -> set[tuple[Value, frozenset[int]]]:
    """The states that are possible once ``number`` has happened; it is no longer counted among the done."""
    met = set(states)
    todo = list(states)
    found = set()
    while todo:
        value, done = todo.pop()
        if number in done:
            found.add((value, done - {number}))
            continue
        for each in pending.values():
            if each.number in done or not _is_possible(each, value):
                continue
            after = (value if each.leaves is _ANYTHING else each.leaves, done | {each.number})
            if after not in met:
                met.add(after)
                todo.append(after)
        if len(met) > _STATES_MAX:
            raise TooHard
    return found


def _is_possible(step: _Step, value: Value) -> bool:
    if step.finds is _ANYTHING:
        return True
    return value is not None if step.finds is _SOMETHING else value == step.finds


def _steps(operations: Sequence[Operation]) -> tuple[list[_Step], list[Operation]]:
    seen = [op.value for op in operations if op.kind is Kind.GET and op.is_answered]
    deletes = any(op.kind is Kind.DELETE for op in operations)
    steps: list[_Step] = []
    owners: list[Operation] = []

    def add(op: Operation, finds: Value, leaves: Value) -> None:
        steps.append(_Step(len(steps), finds, leaves, op.began_at, op.ended_at))
        owners.append(op)

    for op in operations:
        if op.kind is Kind.GET and op.is_answered:
            add(op, op.value, _ANYTHING)
        elif op.kind is Kind.SET and (op.is_answered or deletes or op.value in seen):
            add(op, _ANYTHING, op.value)  # of one that may have failed, and that nobody saw, nothing follows
        elif op.kind is Kind.DELETE and not op.is_answered:
            add(op, _ANYTHING, None)
        elif op.kind is Kind.DELETE:
            add(op, _SOMETHING if op.value else None, None)
    return steps, owners
