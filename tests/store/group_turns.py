"""Groups of several nodes with disks, for tests of their store: in a network that has all the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from chordtx.config import GroupSettings
from chordtx.group.configuration import Configuration, Member
from chordtx.group.groups import Groups
from chordtx.group.messages import Message, Operation
from chordtx.group.operations import DONE, SET
from chordtx.group.rank import NO_RANK, Ballot, Epoch, NodeId, Rank
from chordtx.group.record import Record
from chordtx.group.replica import Aside, Replica, Save, Stored
from chordtx.group.state import Client, Done, Header, State
from chordtx.store.database import Database
from chordtx.store.reading import Loaded

WALL_MS = 1_700_000_000_000
Commit = Callable[[NodeId, Mapping[int, Save]], None]


class Network:
    """Nodes that keep partitions together.

    :param commit: is given what each turn of a node wants to have on disk, before anything is said.
    """

    def __init__(self, ids: Iterable[NodeId], commit: Commit) -> None:
        self.commit = commit
        self.now = 100.0
        self.nodes = {id: self.node(id) for id in ids}
        self.answers: list[Any] = []
        self._numbers: dict[bytes, int] = {}
        self._messages: deque[tuple[NodeId, NodeId, list[tuple[int, Message]]]] = deque()

    @staticmethod
    def node(id: NodeId) -> Groups:
        """One that has just begun."""
        return Groups(Member(id), GroupSettings(), Random(1))

    def turn(self, id: NodeId, event: Callable[[Groups], object]) -> None:
        """One turn of a node."""
        groups = self.nodes[id]
        groups.begin(self.now, WALL_MS + int(self.now * 1000))
        event(groups)
        ended = groups.end()
        if ended.saves:
            self.commit(id, ended.saves)
        for outgoing in (ended.at_once, ended.lazily, ended.when_synced):
            self._messages.extend((id, to, entries) for to, entries in outgoing.items())
        self.answers += ended.answers

    def run(self) -> None:
        """Until nobody says anything any more."""
        while self._messages:
            by, to, entries = self._messages.popleft()
            if to in self.nodes:
                self.turn(to, lambda groups, by=by, entries=entries: groups.received(by, entries))  # type: ignore[misc]

    def pass_seconds(self, seconds: float) -> None:
        """Time passes for everybody."""
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            for id in list(self.nodes):
                self.turn(id, Groups.tick)
            self.run()

    def create(self, id: NodeId, partitions: Iterable[int]) -> None:
        """A ring begins."""
        self.turn(id, lambda groups: groups.create(partitions))
        self.run()

    def change_members(self, partition: int, ids: Iterable[NodeId]) -> None:
        """Let these keep a partition."""
        members = [Member(id) for id in ids]
        self.turn(self.leader(partition), lambda groups: groups.groups[partition].change_members(members))
        self.run()

    def leader(self, partition: int) -> NodeId:
        """Who leads."""
        for id, groups in self.nodes.items():
            if partition in groups.groups and groups.groups[partition].is_leading:
                return id
        raise AssertionError("nobody leads")

    def do(self, partition: int, kind: int, key: bytes, *arguments: Any, client: bytes = b"client") -> Any:
        """Have the leader do an operation. :returns: its answer."""
        number = self._numbers[client] = self._numbers.get(client, 0) + 1
        # The last three answers are on their way yet.
        operation = Operation(client, number, max(0, number - 3), NO_RANK, kind, key, arguments)
        self.turn(self.leader(partition), lambda groups: groups.do("somebody", partition, operation))
        self.run()
        answer = self.answers[-1][2]
        assert (answer.client, answer.number) == (client, number)
        return answer

    def crash(self, id: NodeId) -> None:
        """A node is gone, and the others are told."""
        del self.nodes[id]
        for other in self.nodes:
            self.turn(other, lambda groups: groups.lost(id))
        self.run()

    def restart(self, id: NodeId, loaded: Iterable[Loaded]) -> None:
        """A node begins anew with what was on its disk."""
        self.nodes[id] = self.node(id)

        def load(groups: Groups) -> None:
            for each in loaded:
                groups.load(*each)

        self.turn(id, load)
        self.run()


def filled(network: Network, partition: int, count: int, prefix: bytes = b"key ") -> None:
    """Sets some keys."""
    for number in range(count):
        answer = network.do(partition, SET, prefix + b"%d" % number, b"\xa3abc", None)
        assert answer.status == DONE


def held(replica: Replica) -> tuple[Stored, State | None]:
    """What a replica would want to find again."""
    header = None if replica.state is None else replica.state.header
    stored = Stored(replica.promised, replica.left, replica.rank, header, replica.entered, replica.is_lost)
    return stored, replica.state


def held_by(groups: Groups) -> dict[int, tuple[Stored, State | None]]:
    """The same for all of a node's."""
    return {partition: held(group.replica) for partition, group in groups.groups.items()}


def loaded_from(database: Database) -> dict[int, tuple[Stored, State | None]]:
    """What is on disk, by partition."""
    return {partition: (stored, state) for partition, stored, state, _ in database.load()}


def asides_from(database: Database) -> dict[int, dict[int, Aside]]:
    """What is on disk of other histories, by partition and mark, where there is any."""
    return {partition: asides for partition, _, _, asides in database.load() if asides}


# Single saves, without any groups

BALLOT = Ballot(3, b"leader")
EPOCH = Epoch(1)
CONFIGURATION = Configuration(EPOCH, (Member(b"leader"), Member(b"other")))


def rank(sequence: int) -> Rank:
    """Of some change."""
    return Rank(EPOCH, BALLOT, sequence)


def record(sequence: int, value: bytes = b"\xa3abc") -> Record:
    """Written by that change."""
    return Record(value, 0, rank(sequence), WALL_MS)


def save(sequence: int, *keys: bytes, value: bytes = b"\xa3abc", gone: Iterable[bytes] = ()) -> Save:
    """As if one change of one client had written all of these keys."""
    records: dict[bytes, Record | None] = {key: record(sequence, value) for key in keys}
    records.update(dict.fromkeys(gone))
    done = Done(rank(sequence), SET, keys[-1] if keys else b"", (DONE, None))
    return Save(stored(sequence), records, {(b"client", sequence): (0, done)}, {})


def promise(stored: Stored) -> Save:
    """Nothing but this."""
    return Save(stored, {}, {}, {})


def stored(sequence: int) -> Stored:
    """With a state of that rank."""
    return Stored(BALLOT, rank=rank(sequence), header=Header(CONFIGURATION, now_ms=WALL_MS))


def state_of(*saves: Save) -> State:
    """What these saves make, one after another."""
    records: dict[bytes, Record] = {}
    done: dict[tuple[bytes, int], tuple[int, Done]] = {}
    for each in saves:
        for key, value in each.records.items():
            records.pop(key, None)
            if value is not None:
                records[key] = value
        for id, kept in each.clients.items():
            done.pop(id, None)
            if kept is not None:
                done[id] = kept
    header = saves[-1].stored.header
    assert header is not None
    return State(header, records, clients_of(done))


def clients_of(done: Mapping[tuple[bytes, int], tuple[int, Done]]) -> dict[bytes, Client]:
    """Clients as these operations say."""
    clients: dict[bytes, Client] = {}
    for (id, number), (answered, operation) in done.items():
        client = clients.setdefault(id, Client(answered, operation.rank, {}))
        client.answered = max(client.answered, answered)
        client.newest = max(client.newest, operation.rank)
        client.done[number] = operation
    return clients
