"""A few nodes' groups, their disks, the messages between them and some clients, stepped by whoever searches.

One partition (or a few), real :class:`~chordtx.group.groups.Groups`, and nothing else: time is a number,
disks are dictionaries (or real ones, which are slower), and every message waits until it is delivered, lost
or repeated. What is true of all nodes together is watched by :class:`~chordtx.sim.group_watch.GroupWatch`
after each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from attrs import define, evolve, field

from chordtx.config import GroupSettings
from chordtx.group.configuration import Member
from chordtx.group.group import Group
from chordtx.group.groups import Groups
from chordtx.group.messages import Message, Operation
from chordtx.group.rank import FIRST_RANK, NO_RANK, NodeId
from chordtx.group.replica import Aside, Save, Stored
from chordtx.group.state import Client, Done, State, first_state
from chordtx.group.turn import Outgoing
from chordtx.sim.group_clients import Clients
from chordtx.sim.group_disk import StoredOnDisk
from chordtx.sim.group_watch import GroupWatch, lease_margin
from chordtx.store.reading import Loaded

#: Lease clocks run at 9 to 11 ticks for 10 of true time: 1 - 0.19 is a little less than 9/11.
SETTINGS = GroupSettings(
    lease_seconds=100,
    drift_allowance=0.19,
    majority_timeout_seconds=400,
    copy_timeout_seconds=50,
    learn_timeout_seconds=600,
    ids_seconds=2000,
    held_operations_max=4,
)
TRUE_RATE = 10


class Sent(NamedTuple):
    """A message under way."""

    by: NodeId
    to: NodeId
    partition: int
    message: Message


@define
class Image:
    """What a disk has of one partition."""

    stored: Stored
    records: dict[bytes, Any] = field(factory=dict)
    operations: dict[tuple[bytes, int], tuple[int, Done]] = field(factory=dict)
    asides: dict[int, Aside] = field(factory=dict)

    def apply(self, save: Save) -> None:
        """A save is synced."""
        self.stored = save.stored
        _update(self.records, save.records)
        _update(self.operations, save.clients)
        _update(self.asides, save.asides)

    def state(self) -> State | None:
        """The state that is read from it after a restart."""
        if self.stored.header is None:
            return None
        clients: dict[bytes, Client] = {}
        for (id, number), (answered, done) in self.operations.items():
            client = clients.setdefault(id, Client(0, NO_RANK, {}))
            client.answered = max(client.answered, answered)
            client.newest = max(client.newest, done.rank)
            client.done[number] = done
        return State(self.stored.header, dict(self.records), clients)


def _update(kept: dict[Any, Any], changes: dict[Any, Any]) -> None:
    for key, value in changes.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value


class Images:
    """A disk made of dictionaries, in place of a :class:`~chordtx.sim.group_disk.StoredOnDisk`."""

    def __init__(self) -> None:
        self._images: dict[int, Image] = {}

    def load(self) -> Iterator[Loaded]:
        """What a process finds when it begins."""
        for partition, image in self._images.items():
            yield partition, image.stored, image.state(), dict(image.asides)

    def save(self, saves: Mapping[int, Save]) -> None:
        """It is synced."""
        for partition, save in saves.items():
            self._images.setdefault(partition, Image(save.stored)).apply(save)

    def crash(self, under_way: Mapping[int, Save]) -> None:
        """The process ends. Nothing of what was under way is here."""

    def damage(self, partition: int) -> None:
        """The state of a partition is damaged, while no process runs."""
        before = self._images[partition]
        stored = evolve(before.stored, rank=NO_RANK, header=None, is_lost=True)
        self._images[partition] = Image(stored, asides=before.asides)

    def close(self) -> None:
        """It is over."""


class Host:
    """One node.

    :param disk: in place of dictionaries.
    :ivar groups: None while it is down.
    :ivar found: what was on disk when it began.
    :ivar unsynced: turns whose saves are not on disk yet, with what waits for them.
    """

    def __init__(
        self, me: Member, settings: GroupSettings, rate: float, seed: int, disk: StoredOnDisk | None = None
    ) -> None:
        self.me = me
        self.settings = settings
        self.rate = rate
        self.wall_offset_ms = 0
        self.disk = Images() if disk is None else disk
        self.unsynced: list[tuple[dict[int, Save], Outgoing]] = []
        self.found: dict[int, Stored] = {}
        self._rng = Random(seed)
        self.groups: Groups | None = Groups(me, settings, self._rng)

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.groups is not None

    def start(self, now: float, wall_ms: int) -> Groups:
        """Begin with what is on disk."""
        self.groups = Groups(self.me, self.settings, self._rng)
        self.groups.begin(now, wall_ms)
        self.found = {}
        for partition, stored, state, asides in self.disk.load():
            self.found[partition] = stored
            self.groups.load(partition, stored, state, asides)
        return self.groups

    def crash(self) -> None:
        """Everything but the disk is lost."""
        self.groups = None
        self.disk.crash(next((saves for saves, _ in self.unsynced if saves), {}))
        self.unsynced.clear()


class GroupWorld:
    """See the module.

    :param members: who keeps the partitions at first. :param spares: who has no part in them yet.
    :param rate: of a clock that is right, in seconds for each unit of time.
    :param rates: of the nodes' lease clocks, where they are others.
    :param syncs: whether saves are synced at once; otherwise by :meth:`sync`, or lost by a crash.
    :param disk: makes a node's disk, where they are real (:func:`~chordtx.sim.group_disk.disks_in`). Of the
        oldest save that was not synced it may have all after a crash. The world is to be closed then.
    """

    def __init__(
        self,
        members: Iterable[NodeId],
        spares: Iterable[NodeId] = (),
        *,
        settings: GroupSettings = SETTINGS,
        rate: float = TRUE_RATE,
        rates: Mapping[NodeId, float] | None = None,
        syncs: bool = True,
        partitions: int = 1,
        has_disk: bool = True,
        disk: Callable[[NodeId], StoredOnDisk] | None = None,
    ) -> None:
        self.time = 0
        self.rate = rate
        self.syncs = syncs
        self.partitions = range(partitions)
        self.net: list[Sent] = []
        first = [Member(id, has_disk) for id in members]
        everybody = [*first, *(Member(id, has_disk) for id in spares)]
        self.hosts: dict[NodeId, Host] = {}
        self.watch = GroupWatch()
        self.clients = Clients(self.watch)
        for number, me in enumerate(everybody):
            own = None if disk is None else disk(me.id)
            host = Host(me, settings, (rates or {}).get(me.id, rate), number, own)
            self.hosts[me.id] = host
            if me in first:
                stored = Stored(rank=FIRST_RANK, header=first_state(first).header)
                host.disk.save({partition: Save(stored, {}, {}, {}) for partition in self.partitions})
            host.start(*self.clocks(host))
        for id in self.hosts:
            self._observe(id)

    # Time

    def clocks(self, host: Host) -> tuple[float, int]:
        """A node's lease clock and wall clock."""
        return self.time * host.rate, int(self.time * self.rate * 1000) + 10**12 + host.wall_offset_ms

    # What is there

    def group(self, id: NodeId, partition: int = 0) -> Group | None:
        """A node's part in a group; None while it is down or has none."""
        groups = self.hosts[id].groups
        return None if groups is None else groups.groups.get(partition)

    def leading(self, partition: int = 0) -> list[NodeId]:
        """Who believes that it leads and serves."""
        return [id for id in self.hosts if (group := self.group(id, partition)) and group.is_leading]

    def must_hold_leases(self) -> None:
        """No majority can promise to anybody while a leader believes in its lease.

        :raises Violation: when one can.
        """
        for partition in self.partitions:
            for id in self.leading(partition):
                group = self.group(id, partition)
                if group is not None:
                    self._must_hold_lease(group, partition)

    def _must_hold_lease(self, leader: Group, partition: int) -> None:
        clocks = {}
        for id, host in self.hosts.items():
            clocks[id] = self.clocks(host)[0]
            if host.groups is not None:
                host.groups.begin(*self.clocks(host))
        members = {id: self.group(id, partition) for id in leader.configuration.ids}
        rates = {id: host.rate for id, host in self.hosts.items()}
        margin = lease_margin(leader, members, rates, clocks)
        self.watch.saw_margin(margin, leader.me.id)

    # Events

    def event(self, id: NodeId, what: Callable[[Groups], None]) -> None:
        """Something happens to a node that is up."""
        host = self.hosts[id]
        pending = [what]
        while pending and host.groups is not None:
            groups = host.groups
            groups.begin(*self.clocks(host))
            pending.pop(0)(groups)
            ended = groups.end()
            self._observe(id)
            self._send(id, ended.at_once)
            self._send(id, ended.lazily)
            for who, partition, answer in ended.answers:
                self.clients.answered(who, partition, answer)
            if host.unsynced or (ended.saves and not self.syncs):
                host.unsynced.append((ended.saves, ended.when_synced))
            else:
                self._write(host, ended.saves)
                own = ended.when_synced.pop(id, [])
                self._send(id, ended.when_synced)
                if own:
                    pending.append(lambda groups, own=own: groups.received(id, own))  # type: ignore[misc]

    def _send(self, by: NodeId, outgoing: Outgoing) -> None:
        for to, entries in outgoing.items():
            if to in self.hosts:
                self.net += [Sent(by, to, partition, message) for partition, message in entries]

    def _write(self, host: Host, saves: dict[int, Save]) -> None:
        host.disk.save(saves)
        for partition, save in saves.items():
            self.watch.synced(partition, host.me.id, save.stored)

    def _observe(self, id: NodeId) -> None:
        for partition in self.partitions:
            group = self.group(id, partition)
            if group is not None:
                self.watch.observe(partition, id, group)

    def deliver(self, sent: Sent) -> None:
        """A message arrives, if there is anybody."""
        if self.hosts[sent.to].is_up:
            self.event(sent.to, lambda groups: groups.received(sent.by, [(sent.partition, sent.message)]))

    def on_group(self, id: NodeId, what: Callable[[Group], object], partition: int = 0) -> None:
        """Something happens to a node's part in a group, if it has one."""

        def act(groups: Groups) -> None:
            group = groups.group(partition)
            if group is not None:
                what(group)

        self.event(id, act)

    def do(self, id: NodeId, operation: Operation, partition: int = 0) -> None:
        """A client's operation arrives at a node."""
        self.event(id, lambda groups: groups.do(operation.client, partition, operation))

    def sync(self, id: NodeId, turns: int = 1) -> None:
        """A node's oldest unsynced turns come to be on its disk."""
        host = self.hosts[id]
        for _ in range(min(turns, len(host.unsynced))):
            saves, waiting = host.unsynced.pop(0)
            self._write(host, saves)
            own = waiting.pop(id, [])
            self._send(id, waiting)
            if own:
                self.event(id, lambda groups, own=own: groups.received(id, own))  # type: ignore[misc]

    def crash(self, id: NodeId) -> None:
        """A node's process ends."""
        for partition in self.partitions:
            self.watch.down(partition, id)
        self.hosts[id].crash()

    def restart(self, id: NodeId) -> None:
        """It is started again."""
        host = self.hosts[id]
        if not host.is_up:
            host.start(*self.clocks(host))
            for partition, stored in host.found.items():
                self.watch.synced(partition, id, stored)
            self._observe(id)

    def settle(self, steps_max: int = 100_000) -> None:
        """Deliver everything in order, and what comes of it."""
        for _ in range(steps_max):
            if not self.net:
                return
            self.deliver(self.net.pop(0))
        raise AssertionError("the messages never end")

    def close(self) -> None:
        """It is over: real disks are closed."""
        for host in self.hosts.values():
            host.disk.close()


def evict(group: Group) -> None:
    """A leader forgets every operation that is committed, as if it was long ago."""
    if group.leader is not None:
        group.leader.evict(group.leader.committed_rank)
