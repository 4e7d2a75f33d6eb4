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

from attrs import define, evolve, frozen

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
    :ivar clock: of the version that a write was given, 0 while unknown.
    """

    client: str
    kind: Kind
    key: bytes
    value: Value
    began_at: float
    ended_at: float = inf
    clock: int = 0

    @property
    def is_answered(self) -> bool:
        """Whether the client knows how it ended."""
        return self.ended_at < inf


@frozen
class _Step:
    """A part of an operation that happens at one instant.

    :ivar is_write: whether it makes ``value`` the state. :ivar any_value: a read of anything but nothing.
    """

    number: int
    is_write: bool
    value: Value
    any_value: bool
    began_at: float
    ended_at: float


class TooHard(Exception):
    """There are too many possibilities to look at."""


_STATES_MAX = 200_000


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
            after = (each.value if each.is_write else value, done | {each.number})
            if after not in met:
                met.add(after)
                todo.append(after)
        if len(met) > _STATES_MAX:
            raise TooHard
    return found


def _is_possible(step: _Step, value: Value) -> bool:
    if step.is_write:
        return True
    return value is not None if step.any_value else value == step.value


def _steps(operations: Sequence[Operation]) -> tuple[list[_Step], list[Operation]]:
    seen = [op.value for op in operations if op.kind is Kind.GET and op.is_answered]
    deletes = any(op.kind is Kind.DELETE for op in operations)
    steps: list[_Step] = []
    owners: list[Operation] = []

    def add(op: Operation, is_write: bool, value: Value, any_value: bool = False) -> None:
        steps.append(_Step(len(steps), is_write, value, any_value, op.began_at, op.ended_at))
        owners.append(op)

    for op in operations:
        if op.kind is Kind.GET and op.is_answered:
            add(op, False, op.value)
        elif op.kind is Kind.SET and (op.is_answered or deletes or op.value in seen):
            add(op, True, op.value)  # of one that may have failed, and that nobody saw, nothing follows
        elif op.kind is Kind.DELETE and op.is_answered and not op.value:
            add(op, False, None)
        elif op.kind is Kind.DELETE:
            if op.is_answered:
                add(op, False, None, any_value=True)  # it looks first whether there is anything
            add(op, True, None)
    return steps, owners


def before(operations: Iterable[Operation], at: float) -> list[Operation]:
    """The operations as they stood at an instant: those that were begun, without the answers to come."""
    return [
        op if op.ended_at <= at else evolve(op, value=_asked(op), ended_at=inf)
        for op in operations
        if op.began_at < at
    ]


def _asked(op: Operation) -> Value:
    return op.value if op.kind is Kind.SET else None


def invented(operations: Sequence[Operation]) -> Operation | None:
    """Look for an answer to a read that nobody had begun to write by then: wrong even while the network is
    split. Nothing being there is always an answer."""
    begun = {op.value: op.began_at for op in operations if op.kind is Kind.SET}
    reads = [op for op in operations if op.kind is Kind.GET and op.is_answered and op.value is not None]
    return next((op for op in reads if begun.get(op.value, inf) > op.ended_at), None)


def lost(operations: Sequence[Operation], final: Value) -> str | None:
    """Whether the newest acknowledged write of one key is what stands at the end.

    The newest by its version: after a partition, that is all that can be promised. A write that was never
    answered may stand too, where it is newer still.

    :param final: what stands at the end; None is nothing.
    :returns: what is wrong, None when nothing is.
    """
    writes = [op for op in operations if op.clock and op.kind is not Kind.GET]
    acknowledged = [op for op in writes if op.is_answered and (op.kind is Kind.SET or op.value)]
    newest = max((op.clock for op in acknowledged), default=0)
    possible = [
        op.value if op.kind is Kind.SET else None
        for op in writes
        if op.clock == newest or (op.clock > newest and not op.is_answered)
    ]
    if not newest:
        possible.append(None)
    if final in possible:
        return None
    return f"{final!r} stands at the end, and not {' or '.join(map(repr, possible))}"
