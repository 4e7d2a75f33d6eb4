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
    COMPARE_AND_SET = enum.auto()
    POP = enum.auto()
    INCREMENT = enum.auto()


@define(eq=False)
class Operation:
    """One call.

    :ivar value: written by SET and COMPARE_AND_SET; answered to GET and POP (None: nothing is there), and to
        INCREMENT; for DELETE, whether it deleted.
    :ivar expected: by COMPARE_AND_SET: the value whose version it went by, None for nothing. Each value is
        written once, so it stands for its version. :ivar has_found_another: it was told that it did not.
    :ivar ended_at: when it was answered; infinity when never, or with an error: then a write may have come
        to stand, or may yet.
    """

    client: str
    kind: Kind
    key: bytes
    value: Value
    began_at: float
    ended_at: float = inf
    expected: Value = None
    has_found_another: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether the client knows how it ended."""
        return self.ended_at < inf

    @property
    def may_have_stored(self) -> bool:
        """Whether there may have been a value by it."""
        is_write = self.kind in (Kind.SET, Kind.COMPARE_AND_SET, Kind.INCREMENT)
        return is_write and not self.has_found_another

    @property
    def may_have_deleted(self) -> bool:
        """Whether the key may have gone by it."""
        if self.kind is Kind.POP:
            return self.value is not None or not self.is_answered
        return self.kind is Kind.DELETE and self.value is not False


@frozen
class _Step:
    """What an operation does at one instant.

    :ivar finds: the state that it is possible in; :data:`_ANYTHING` is all.
    :ivar leaves: what the state is afterwards; :data:`_ANYTHING` where it stays as it is, :data:`_ONE_MORE`
        where it is a number that grows.
    :ivar is_in_others: whether ``finds`` is the only state that it is not possible in.
    """

    number: int
    finds: Value
    leaves: Value
    began_at: float
    ended_at: float
    is_in_others: bool = False


class TooHard(Exception):
    """There are too many possibilities to look at."""


_SEE_WHAT_IS_NOT = frozenset({Kind.DELETE, Kind.COMPARE_AND_SET, Kind.POP})
_STATES_MAX = 200_000
_ANYTHING, _ONE_MORE = object(), object()


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
        counts = False
        for each in pending.values():
            if each.number in done or not _is_possible(each, value):
                continue
            if each.leaves is _ONE_MORE:
                if counts:
                    continue  # of those that are alike the first is as good as any
                counts = True
            after = (_after(each, value), done | {each.number})
            if after not in met:
                met.add(after)
                todo.append(after)
        if len(met) > _STATES_MAX:
            raise TooHard
    return found


def _is_possible(step: _Step, value: Value) -> bool:
    if step.finds is _ANYTHING:
        return True
    return (value == step.finds) != step.is_in_others


def _after(step: _Step, value: Value) -> Value:
    if step.leaves is _ONE_MORE:
        assert value is None or isinstance(value, int)
        return (value or 0) + 1
    return value if step.leaves is _ANYTHING else step.leaves


def _steps(operations: Sequence[Operation]) -> tuple[list[_Step], list[Operation]]:
    seen = [op.value for op in operations if op.kind is Kind.GET and op.is_answered]
    # Of a write that may have failed, and that nobody saw, nothing follows: unless somebody saw what was not.
    all_count = any(op.kind in _SEE_WHAT_IS_NOT for op in operations)
    steps: list[_Step] = []
    owners: list[Operation] = []

    def add(op: Operation, finds: Value, leaves: Value, is_in_others: bool = False) -> None:
        steps.append(_Step(len(steps), finds, leaves, op.began_at, op.ended_at, is_in_others))
        owners.append(op)

    for op in operations:
        if op.kind is Kind.GET and op.is_answered:
            add(op, op.value, _ANYTHING)
        elif op.kind is Kind.SET and (op.is_answered or all_count or op.value in seen):
            add(op, _ANYTHING, op.value)
        elif op.kind is Kind.COMPARE_AND_SET:
            others = op.has_found_another
            add(op, op.expected, _ANYTHING if others else op.value, is_in_others=others)
        elif op.kind is Kind.INCREMENT and op.is_answered:
            assert isinstance(op.value, int)
            add(op, op.value - 1 or None, op.value)
        elif op.kind is Kind.INCREMENT:
            add(op, _ANYTHING, _ONE_MORE)
        elif op.kind is Kind.POP and op.is_answered:
            add(op, op.value, None)
        elif op.kind in (Kind.DELETE, Kind.POP) and not op.is_answered:
            add(op, _ANYTHING, None)
        elif op.kind is Kind.DELETE:
            add(op, None, None, is_in_others=bool(op.value))
    return steps, owners
