"""Who is told which keys come and go: those who listen, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import ChordService, ChordSettings
from chordtx.chord.standings import Standings
from chordtx.mesh import MeshConnection
from chordtx.wire import flags
from tests.sim.cluster import PORT, Cluster

SETTINGS = ChordSettings(partition_bits=2)


class Ring:
    """Some nodes that have found each other. :ivar sent: how many frames announced something, by receiver."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = Cluster(
            lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=5
        )
        self.nodes = [self.world.start()]
        self.nodes += [self.world.start(self.nodes[0]) for _ in range(count - 1)]
        for node in self.nodes:
            self.world.result(node.when_joined())
        self.world.run(20)
        assert all(len(node.routing_table) == count - 1 for node in self.nodes)
        self.sent: list[str] = []
        send = MeshConnection.send_message

        def watched(link: Any, message: Any, **how: Any) -> None:
            if message.payload[0] == flags.ANNOUNCE:
                self.sent.append(link.id)
            send(link, message, **how)

        monkeypatch.setattr(MeshConnection, "send_message", watched)

    def write(self, *keys: str) -> None:
        """Set some keys, and give the news the time that they need."""
        for key in keys:
            self.world.result(self.nodes[0].set(key, 1))
        self.world.run(1)

    def heard_by(self, node: ChordService) -> list[bytes]:
        """What it hears from now on."""
        heard: list[bytes] = []
        node.on("add", lambda _, key: heard.append(key))
        self.world.run(0.1)
        return heard


def test_nobody_is_told_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4, monkeypatch)
    ring.write("one", "two", "three")
    assert ring.sent == []


@pytest.mark.parametrize("place", range(4))
def test_who_listens_is_told_once_by_whoever_leads(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4, monkeypatch)
    node = ring.nodes[place]
    heard = ring.heard_by(node)
    ring.write("one", "two", "three", "four", "five")
    assert sorted(heard) == [b"five", b"four", b"one", b"three", b"two"]
    assert set(ring.sent) == {node.id}
    assert len(ring.sent) <= 5


def test_who_listens_no_more_is_told_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(3, monkeypatch)
    listener = ring.nodes[1].on("delete", lambda *_: None)
    once = ring.heard_by(ring.nodes[2])
    ring.nodes[1].remove_listener("delete", listener)
    ring.world.run(0.1)
    ring.write("key")
    assert once == [b"key"]
    assert set(ring.sent) == {ring.nodes[2].id}


def test_a_client_with_one_link_hears_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4, monkeypatch)
    client = ring.world.start(ring.nodes[1], listen=None)
    ring.world.result(client.when_joined())
    assert len(client.routing_table) == 1
    heard = ring.heard_by(client)
    ring.write("one", "two", "three", "four", "five")
    assert sorted(heard) == [b"five", b"four", b"one", b"three", b"two"]
    assert set(ring.sent) <= {client.id, ring.nodes[1].id}
    ring.world.result(client.stopService())
    ring.sent.clear()
    ring.world.run(1)
    ring.write("six")
    assert ring.sent == []


def test_who_has_no_link_to_the_leader_hears_through_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4, monkeypatch)
    cut_off, others = ring.nodes[3], ring.nodes[:3]
    heard = ring.heard_by(cut_off)
    only = others[1]
    for other in others:
        if other is not only:
            ring.world.network.cut(other.reactor.host, cut_off.reactor.host)
            ring.world.network.cut(cut_off.reactor.host, other.reactor.host)
    ring.world.run(10)
    assert [*cut_off.routing_table] == [only.id]
    ring.write(*(f"key {number}" for number in range(8)))
    assert sorted(heard) == sorted(f"key {number}".encode() for number in range(8))


def test_who_was_cut_off_hears_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4, monkeypatch)
    heard = ring.heard_by(ring.nodes[3])
    ring.world.split(ring.nodes[:3], ring.nodes[3:])
    ring.world.run(10)
    ring.write(*(f"key {number}" for number in range(8)))
    assert heard == []
    ring.world.heal()
    ring.world.run(40)
    assert sorted(heard) == sorted(f"key {number}".encode() for number in range(8))


def test_two_that_only_use_the_ring_do_not_hear_because_of_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Ring(3, monkeypatch)
    clients = [ring.world.start(ring.nodes[place], leech=True) for place in (0, 1)]
    for client in clients:
        ring.world.result(client.when_joined())
    ring.world.result(clients[0].connect(clients[1].reactor.host, PORT))
    told: list[Any] = []
    tell_all = Standings.tell_all

    def tell(self: Standings) -> None:
        told.append(self)
        tell_all(self)

    monkeypatch.setattr(Standings, "tell_all", tell)
    for number in range(10):
        listener = clients[number % 2].on("add", lambda *_: None)
        ring.world.run(0.1 if number else 0.001)
        clients[number % 2].remove_listener("add", listener)
        ring.world.run(0.001)
    ring.world.run(3)
    assert not any(node._node.own_standing().hears for node in (*ring.nodes, *clients))
    assert len(told) < 100
