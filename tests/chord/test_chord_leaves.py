"""Nodes that leave while others have just come, and are still to be taken into groups."""

from __future__ import annotations

import pytest

from chordtx import ChordService, ChordSettings
from chordtx.group.rank import Ballot
from tests.sim.cluster import Cluster

#: Many partitions, so that not all of them change at once.
SETTINGS = ChordSettings(partition_bits=8, leave_timeout_seconds=20.0)


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


@pytest.mark.parametrize("how", ["the leader", "a node that is gone"])
def test_a_group_that_nobody_leads_finds_that_out_by_itself(how: str) -> None:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=7)
    nodes = [world.start()]
    nodes += [world.start(nodes[0]) for _ in range(2)]
    for node in nodes:
        world.result(node.when_joined())
    world.run(10)
    led = nodes[1]._hosting.leads[0]
    for node in nodes:
        group = node._hosting.groups.groups[led]
        group._step_down()
        if how != "the leader":
            group.replica.promise(Ballot(group.replica.promised.number + 1, b"gone"))
    assert not any(led in node._hosting.leads for node in nodes)
    world.run(10)
    assert any(led in node._hosting.leads for node in nodes)
