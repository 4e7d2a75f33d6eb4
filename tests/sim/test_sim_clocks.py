"""Wall clocks that are set by hours under running nodes: nothing that only takes time notices."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chordtx import ChordService, ChordSettings, MeshService, MeshSettings, SyncService
from chordtx.errors import ChordError
from tests.sim.cluster import Cluster
from tests.sim.test_sim_broadcasts import heard_by

HOUR = 3600.0
STEPS = [HOUR, -HOUR, 30 * HOUR, -30 * HOUR]


def noticed(node: MeshService, gone: str) -> bool:
    return gone not in node.routing_table


@pytest.mark.parametrize("by", STEPS)
@pytest.mark.parametrize("kind", [MeshService, SyncService, ChordService])
def test_a_dead_node_is_noticed_as_soon_as_ever(kind: Any, by: float) -> None:
    world = Cluster(kind)
    options = {"settings": ChordSettings(partition_bits=4)} if kind is ChordService else {}
    nodes = world.several(3, **options)
    world.run(10)
    first, second, dead = nodes
    for node in (first, second):
        world.set_clock(node, by)
    world.kill(dead)
    limits = MeshSettings()
    world.run(limits.ping_interval_seconds + limits.silence_timeout_seconds_max + 1)
    assert [noticed(node, dead.id) for node in (first, second)] == [True, True]
    assert not noticed(first, second.id)


@pytest.mark.parametrize("by", STEPS)
def test_a_call_without_an_answer_ends_in_its_time(by: float) -> None:
    world = Cluster(MeshService)
    asking, mute = world.several(2)
    mute._methods["mute"] = lambda caller: Deferred()
    world.run(3)
    began = world.time.now
    call = asking.routing_table[mute.id].call("mute", timeout_seconds=5)
    world.run(1)
    world.set_clock(asking, by)
    with pytest.raises(ChordError):
        world.result(call)
    assert 5 <= world.time.now - began <= 6


@pytest.mark.parametrize("by", STEPS)
def test_a_node_whose_clock_is_wrong_hears_everyone_and_is_heard_once(by: float) -> None:
    world = Cluster(MeshService)
    nodes = world.several(5)
    world.run(5)
    heard = [heard_by(node) for node in nodes]
    world.set_clock(nodes[2], by)
    for seconds in (0.1, 0.1, 5, 100, 300):
        for number, node in enumerate(nodes):
            node.send("said", number, world.time.now)
        world.run(seconds)
    for number, counts in enumerate(heard):
        assert set(counts.values()) == {1}
        senders = Counter(packets[1] for packets in counts)
        assert senders == {other: 5 for other in range(5) if other != number}


def test_a_node_that_starts_with_a_wrong_clock_is_told_what_it_missed() -> None:
    world = Cluster(MeshService)
    nodes = world.several(4)
    late = world.start(*nodes[:2], offset_seconds=-30 * HOUR)
    world.run(5)
    heard = heard_by(late)
    world.split([late], nodes)
    world.run(10)
    nodes[0].send("while it was away")
    world.heal()
    world.run(30)
    assert heard == {("while it was away",): 1}


def in_few_partitions() -> tuple[Cluster, list[Any]]:
    """A ring in which all that is written goes by three clocks, and tells leaders of them."""
    world = Cluster(ChordService)
    nodes = world.several(3, settings=ChordSettings(partition_bits=1))
    world.run(15)
    return world, nodes


def read_by(world: Cluster, nodes: list[Any], key: str) -> list[Any]:
    """What each node finds, once leaders have heard of all clocks."""
    for number in range(20):
        world.result(nodes[0].set(f"other {number}", number))
    return [world.result(node.get(key)) for node in nodes]


@pytest.mark.parametrize("by", STEPS)
@pytest.mark.parametrize("wrong", range(3))
def test_a_time_to_live_does_not_mind_one_wrong_clock(wrong: int, by: float) -> None:
    world, nodes = in_few_partitions()
    world.result(nodes[0].set("key", "value", ttl=600.0))
    world.set_clock(nodes[wrong], by)
    assert read_by(world, nodes, "key") == ["value"] * 3
    world.run(540)
    assert read_by(world, nodes, "key") == ["value"] * 3
    world.run(70)
    assert read_by(world, nodes, "key") == [None] * 3


def test_a_time_to_live_goes_by_most_clocks_and_never_back() -> None:
    world, nodes = in_few_partitions()
    world.result(nodes[0].set("key", "value", ttl=600.0))
    for node in nodes[:2]:
        world.set_clock(node, HOUR)
    assert read_by(world, nodes, "key") == [None] * 3
    for node in nodes:
        world.set_clock(node, -HOUR)
    assert read_by(world, nodes, "key") == [None] * 3
    world.result(nodes[0].set("later", "value", ttl=600.0))
    assert read_by(world, nodes, "later") == ["value"] * 3
    world.run(610)
    assert read_by(world, nodes, "later") == [None] * 3
