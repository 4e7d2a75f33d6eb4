"""Clients of a :class:`~chordtx.sim.group_world.GroupWorld`: what they ask, what they are told, what they may
conclude.

Each client does one operation at a time, under ids of its own, sends it again as often as it is told to, to
whom it is told to, and may give it up. What came of it all is checked key by key for linearizability.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgpack
from attrs import define

from chordtx.group import operations
from chordtx.group.messages import BUSY, FULL, NOT_LEADER, TOO_OLD, UNKNOWN, Answer, Operation
from chordtx.group.operations import ABSENT, CONFLICT, DONE
from chordtx.group.rank import NO_RANK, Rank
from chordtx.sim.group_history import Call, explains
from chordtx.sim.group_watch import GroupWatch, Violation

_OF_NO_KEY = frozenset({operations.LIST, operations.WATCH})
#: After these the client goes on trying.
_TRY_AGAIN = frozenset({NOT_LEADER, UNKNOWN, BUSY, FULL})


@define
class _Mine:
    """One client.

    :ivar number: of its newest operation. :ivar answered: it has its answers up to this one.
    :ivar stamp: the greatest committed rank that it was told.
    """

    number: int = 0
    answered: int = 0
    stamp: Rank = NO_RANK


class Clients:
    """See the module.

    :ivar pending: each client's operation that is under way, with its partition.
    :ivar histories: how many there may be: of more than one, clients may be told what does not agree.
    """

    def __init__(self, watch: GroupWatch) -> None:
        self.watch = watch
        self.pending: dict[bytes, tuple[int, Operation]] = {}
        self.calls: dict[tuple[int, bytes], list[Call]] = defaultdict(list)
        self.told: dict[tuple[bytes, int], Answer] = {}
        self.count = 0
        self.histories = 1
        self._positions: dict[tuple[bytes, int], Rank] = {}
        self._mine: dict[tuple[bytes, int], _Mine] = defaultdict(_Mine)
        self._open: dict[bytes, Call] = {}
        self._changed: set[tuple[int, bytes]] = set()

    def call(
        self, client: bytes, kind: int, key: bytes, arguments: tuple[Any, ...], partition: int = 0
    ) -> Operation:
        """A client begins an operation; whoever calls sends it."""
        assert client not in self.pending
        mine = self._mine[client, partition]
        mine.number += 1
        operation = Operation(client, mine.number, mine.answered, mine.stamp, kind, key, arguments)
        self.pending[client] = (partition, operation)
        self.count += 1
        call = Call(
            (client, mine.number), kind, key, self._meant(partition, kind, arguments), self.watch.tick()
        )
        self._open[client] = call
        if kind not in _OF_NO_KEY:  # what is about many is judged by itself
            self.calls[partition, key].append(call)
        return operation

    def _meant(self, partition: int, kind: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with whose operation wrote a version in place of the version."""
        if kind == operations.COMPARE_AND_SET:
            version, value, expires = arguments
            return (None if version is None else self.watch.writer(partition, version), value, expires)
        if kind == operations.INCREMENT:
            return (msgpack.unpackb(arguments[0]),)
        return arguments

    def again(self, client: bytes) -> Operation | None:
        """A client sends its operation once more, under the same id."""
        pending = self.pending.get(client)
        return None if pending is None else pending[1]

    def give_up(self, client: bytes) -> None:
        """A client does not wait any more: whether the operation was done, or will be, it never knows."""
        pending = self.pending.pop(client, None)
        if pending is not None:
            partition, operation = pending
            self._open.pop(client)
            self._mine[client, partition].answered = operation.number

    def answered(self, who: object, partition: int, answer: Answer) -> None:
        """An answer has come; it may be to something older."""
        client = answer.client
        mine = self._mine[client, partition]
        mine.stamp = max(mine.stamp, answer.stamp)
        pending = self.pending.get(client)
        is_for_this = pending is not None and (pending[0], pending[1].number) == (partition, answer.number)
        if not is_for_this or answer.status in _TRY_AGAIN:
            return
        call = self._open.pop(client)
        del self.pending[client]
        mine.answered = answer.number
        self.watch.answers += 1
        if answer.status == TOO_OLD:
            return  # unknown, and never sent again
        if self.histories > 1:
            pass
        elif call.kind == operations.GET:
            self._must_have_been_so(partition, call, answer)
        elif call.kind == operations.LIST:
            self._must_have_been_listed(partition, call, answer)
        elif call.kind == operations.WATCH:
            self._must_have_been_told(partition, call, answer)
        elif not self.watch.is_known(partition, answer.rank):
            raise Violation(f"S5 {call} was answered, but is not committed: {answer}")
        if call.kind in _OF_NO_KEY:
            return
        call.result = self._result(partition, answer, call.kind)
        call.ended = self.watch.tick()
        self._changed.add((partition, call.key))

    def _must_have_been_so(self, partition: int, call: Call, answer: Answer) -> None:
        """S4."""
        detail: Any = answer.detail
        found = (None, NO_RANK) if answer.status == ABSENT else (detail[0], detail[2])
        self._must_be_since(partition, call, answer, call.key, found)

    def _must_have_been_listed(self, partition: int, call: Call, answer: Answer) -> None:
        """S4, of all keys: what is listed, and that others are not."""
        detail: Any = answer.detail
        listed = {key: (value, rank) for key, value, _, rank in detail[0]}
        for key in self.watch.keys(partition, answer.stamp.epoch.mark) | listed.keys():
            self._must_be_since(partition, call, answer, key, listed.get(key, (None, NO_RANK)))

    def position(self, client: bytes, partition: int) -> Rank | None:
        """From where a client goes on watching; None when it begins anew."""
        return self._positions.get((client, partition))

    def _must_have_been_told(self, partition: int, call: Call, answer: Answer) -> None:
        """A watcher is told of each key what became of it last since its position, and in order."""
        detail: Any = answer.detail
        position, is_reset, events, has_more = detail
        client = call.id[0]
        after = self._positions.get((client, partition))
        self._positions[client, partition] = position
        if not has_more and not self.watch.is_committed(partition, position):
            raise Violation(f"a watcher is to go on from {position}, which is not committed")
        if after is None or is_reset:
            return
        if not events:
            assert not has_more
            position = max(position, after)
        changes = self.watch.changes_between(partition, after, position)
        expected = sorted(
            (now.changed, key, now.value, any(before.value is None for before, _ in changes[key]))
            for key, ((*_, (_, now))) in changes.items()
        )
        told = sorted((rank, key, value, kind == operations.ADDED) for kind, key, value, rank in events)
        meant = [(*each[:3], each[3] and each[2] is not None) for each in expected]
        if told != meant or [event[3] for event in events] != sorted(event[3] for event in events):
            raise Violation(f"a watcher at {after} is told {detail}, and not {meant}")

    def _must_be_since(
        self, partition: int, call: Call, answer: Answer, key: bytes, found: tuple[bytes | None, Rank]
    ) -> None:
        since = self.watch.values_since(partition, answer.stamp.epoch.mark, key, call.began)
        if not any((each.value, each.rank) == found for each in since):
            raise Violation(f"S4 {call} answered {found} for {key!r}; committed since: {since}")

    def _result(self, partition: int, answer: Answer, kind: int) -> Any:
        writer = self.watch.writer
        detail: Any = answer.detail
        if kind == operations.GET and answer.status == DONE:
            return (detail[0], writer(partition, detail[2]))
        if answer.status == CONFLICT:
            return (CONFLICT, None if detail is None else writer(partition, detail))
        return (answer.status, detail)

    def must_be_linearizable(self) -> None:
        """All that was answered since it was last asked has an explanation."""
        for partition, key in self._changed if self.histories == 1 else ():
            calls = self.calls[partition, key]
            if not explains(calls):
                raise Violation("LIN " + " | ".join(map(str, calls)))
        self._changed.clear()
