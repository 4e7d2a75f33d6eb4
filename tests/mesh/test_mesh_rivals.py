"""Two links that claim one id: the one that lives stays, and who answers at the address is who it says."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from chordtx.mesh import Address, MeshConnection, MeshService
from chordtx.sim.network import Transport
from chordtx.wire import flags
from tests.mesh.fuzz import KINDS, Stranger
from tests.sim.cluster import PORT, Cluster

THIEF = "10.9.9.9"


class Counted(MeshService):
    """Counts what becomes of its peers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.gone: list[str] = []
        self.came: list[str] = []
        super().__init__(*arguments, **options)

    def _link_opened(self, link: MeshConnection) -> None:
        self.came.append(str(link.id))

    def _link_closed(self, link: MeshConnection, reason: Exception) -> None:
        self.gone.append(str(link.id))


def cluster() -> Cluster:
    """Nodes that connect to nobody but those they are given."""
    made = Cluster(Counted)
    Counted._peer_met = lambda self, peer, address: None  # type: ignore[method-assign]
    return made


def thief_of(
    nodes: Cluster, victim: Counted, target: Counted, advertise: str | None = None, **options: Any
) -> Counted:
    """A node that says that it is ``victim``, and connects to ``target``."""
    address = advertise or str(victim._own_address())
    nodes._started += 1
    thief = nodes.start(host=f"{THIEF[:-1]}{nodes._started}", advertise=address, **options)
    thief._be(victim.id)
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
    assert len(set(target._link_table.links())) <= 2  # the one that stays, and a thief that tries again


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
    again._be(id)
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
    thief._be(victim.id)
    nodes.run(0.1)
    target._connect_quietly(Address(thief.reactor.host, PORT))  # as others named it
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
    other._be(one.id)
    nodes.run(0.1)
    nodes.result(one.connect(*target.out_addr))
    for _ in range(10):
        other.connect(*target.out_addr).addErrback(lambda _: None)
        nodes.run(5)
    assert target.gone == []
    assert leads_to(target.routing_table[one.id]) == one.reactor.host


# By hand


def claims(node: Counted, kind: str, id: str, seed: int) -> Stranger:
    """A peer that shakes hands with an id."""
    stranger = Stranger(node, kind, Random(seed))
    stranger.id = id
    text = stranger.dialect.text
    if kind == "ours":
        stranger.say(flags.HELLO, 1)
    stranger.say(flags.HANDSHAKE, text(id), text(node._protocol_id), ["10.7.7.7", 0], [])
    return stranger


@pytest.mark.parametrize("kind", KINDS)
def test_first_link_stays_if_it_says_anything_and_goes_if_it_does_not(kind: str) -> None:
    nodes = cluster()
    node = nodes.start()
    nodes.run(0.1)
    id = Stranger(node, kind, Random(1)).id
    first, second = claims(node, kind, id, 1), claims(node, kind, id, 2)
    nodes.run(0.5)
    first.say(99, "alive")
    nodes.run(1)
    assert node.routing_table[id] is first.link
    second.write(b"")
    assert (first.gone, second.gone) == (False, True)
    third = claims(node, kind, id, 3)
    nodes.run(5)
    first.write(b"")
    assert (first.gone, third.gone) == (True, False)
    assert node.routing_table[id] is third.link
    assert node.gone == []


def test_link_that_waits_is_not_heard_and_holds_little() -> None:
    nodes = cluster()
    target, victim = pair(nodes, False)
    nodes.result(target.connect(*victim.out_addr))
    thief = claims(target, "ours", victim.id, 1)
    for _ in range(100):
        if not thief.gone and thief.transport.producerState == "producing":
            thief.say(flags.WHISPER, bytes(10_000))
        nodes.run(0.001)
    assert not thief.gone
    assert thief.transport.producerState == "paused"
    assert thief.link._codec.pending_bytes < 300_000
    assert target.recv() is None
    nodes.run(15)
    assert thief.gone
    assert target.recv() is None


def test_what_came_while_a_link_waited_is_heard_once_it_has_the_place() -> None:
    nodes = cluster()
    node = nodes.start()
    nodes.run(0.1)
    id = Stranger(node, "ours", Random(1)).id
    first, second = claims(node, "ours", id, 1), claims(node, "ours", id, 2)
    for number in range(40):
        second.say(flags.WHISPER, number, bytes(10_000))
    assert node.recv() is None
    first.end()
    nodes.run(1)
    assert node.routing_table[id] is second.link
    assert [message.packets[1] for message in node.recv(100)] == list(range(40))
    second.say(flags.WHISPER, "more")
    assert node.recv().packets[1] == "more"


def test_third_link_finds_no_place_while_one_waits() -> None:
    nodes = cluster()
    node = nodes.start()
    nodes.run(0.1)
    id = Stranger(node, "ours", Random(1)).id
    links = [claims(node, "ours", id, seed) for seed in range(1, 7)]
    assert [link.gone for link in links] == [False, False, True, True, True, True]
    for _ in range(3):
        nodes.run(1)
        links[0].say(99)
    assert links[1].gone
