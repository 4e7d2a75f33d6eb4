"""What must hold of groups (:mod:`chordtx.sim.group_watch`), watched in whole services while a run goes on.

After each turn of a node's groups, whichever of them has changed is looked at: S1 to S3, S5 and S6 of its
partition, and how far the leases of who leads it are from breaking S4. (S4 itself is judged at the end, by
what clients were told.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.chord.hosting import Hosting
from chordtx.group.group import Group
from chordtx.group.groups import Ended, Groups
from chordtx.group.leader import Leader
from chordtx.group.rank import NodeId
from chordtx.group.replica import Save
from chordtx.sim.group_watch import GroupWatch, Violation, lease_margin
from chordtx.store.group_store import GroupStore

#: Gives a node's lease clock and wall clock, as :meth:`Groups.begin` takes them.
Clocks = Callable[[], tuple[float, int]]


class ServiceWatch:
    """Of one run.

    :param complained: is told what does not hold, once for each partition: what follows from it says nothing.
    :ivar looks: how often a group was looked at.
    """

    def __init__(self, complained: Callable[[str], None]) -> None:
        self._complained = complained
        self._watch = GroupWatch()
        self._running: dict[NodeId, _Node] = {}
        self._broken: set[int] = set()
        self.looks = 0

    @property
    def lease_margin(self) -> float:
        """The least that was seen, in seconds: below zero, S4 was kept by luck alone. Infinite for none."""
        return self._watch.lease_margin

    @property
    def leaders(self) -> int:
        """How many ballots have led."""
        return self._watch.leaders

    def hosted(self, hosting: Hosting, store: GroupStore | None, clocks: Clocks, rate: float) -> None:
        """A node's groups begin: with nothing, or with what is on disk.

        :param clocks: its lease clock and its wall clock. :param rate: of the former, beside true time.
        """
        id, groups = hosting.me.id, hosting.groups
        node = self._running[id] = _Node(groups, clocks, rate)
        end = groups.end

        def ended() -> Ended:
            made = end()
            self._turn_ended(id, node, is_synced=store is None)
            return made

        groups.end = ended  # type: ignore[method-assign]
        if store is not None:
            self._watch_store(id, store)
            for partition, group in groups.groups.items():
                self._guarded(partition, self._watch.synced, partition, id, group.replica._stored())

    def down(self, id: NodeId) -> None:
        """A node's process has ended."""
        node = self._running.pop(id, None)
        for partition in () if node is None else node.groups.groups:
            self._watch.down(partition, id)

    def _watch_store(self, id: NodeId, store: GroupStore) -> None:
        save = store.save

        def saved(saves: Mapping[int, Save], *values: Any) -> Deferred[None]:
            return save(saves, *values).addCallback(self._synced, id, dict(saves))

        store.save = saved  # type: ignore[assignment, method-assign]

    def _synced(self, _: None, id: NodeId, saves: dict[int, Save]) -> None:
        for partition, made in saves.items():
            self._guarded(partition, self._watch.synced, partition, id, made.stored)

    def _turn_ended(self, id: NodeId, node: _Node, *, is_synced: bool) -> None:
        for partition, group in node.groups.groups.items():
            looks = _looks_of(group)
            if node.looks.get(partition) != looks:
                node.looks[partition] = looks
                self._guarded(partition, self._look, partition, id, node, group, is_synced)

    def _look(self, partition: int, id: NodeId, node: _Node, group: Group, is_synced: bool) -> None:
        self.looks += 1
        before, node.leaders[partition] = node.leaders.get(partition), group.leader
        if before is not None and before is not group.leader:
            self._watch.learn(partition, before)  # what it made in its last turn
        self._watch.observe(partition, id, group)
        if is_synced:
            self._watch.synced(partition, id, group.replica._stored())
        self._must_hold_leases(partition)

    def _must_hold_leases(self, partition: int) -> None:
        groups = {id: node.groups.groups.get(partition) for id, node in self._running.items()}
        for group in groups.values():
            if group is not None and group.is_leading:
                ids = group.configuration.ids
                now = {id: self._running[id].tell_time() for id in ids if id in self._running}
                members = {id: groups.get(id) for id in ids}
                rates = {id: self._running[id].rate for id in now}
                margin = lease_margin(group, members, rates, now)
                self._watch.saw_margin(margin, group.me.id)

    def _guarded(self, partition: int, look: Callable[..., None], *arguments: Any) -> None:
        if partition not in self._broken:
            try:
                look(*arguments)
            except Violation as violation:
                self._broken.add(partition)
                self._complained(f"partition {partition}: {violation}")


class _Node:
    """A node whose process runs."""

    def __init__(self, groups: Groups, clocks: Clocks, rate: float) -> None:
        self.groups = groups
        self.rate = rate
        self.looks: dict[int, tuple[Any, ...]] = {}
        self.leaders: dict[int, Leader | None] = {}
        self._clocks = clocks

    def tell_time(self) -> float:
        """Its groups know the time. :returns: the lease clock."""
        lease_seconds, wall_ms = self._clocks()
        self.groups.begin(lease_seconds, wall_ms, is_full=self.groups.turn.is_full)
        return lease_seconds


def _looks_of(group: Group) -> tuple[Any, ...]:
    """Equal while nothing of it has changed that is watched."""
    replica, leader = group.replica, group.leader
    led = None if leader is None else (id(leader), leader.stage, leader.newest, leader.commit)
    return replica.rank, replica.promised, replica.configuration.epoch, replica.left.epoch, led
