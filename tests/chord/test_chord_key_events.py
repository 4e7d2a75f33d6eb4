"""The events ``add`` and ``delete``: who listens is told which keys come and go, and nobody else is."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import ChordService, ChordSettings
from chordtx.config import GroupSettings
from chordtx.mesh import MeshConnection
from chordtx.wire import flags
from tests.sim.cluster import PORT, Cluster

SETTINGS = ChordSettings(partition_bits=2, groups=GroupSettings(lease_seconds=0.5))
ADD, DELETE = "add", "delete"


class Ring:
    """Some nodes that have found each other."""

    def __init__(self, count: int) -> None:
        self.world = Cluster(
            lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=5
        )
        self.nodes = [self.world.start()]
        self.nodes += [self.world.start(self.nodes[0]) for _ in range(count - 1)]
        for node in self.nodes:
            self.world.result(node.when_joined())
        self.world.run(20)
        assert all(len(node.routing_table) == count - 1 for node in self.nodes)

    def write(self, *keys: str) -> None:
        """Set some keys, and give the news the time that they need."""
        for key in keys:
            self.world.result(self.nodes[0].set(key, 1))
        self.world.run(1)

    def heard_by(self, node: ChordService) -> list[tuple[str, bytes]]:
        """What it hears from now on."""
        heard: list[tuple[str, bytes]] = []
        for event in (ADD, DELETE):
            node.on(event, lambda _, key, event=event: heard.append((event, key)))
        self.world.result(node.when_hearing())
        return heard


def added(*keys: str) -> list[tuple[str, bytes]]:
    return sorted((ADD, key.encode()) for key in keys)


KEYS = [f"key {number}" for number in range(8)]


def test_nobody_is_told_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(4)
    sent: list[Any] = []
    send = MeshConnection.send_message

    def watched(link: Any, message: Any, **how: Any) -> None:
        if message.payload[0] in (flags.ANNOUNCE, flags.NOTIFY):
            sent.append(message.payload)
        send(link, message, **how)

    monkeypatch.setattr(MeshConnection, "send_message", watched)
    ring.write(*KEYS)
    assert not any(node._client._watching for node in ring.nodes)
    heard = ring.heard_by(ring.nodes[1])
    ring.write("more")
    assert heard == added("more")
    assert sent == []
    assert [bool(node._client._watching) for node in ring.nodes] == [False, True, False, False]


@pytest.mark.parametrize("place", range(4))
def test_who_listens_is_told_once_by_whoever_leads(place: int) -> None:
    ring = Ring(4)
    heard = ring.heard_by(ring.nodes[place])
    ring.write(*KEYS)
    ring.write(*KEYS)  # not new
    assert sorted(heard) == added(*KEYS)


def test_changes_of_a_key_are_told_in_order_and_what_expires_is_deleted() -> None:
    ring = Ring(3)
    heard = ring.heard_by(ring.nodes[1])
    for _ in range(3):
        ring.write("key")
        ring.world.result(ring.nodes[2].delete("key"))
        ring.world.run(1)
    ring.world.result(ring.nodes[2].set("key", 1, ttl=1.5))
    ring.world.run(5)
    assert heard == [(ADD, b"key"), (DELETE, b"key")] * 4


def test_all_listeners_of_a_node_share_one_watch_that_ends_with_the_last() -> None:
    ring = Ring(3)
    node, told = ring.nodes[1], list[bytes]()
    added = node.on(ADD, lambda _, key: told.append(key))
    deleted = node.on(DELETE, lambda *_: None)
    watch = node.watch()  # a user's own
    ring.world.result(node.when_hearing())
    assert len(node._client._watching) == 2**SETTINGS.partition_bits
    ring.world.result(watch.aclose())
    node.remove_listener(DELETE, deleted)
    ring.write("one")
    node.remove_listener(ADD, added)
    assert not node._client._watching
    ring.write("two")
    assert told == [b"one"]


def test_it_ends_when_who_listens_once_has_heard() -> None:
    ring = Ring(3)
    node, told = ring.nodes[1], list[bytes]()
    node.once(ADD, lambda _, key: told.append(key))
    ring.world.result(node.when_hearing())
    ring.write(*KEYS)
    assert told == [b"key 0"]
    assert not node._client._watching


def test_a_listener_hears_what_its_node_does_from_then_on() -> None:
    ring = Ring(4)
    for node in ring.nodes:
        ring.world.result(node.copy())  # it knows who leads
        heard: list[bytes] = []
        listener = node.on(ADD, lambda _, key, heard=heard: heard.append(key))
        keys = [f"{node.id[:8]} {number}" for number in range(8)]
        for work in [node.set(key, 1) for key in keys]:
            ring.world.result(work)
        ring.world.run(1)
        assert sorted(heard) == sorted(key.encode() for key in keys)
        node.remove_listener(ADD, listener)


def test_listeners_stay_when_the_node_starts_again() -> None:
    ring = Ring(3)
    node = ring.nodes[2]
    heard, resets = ring.heard_by(node), list[str]()
    node.on("reset", lambda service: resets.append(service.id))
    ring.world.result(node.stopService())
    ring.write("meanwhile")
    node._bootstrap = [ring.nodes[0]._own_address()]
    node.startService()
    ring.world.result(node.when_joined())
    ring.world.result(node.when_hearing())
    ring.write("later")
    assert heard == added("later")
    assert resets == [node.id]  # what came meanwhile was not told


def test_who_waits_from_the_start_hears_all_that_begins_later() -> None:
    ring = Ring(3)
    node = ring.world.start(ring.nodes[0])
    node.on(ADD, lambda *_: None)
    ring.world.result(node.when_hearing())
    assert [subscription.is_ready for subscription in node._watches._shared.values()] == [True]


@pytest.mark.parametrize("leech", [False, True])
def test_a_client_with_one_link_hears(leech: bool) -> None:
    ring = Ring(4)
    options = {"leech": True} if leech else {"listen": None}
    client = ring.world.start(ring.nodes[1], **options)
    ring.world.result(client.when_joined())
    heard = ring.heard_by(client)
    ring.write(*KEYS)
    assert sorted(heard) == added(*KEYS)


def test_who_has_no_link_to_the_leader_hears_once_it_has_one() -> None:
    ring = Ring(4)
    network, cut_off, others = ring.world.network, ring.nodes[3], ring.nodes[:3]
    heard = ring.heard_by(cut_off)
    cuts = [(other.reactor.host, cut_off.reactor.host) for other in (others[0], others[2])]
    for one, other in cuts:
        network.cut(one, other)
        network.cut(other, one)
    ring.world.run(10)
    assert [*cut_off.routing_table] == [others[1].id]
    ring.write(*KEYS)
    assert sorted(heard) != added(*KEYS)
    for one, other in cuts:
        network.mend(one, other)
        network.mend(other, one)
    ring.world.run(40)
    assert sorted(heard) == added(*KEYS)


def test_who_was_cut_off_hears_afterwards() -> None:
    ring = Ring(4)
    heard = ring.heard_by(ring.nodes[3])
    ring.world.split(ring.nodes[:3], ring.nodes[3:])
    ring.world.run(10)
    ring.write(*KEYS)
    assert heard == []
    ring.world.heal()
    ring.world.run(40)
    assert sorted(heard) == added(*KEYS)


def test_a_node_that_gives_its_ring_up_hears_of_keys_in_the_other_one() -> None:
    ring = Ring(3)
    lonely = ring.world.start()
    ring.world.result(lonely.when_joined())
    heard = ring.heard_by(lonely)
    lonely._joining._peers = [ring.nodes[0]._own_address()]  # so that it begins no other one
    ring.world.result(lonely.connect(ring.nodes[0].reactor.host, PORT))
    ring.world.run(20)
    ring.world.result(lonely.when_hearing())
    ring.write(*KEYS)
    assert sorted(heard) == added(*KEYS)
