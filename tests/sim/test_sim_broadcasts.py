"""Meshes on virtual time: broadcasts while links break, and networks that find together again."""

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


def linked(nodes: list[MeshService]) -> bool:
    """Whether a message from the first reaches everybody."""
    reached = {nodes[0].id}
    new = set(reached)
    by_id = {node.id: node for node in nodes}
    while new:
        new = {peer for id in new for peer in by_id[id].routing_table if peer in by_id} - reached
        reached |= new
    return len(reached) == len(nodes)


def test_network_that_was_split_is_one_again() -> None:
    world = Cluster(MeshService)
    nodes = world.several(8)
    world.run(5)
    assert linked(nodes)
    world.split(nodes[:4], nodes[4:])
    world.run(60)
    assert not linked(nodes)
    assert linked(nodes[:4])
    assert linked(nodes[4:])
    world.heal()
    world.run(120)
    assert linked(nodes)


def test_seed_that_comes_late_is_found_though_there_are_others() -> None:
    world = Cluster(MeshService)
    seed = world.start()
    host = seed.reactor.host
    world.kill(seed)
    first = world.start(seed)
    second = world.start(first)
    world.run(60)
    assert linked([first, second])
    late = world.start(host=host)
    world.run(120)
    assert linked([late, first, second])


def test_peer_that_ends_the_link_or_itself_is_left_alone() -> None:
    world = Cluster(MeshService)
    nodes = world.several(4)
    world.run(5)
    first, second, third, fourth = nodes
    attempts: list[Any] = []
    for node in nodes:
        node._peer_met = lambda peer, address: None
        node._connect_quietly = attempts.append
    second.disconnect(first.id)
    world.result(fourth.stopService())
    world.run(120)
    assert second.id not in first.routing_table
    assert third.id in first.routing_table
    assert attempts == []
