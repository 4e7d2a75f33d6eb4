"""Groups that are not what the ring says, in ways that a node cannot see from its own groups."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, succeed

from chordtx import ChordService, ChordSettings
from chordtx.chord.leaders import node_id_of
from chordtx.chord.routing import Found
from chordtx.errors import NotJoined
from chordtx.group.configuration import Member
from chordtx.ring import SIZE, Contact, distance
from chordtx.ring.partitions import lowest_position
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, replicas=3)
PARTITION = 5


def settled_ring(count: int) -> tuple[Cluster, list[Any]]:
    """Nodes in the order in which they ought to keep the partition, once all groups are right."""
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=3)
    nodes = world.ring(count, 20)
    position = lowest_position(PARTITION, SETTINGS.partition_bits)
    return world, sorted(nodes, key=lambda node: distance(position, node.id_10))


def members(node: Any) -> set[bytes]:
    return set(node._hosting.group(PARTITION).configuration.ids)


def ids(*nodes: Any) -> set[bytes]:
    return {node_id_of(node.id_10) for node in nodes}


def test_an_owner_that_was_left_out_of_its_group_is_told_by_its_leader() -> None:
    """What it holds is of an epoch that is over, with just the members that there ought to be."""
    world, nodes = settled_ring(6)
    owner, row = nodes[0], nodes[:3]
    assert all(members(node) == ids(*row) for node in row)
    received = owner._hosting.groups.received
    owner._hosting.groups.received = lambda by, entries: received(
        by, [entry for entry in entries if entry[0] != PARTITION]
    )
    others = nodes[3:]
    moved = tuple(Member(id, has_disk=False) for id in sorted(ids(*others)))
    (leader,) = [node for node in row[1:] if node._hosting.group(PARTITION).is_leading]
    assert leader._hosting.place(PARTITION, moved)
    world.run(2)
    assert (members(owner), members(others[0])) == (ids(*row), ids(*others))
    owner._hosting.groups.received = received
    world.run(15)
    assert all(members(node) == ids(*row) for node in row)
    assert sum(node._hosting.group(PARTITION).is_leading for node in row) == 1


def test_who_has_left_is_waited_for_by_nobody_though_others_still_name_it() -> None:
    world, nodes = settled_ring(5)
    owner, successor, leaving, next_one, _ = nodes
    gone = Contact(leaving.id_10, *leaving.out_addr)
    told = owner._standings.of(gone.id)
    world.result(leaving.stopService())
    world.run(1)
    ring, after = owner._ring, next_one._ring.me
    ring.neighbours_answered(gone, successor._ring.me, [after])  # what they said before it left comes late
    ring.neighbours_answered(successor._ring.me, ring.me, [gone, after])
    assert gone in ring.successors
    assert gone not in owner._placement.row()
    assert told is not None
    owner._placement.standing_told(gone.id, evolve(told, is_leaving=False))  # it has come back
    assert gone in owner._placement.row()


def test_of_many_who_join_at_once_the_owners_are_soon_told_who_leads() -> None:
    """More than the owner of a partition asks: none of them knows that the first node still leads all."""
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=1)
    nodes = world.ring(25, 0)
    longest = 0.0
    for number in range(40):
        began_at = world.time.now
        world.result(nodes[1].set(b"key %d" % number, b"value"))
        longest = max(longest, world.time.now - began_at)
    assert longest < 2  # leaders look for the owners of all their groups every five seconds


def test_owners_are_looked_for_once_at_a_time() -> None:
    """Lookups that take long, in a ring that is broken, are not made again and again beside each other."""
    world, nodes = settled_ring(4)
    placement, asked = nodes[0]._placement, []

    def row(partition: int) -> Deferred[tuple[Contact, ...]]:
        asked.append(partition)
        return Deferred()

    placement._leaders.row = row
    for _ in range(6):
        nodes[0]._routing.arcs.epoch += 1
        world.run(2)
    assert len(asked) == 2  # once for the leads, and once for all groups


def test_a_walk_that_does_not_come_round_is_begun_again() -> None:
    """As while nodes join: what is known of one part of the ring is older than what is known of another."""
    world, (node, *_) = settled_ring(5)
    first, second, third, *_ = everyone = world.result(node._walk.contacts())
    assert len(everyone) == 5
    stale = {first.id: second, second.id: third, third.id: second}
    node._routing.arcs.following = stale.get
    assert world.result(node._walk.contacts()) == everyone
    node._routing.lookup = lambda at: succeed(Found(None, (first if at == SIZE - 1 else second,), 0))
    with pytest.raises(NotJoined, match="changes faster"):
        world.result(node._walk.contacts())
