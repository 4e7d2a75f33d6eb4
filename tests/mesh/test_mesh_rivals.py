"""Two links that claim one id: the one that lives stays, and who answers at the address is who it says."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from chordtx.mesh import Address, MeshConnection, MeshService
from chordtx.sim.network import Transport
from tests.sim.cluster import PORT, Cluster

THIEF = "10.9.9.9"


class Counted(MeshService):
    """Counts what becomes of its peers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.gone: list[str] = []
        self.came: list[str] = []
        super().__init__(*arguments, **options)

    def link_opened(self, link: MeshConnection) -> None:
        self.came.append(str(link.id))

    def link_closed(self, link: MeshConnection, reason: Exception) -> None:
        self.gone.append(str(link.id))


def cluster() -> Cluster:
    """Nodes that connect to nobody but those they are given."""
    made = Cluster(Counted)
    Counted.peer_met = lambda self, peer, address: None  # type: ignore[method-assign]
    return made


def thief_of(
    nodes: Cluster, victim: Counted, target: Counted, advertise: str | None = None, **options: Any
) -> Counted:
    """A node that says that it is ``victim``, and connects to ``target``."""
    address = advertise or str(victim.own_address())
    nodes._started += 1
    thief = nodes.start(host=f"{THIEF[:-1]}{nodes._started}", advertise=address, **options)
    thief.be(victim.id)
    nodes.run(0.1)
    thief.connect(*target.out_addr).addErrback(lambda _: None)
    return thief  # type: ignore[no-any-return]


def leads_to(link: MeshConnection) -> str:
    """The host at the other end."""
    transport: Any = link.transport
    assert isinstance(transport, Transport)
    return str(transport.wire.target_host)


def pair(nodes: Cluster, is_greater: bool) -> tuple[Counted, Counted]:
    """Two nodes, of which the first has the greater id, or the smaller."""
    first, second = nodes.several(2, links=0)
    nodes.run(0.1)
    return (first, second) if (first.id_10 > second.id_10) is is_greater else (second, first)


@pytest.mark.parametrize("is_greater", [True, False])
@pytest.mark.parametrize("opened_by_us", [True, False])
def test_id_that_lives_is_not_taken_over(is_greater: bool, opened_by_us: bool) -> None:
    nodes = cluster()
    target, victim = pair(nodes, is_greater)
    source, to = (target, victim) if opened_by_us else (victim, target)
    nodes.result(source.connect(*to.out_addr))
    kept = target.routing_table[victim.id]
    for _ in range(5):
        thief_of(nodes, victim, target)
        nodes.run(10)
        assert leads_to(target.routing_table[victim.id]) == victim.reactor.host
        assert nodes.result(target.routing_table[victim.id].call("ping", timeout_seconds=5.0)) == []
    assert target.gone == []
    if opened_by_us:
        assert target.routing_table[victim.id] is kept
    assert len(set(target._filing.links())) <= 2  # the one that stays, and a thief that tries again


@pytest.mark.parametrize("is_greater", [True, False])
@pytest.mark.parametrize("opened_by_us", [True, False])
def test_peer_that_lost_its_power_gets_in_again_within_seconds(is_greater: bool, opened_by_us: bool) -> None:
    nodes = cluster()
    target, peer = pair(nodes, is_greater)
    source, to = (target, peer) if opened_by_us else (peer, target)
    nodes.result(source.connect(*to.out_addr))
    host, id = peer.reactor.host, peer.id
    nodes.run(5)
    nodes.kill(peer)
    again = nodes.start(host=host)
    again.be(id)
    nodes.run(0.1)
    nodes.result(again.connect(*target.out_addr))
    nodes.run(8)
    assert leads_to(target.routing_table[id]) == host
    assert nodes.result(target.routing_table[id].call("ping", timeout_seconds=5.0)) == []
    assert nodes.result(again.routing_table[target.id].call("ping", timeout_seconds=5.0)) == []


@pytest.mark.parametrize("is_greater", [True, False])
def test_who_answers_at_the_address_gets_in_though_a_thief_was_first(is_greater: bool) -> None:
    nodes = cluster()
    target, victim = pair(nodes, is_greater)
    thief = thief_of(nodes, victim, target)
    nodes.run(1)
    assert leads_to(target.routing_table[victim.id]) == thief.reactor.host
    victim.connect(*target.out_addr).addErrback(lambda _: None)
    nodes.run(15)
    assert leads_to(target.routing_table[victim.id]) == victim.reactor.host
    assert nodes.result(target.routing_table[victim.id].call("ping", timeout_seconds=5.0)) == []


@pytest.mark.parametrize("is_greater", [True, False])
def test_we_connect_to_the_address_that_a_thief_claims(is_greater: bool) -> None:
    nodes = cluster()
    target, victim = pair(nodes, is_greater)
    thief_of(nodes, victim, target)
    nodes.run(1)
    target._dialing.dial(Address(victim.reactor.host, PORT))
    nodes.run(15)
    assert leads_to(target.routing_table[victim.id]) == victim.reactor.host


@pytest.mark.parametrize("is_greater", [True, False])
def test_thief_that_is_connected_to_takes_nothing_over(is_greater: bool) -> None:
    nodes = cluster()
    target, victim = pair(nodes, is_greater)
    nodes.result(victim.connect(*target.out_addr))
    thief = nodes.start()
    thief.be(victim.id)
    nodes.run(0.1)
    target.connect_quietly(Address(thief.reactor.host, PORT))  # as others named it
    nodes.run(15)
    assert leads_to(target.routing_table[victim.id]) == victim.reactor.host
    assert target.gone == []


@pytest.mark.parametrize("seed", range(20))
def test_both_connect_at_once_again_and_again(seed: int) -> None:
    nodes = cluster()
    first, second = pair(nodes, bool(seed % 2))
    rng = Random(seed)
    for node, other in ((first, second), (second, first)):
        node.reactor.callLater(rng.random() * 0.03, node.connect, *other.out_addr)
    nodes.run(20)
    assert len(first._links) == len(second._links) == 1
    assert (first.gone, second.gone) == ([], [])
    greater, other = (first, second) if first.id_10 > second.id_10 else (second, first)
    assert [*greater.outgoing, *other.outgoing] in ([other.id], [greater.id])
    for node, peer in ((first, second), (second, first)):
        assert nodes.result(node.routing_table[peer.id].call("ping", timeout_seconds=5.0)) == []


def test_two_nodes_of_one_id_make_nobody_flap() -> None:
    nodes = cluster()
    target, one = pair(nodes, True)
    other = nodes.start()
    other.be(one.id)
    nodes.run(0.1)
    nodes.result(one.connect(*target.out_addr))
    for _ in range(10):
        other.connect(*target.out_addr).addErrback(lambda _: None)
        nodes.run(5)
    assert target.gone == []
    assert leads_to(target.routing_table[one.id]) == one.reactor.host
