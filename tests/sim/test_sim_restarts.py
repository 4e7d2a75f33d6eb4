"""Nodes that come back where somebody else was."""

from __future__ import annotations

from chordtx import ChordService
from chordtx.ring import Contact
from tests.sim.cluster import PORT, Cluster


def test_who_is_told_that_somebody_else_at_its_own_address_leads_asks_on() -> None:
    """As a node without a disk is: it comes back with another id, and others still name the old one."""
    world = Cluster(ChordService)
    nodes = world.several(4)
    world.run(15)
    back = nodes[1]
    before = Contact(back._ring.me.id ^ 1, back.reactor.host, PORT)
    identity = back._identity
    for partition in range(identity.partitions):
        back._leaders.learned(partition, before)
    for number in range(20):
        world.result(back.set(f"key {number}", number))
    assert [world.result(back.get(f"key {number}")) for number in range(20)] == list(range(20))
