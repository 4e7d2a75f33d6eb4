"""What a search of groups remembers beside their state: what was seen, and what clients were told.

What one event does to one node depends on that node alone. So it is found out once, and kept as a list of
things to be told to whoever watches; a :class:`Ghost` is a watch and the clients on one way through the
states, and goes on, on another way, as a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from chordtx.group.group import Group
from chordtx.group.messages import Answer, Operation
from chordtx.group.rank import NodeId
from chordtx.group.replica import Stored
from chordtx.sim.group_clients import Clients
from chordtx.sim.group_copies import copied
from chordtx.sim.group_watch import GroupWatch

Effect = Callable[["Ghost"], None]


class Recorder(GroupWatch):
    """In place of a watch: keeps what there is to be told.

    :ivar effects: in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.effects: list[Effect] = []
        self._last: dict[int, Hashable] = {}
        self._on_disk: dict[int, Hashable] = {}

    def begin(self, groups: dict[int, Group], stored: dict[int, Stored]) -> None:
        """An event begins at a node, of which this has been seen already."""
        self.effects = []
        self._last = {partition: _seen_of(group) for partition, group in groups.items()}
        self._on_disk = {partition: _written(each) for partition, each in stored.items()}

    def observe(self, partition: int, id: NodeId, group: Group) -> None:
        """Only what is new is kept, as it is now."""
        seen = _seen_of(group)
        if self._last.get(partition) != seen:
            self._last[partition] = seen
            now = copied(group)
            self.effects.append(lambda ghost: ghost.watch.observe(partition, id, now))

    def synced(self, partition: int, id: NodeId, stored: Stored) -> None:
        """A node's disk has this."""
        if self._on_disk.get(partition) != _written(stored):
            self._on_disk[partition] = _written(stored)
            self.effects.append(lambda ghost: ghost.watch.synced(partition, id, stored))

    def down(self, partition: int, id: NodeId) -> None:
        """A node crashed."""
        self._last.pop(partition, None)
        self.effects.append(lambda ghost: ghost.watch.down(partition, id))


def _seen_of(group: Group) -> Hashable:
    """All that a watch looks at."""
    leader, replica = group.leader, group.replica
    lead = leader and (leader.rank, leader.first, leader.base, leader.commit, leader.stage)
    return replica.rank, replica.epoch, replica.left, lead, leader and len(leader.log.batches)


def _written(stored: Stored) -> Hashable:
    return stored.rank, None if stored.header is None else stored.header.configuration


class RecordingClients(Clients):
    """In place of clients: keeps what they are to be told."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._recorder = recorder

    def answered(self, who: object, partition: int, answer: Answer) -> None:
        """An answer has come."""
        self._recorder.effects.append(lambda ghost: ghost.clients.answered(who, partition, answer))


class Ghost:
    """See the module. It is not changed any more once others have it.

    :ivar key: what clients know, and what of it may matter to what they do next.
    :ivar after: what came of it, by what happened. :ivar has_called: (partition, client).
    """

    __slots__ = ("after", "clients", "has_called", "key", "watch")

    def __init__(self, watch: GroupWatch, clients: Clients) -> None:
        self.watch = watch
        self.clients = clients
        self.after: dict[Hashable, Ghost] = {}
        self.key: Hashable = ()
        self.has_called: frozenset[tuple[int, bytes]] = frozenset()

    def told(self, what: Hashable, effects: list[Effect]) -> Ghost:
        """As it is after these.

        :param what: happened: tells what its effects are.
        :raises Violation: when something does not hold.
        """
        after = self.after.get(what)
        if after is None:
            after = self._copy()
            for effect in effects:
                effect(after)
            after.clients.must_be_linearizable()
            after.key = _known_to(after.clients)
            after.has_called = frozenset((partition, client) for client, partition in after.clients._mine)
            self.after[what] = after
        return after

    def _copy(self) -> Ghost:
        watch = _copy_of_watch(self.watch)
        return Ghost(watch, copied(self.clients, {id(self.watch): watch}))


def called(operation: Operation, partition: int) -> Effect:
    """The first time that a client sends an operation."""

    def call(ghost: Ghost) -> None:
        made = ghost.clients.call(
            operation.client, operation.kind, operation.key, operation.arguments, partition
        )
        assert made == operation

    return call


def _known_to(clients: Clients) -> Hashable:
    calls = (call for each in clients.calls.values() for call in each)
    return frozenset((call.id, call.began, call.ended, call.result) for call in calls)


def _copy_of_watch(watch: GroupWatch) -> GroupWatch:
    """States in it are never changed, so they need no copies."""
    copy = object.__new__(GroupWatch)
    copy.__dict__.update(watch.__dict__)
    copy._parts = watch._parts.copy()
    for partition, part in watch._parts.items():
        copy._parts[partition] = _copy_of_part(part)
    return copy


def _copy_of_part(part: Any) -> Any:
    copy = object.__new__(type(part))
    copy.__dict__.update({name: each.copy() for name, each in part.__dict__.items()})
    for ballot, have in copy._have.items():
        copy._have[ballot] = dict(have)
    for mark, reached in copy.reached.items():
        copy.reached[mark] = dict(reached)
    for mark, history in copy.histories.items():
        values = {key: list(each) for key, each in history.values.items()}
        lines = history.accepted.copy(), history.accepted_ballot, history.known.copy()
        made = type(history)(*lines, values)
        copy.histories[mark] = made
    return copy
