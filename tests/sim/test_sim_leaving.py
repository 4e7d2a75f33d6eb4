"""Many neighbours that leave at once: those who stay have all records."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import ChordService, ChordSettings
from tests.sim.cluster import Cluster

KEYS = 40
NODES = 12
#: Of five successors all may leave, and of their successors too.
SETTINGS = ChordSettings(partition_bits=4, successors_max=5, replicas=5)


def ring() -> tuple[Cluster, list[Any]]:
    """Its nodes in the order of the walk, with records."""
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=3)
    nodes = [world.start()]
    nodes += [world.start(nodes[0]) for _ in range(NODES - 1)]
    for node in nodes:
        world.result(node.when_joined())
    world.run(20)
    for number in range(KEYS):
        world.result(nodes[0].set(f"key {number}", number))
    return world, sorted(nodes, key=lambda node: -node.id_10)


@pytest.mark.parametrize("count", [5, 8, 10])
def test_neighbours_that_leave_at_once_lose_nothing(count: int) -> None:
    world, nodes = ring()
    left = [node.stopService() for node in nodes[:count]]
    for each in left:
        world.result(each)
    stays = nodes[-1]
    assert [world.result(stays.get(f"key {number}")) for number in range(KEYS)] == list(range(KEYS))


def test_who_leaves_when_all_leave_waits_for_nobody() -> None:
    world, nodes = ring()
    began_at = world.time.now
    for each in [node.stopService() for node in nodes]:
        world.result(each)
    assert world.time.now - began_at < SETTINGS.leave_timeout_seconds / 4
