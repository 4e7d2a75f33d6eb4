"""A node that nobody can connect to is no member of a ring, and makes nobody else lose their place."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import ChordService, ChordSettings
from chordtx.mesh import Address
from tests.sim.cluster import Cluster

NOBODY = Address("", 0)
UNUSABLE = [NOBODY, Address("0.0.0.0", 4000), Address("::", 4000), Address("10.0.0.9", 0)]
COUNT = 20
SETTLED_SECONDS = 20.0


class Nowhere(ChordService):
    """Stores, and names an address that leads nowhere, as nodes of 0.1.0 could."""

    address = NOBODY

    def _own_address(self) -> Address:
        return self.address


def make(reactor: Any, address: Address | None = None, **options: Any) -> ChordService:
    """A node; with an address, one that names this."""
    options.setdefault("settings", ChordSettings(partition_bits=4))
    if address is None:
        return ChordService(reactor, **options)
    return type("Nowhere", (Nowhere,), {"address": address})(reactor, **options)


def ring_of_three() -> tuple[Cluster, list[ChordService]]:
    """A ring that holds ``COUNT`` keys."""
    world = Cluster(make)
    first = world.start()
    nodes = [first, world.start(first), world.start(first)]
    world.run(SETTLED_SECONDS)
    world.result(first.update({f"k{number}": number for number in range(COUNT)}))
    return world, nodes


def all_is_well(world: Cluster, nodes: list[ChordService]) -> None:
    """Everybody lists everybody, reads everything and writes."""
    for node in nodes:
        assert {each.id for each in node._ring.successors} == {other.id_10 for other in nodes} - {node.id_10}
        assert world.result(node.get_many([f"k{number}" for number in range(COUNT)])) == {
            f"k{number}".encode(): number for number in range(COUNT)
        }
        world.result(node.set("written by", node.id))
    assert len(world.result(nodes[0].ring())) == len(nodes)


@pytest.mark.parametrize("address", UNUSABLE, ids=str)
def test_a_storing_node_without_an_address_harms_nobody(address: Address) -> None:
    world, nodes = ring_of_three()
    newcomer = world.start(*nodes, address=address)
    world.run(SETTLED_SECONDS)
    all_is_well(world, nodes)
    world.result(newcomer.stopService())
    world.run(SETTLED_SECONDS)
    all_is_well(world, nodes)


@pytest.mark.parametrize("address", UNUSABLE, ids=str)
def test_whoever_names_an_unusable_contact_is_heard_all_the_same(address: Address) -> None:
    world, nodes = ring_of_three()
    for number, node in enumerate(nodes[:2]):
        name_strangers(node, [(number + 1).to_bytes(48, "big"), address.host, address.port])
    world.run(SETTLED_SECONDS)
    all_is_well(world, nodes)
    nodes.append(world.start(nodes[0]))
    world.run(SETTLED_SECONDS)
    all_is_well(world, nodes)


def name_strangers(node: ChordService, contact: list[Any]) -> None:
    """Put ``contact`` into every answer of this node that names contacts."""
    neighbours, find = node._methods["neighbours"], node._methods["find"]

    def more_neighbours(caller: Any) -> list[Any]:
        _, successors = neighbours(caller)
        return [contact, [contact, *successors, contact]]

    def longer_chain(caller: Any, *arguments: Any) -> Any:
        def lengthen(answer: list[Any]) -> list[Any]:
            start, chain, hops = answer
            return [start, [contact, *chain], hops]

        answer = find(caller, *arguments)
        return lengthen(answer) if isinstance(answer, list) else answer.addCallback(lengthen)

    node._methods.update(neighbours=more_neighbours, find=longer_chain)
