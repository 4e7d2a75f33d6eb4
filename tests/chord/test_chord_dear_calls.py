"""What one call may ask for is bounded: none takes a node's turns, or its memory, for itself."""

from __future__ import annotations

from random import Random

from chordtx.chord import ChordService
from tests.chord.test_chord_who_may_call import Caller
from tests.sim.cluster import Cluster

REFUSED = 1


def alone() -> tuple[Cluster, ChordService, Caller]:
    """A ring of one, and a client."""
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord")
    nodes.run(3)
    return nodes, node, Caller(node, Random(1), ("10.7.7.7", 0), False)


def test_fetch_looks_for_few_keys_at_once() -> None:
    nodes, node, caller = alone()
    nodes.result(node.set(b"499", "last"))
    reply = caller.call(nodes, "fetch", [b"%d" % number for number in range(500)])
    assert reply is not None
    assert [entry[0] for entry in reply[1:]] == [b"499"]
    reply = caller.call(nodes, "fetch", [b"%d" % number for number in range(501)])
    assert reply is not None
    assert reply[0] == REFUSED


def test_few_broadcasts_are_compared_at_once() -> None:
    nodes, _, caller = alone()
    assert caller.call(nodes, "broadcasts", bytes(8 * 32_768)) == [0]
    reply = caller.call(nodes, "broadcasts", bytes(8 * 32_769))
    assert reply is not None
    assert reply[0] == REFUSED
