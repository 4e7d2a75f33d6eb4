"""A mesh of 200 nodes: each broadcast reaches everybody once, also while links break."""

from __future__ import annotations

from collections import Counter
from typing import Any

from chordtx import MeshService
from tests.sim.cluster import Cluster

NODES = 200
BROADCASTS = 50


def heard_by(node: MeshService) -> Counter[Any]:
    """What a node receives, from now on."""
    heard: Counter[Any] = Counter()
    node.register_handler(lambda message, link: heard.update([message.packets[1:]]) or True)  # type: ignore
    return heard


def test_broadcasts_reach_everybody_once_while_links_break() -> None:
    world = Cluster(MeshService, seed=1)
    nodes = world.several(NODES, links=3)
    world.run(4)
    heard = [heard_by(node) for node in nodes]
    expected: Counter[Any] = Counter()
    sent: list[tuple[MeshService, Any]] = []
    broken = 0
    for number in range(BROADCASTS):
        sender = world.rng.choice(nodes)
        sender.send("number", number)
        sent.append((sender, ("number", number)))
        expected[("number", number)] += 1
        for _ in range(10):
            world.run(world.rng.random() * 0.004)
            broken += world.network.break_connection()
    world.run(8)
    assert broken == 10 * BROADCASTS
    for node, seen in zip(nodes, heard, strict=True):
        own = Counter(packets for sender, packets in sent if sender is node)
        assert seen == expected - own
