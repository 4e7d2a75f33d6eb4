"""Nodes that leave: while others have just come and are still to be taken into groups, or many at once."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import DeferredList
from twisted.logger import capturedLogs

from chordtx import ChordService, ChordSettings
from chordtx.chord.leaders import node_id_of
from chordtx.group.rank import Ballot
from tests.sim.cluster import Cluster

#: Many partitions, so that not all of them change at once.
SETTINGS = ChordSettings(partition_bits=8, leave_timeout_seconds=20.0)
KEYS = {b"key %d" % number: number for number in range(100)}


def settled_ring(seed: int, count: int) -> tuple[Cluster, list[Any]]:
    """Nodes that have joined, in the order of their ids, once their groups are as they ought to be."""
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=seed)
    nodes = [world.start()]
    world.result(nodes[0].when_joined())
    nodes += [world.start(nodes[0]) for _ in range(count - 1)]
    for node in nodes:
        world.result(node.when_joined())
    world.run(30)
    assert not world.result(nodes[0].health(count)).complaints
    return world, sorted(nodes, key=lambda node: node.id_10)


@pytest.mark.parametrize("seed", range(4))
def test_one_after_another_leaves_right_after_all_have_come(seed: int) -> None:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=seed)
    nodes = [world.start()]
    world.result(nodes[0].when_joined())
    world.result(nodes[0].set("key", "value"))
    for _ in range(5):
        nodes.append(world.start(nodes[0]))
        world.result(nodes[-1].when_joined())
    world.run(seed * 0.3)
    while len(nodes) > 1:
        leaving = nodes.pop()
        began = world.time.now
        world.result(leaving.stopService())
        assert world.time.now - began < 0.9 * SETTINGS.leave_timeout_seconds, "it has given up"
        assert world.result(nodes[0].get("key")) == "value"


@pytest.mark.parametrize("seed", range(3))
def test_more_neighbours_leave_at_once_than_anybody_has_successors(seed: int) -> None:
    world, nodes = settled_ring(seed, count=SETTINGS.successors_max + 4)
    world.result(nodes[0].update(KEYS))
    staying, leaving = nodes[:2], nodes[2:]
    world.result(DeferredList([node.stopService() for node in leaving]))
    assert world.result(staying[0].get_many(KEYS)) == KEYS
    world.run(10)
    assert not world.result(staying[0].health(len(staying))).complaints


def test_it_is_said_when_everybody_leaves() -> None:
    world, nodes = settled_ring(5, count=3)
    world.result(nodes[0].update(KEYS))
    with capturedLogs() as events:
        world.result(DeferredList([node.stopService() for node in nodes]))
    said = [event["count"] for event in events if "leaves while nobody" in (event.get("log_format") or "")]
    assert len(said) == len(nodes)
    assert all(said)


def test_who_stays_may_be_known_by_a_link_alone() -> None:
    """It has just joined, and whom the list of successors names, and all that were known before, leave."""
    _, (node, staying, *leaving) = settled_ring(6, count=5)
    placement = node._placement
    for other in leaving:
        placement.standing_told(other.id_10, evolve(node._standings.of(other.id_10), is_leaving=True))
    node._ring.failed(staying.id_10)
    node._node.everyone = lambda: tuple(other._ring.me for other in (node, *leaving))
    assert placement.is_anybody_staying()
    placement.standing_told(staying.id_10, evolve(node._standings.of(staying.id_10), is_leaving=True))
    assert not placement.is_anybody_staying()


def test_who_seems_to_be_the_last_waits_a_moment_for_others() -> None:
    """They may have come just now. One of them takes the records."""
    world, (first, *_) = settled_ring(8, count=2)
    world.result(first.update(KEYS))
    is_anybody_staying = first._placement.is_anybody_staying
    asked: list[float] = []

    def too_early() -> bool:
        asked.append(world.time.now)
        return bool(asked[-1] > asked[0] + 0.3 and is_anybody_staying())

    first._placement.is_anybody_staying = too_early
    with capturedLogs() as events:
        world.result(first.stopService())
    assert not [event for event in events if "leaves while nobody" in (event.get("log_format") or "")]


@pytest.mark.parametrize("how", ["the leader", "a node that is gone", "a node that is no member"])
def test_a_group_that_nobody_leads_finds_that_out_by_itself(how: str) -> None:
    world, nodes = settled_ring(7, count=8)
    led = nodes[1]._hosting.leads[0]
    members = nodes[1]._hosting.group(led).configuration.ids
    kept_by = [node for node in nodes if node_id_of(node.id_10) in members]
    (stranger, *_) = (node_id_of(node.id_10) for node in nodes if node not in kept_by)
    for node in kept_by:
        group = node._hosting.groups.groups[led]
        group._step_down()
        if how != "the leader":
            promised_to = b"gone" if how == "a node that is gone" else stranger
            group.replica.promise(Ballot(group.replica.promised.number + 1, promised_to))
    assert not any(led in node._hosting.leads for node in nodes)
    world.run(10)
    assert any(led in node._hosting.leads for node in nodes)
