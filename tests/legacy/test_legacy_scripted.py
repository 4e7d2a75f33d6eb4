"""A scripted legacy peer beside nodes of ours, on virtual time: rings that change, peers that hang, or go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from chordtx import ChordSettings, MeshSettings
from chordtx.chord.service import ChordService
from chordtx.config import GroupSettings
from chordtx.legacy.tables import places_of
from chordtx.mesh import MeshConnection
from chordtx.ring import SIZE, distance
from chordtx.wire import encode_id, flags
from tests.legacy.scripted import ScriptedPeer
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=4, groups=GroupSettings(lease_seconds=0.5))
KEYS = [b"key %d" % number for number in range(40)]


class Ring(Cluster):
    """Nodes of ours, and a legacy peer beside."""

    def __init__(self, count: int = 3, seed: int = 1, settings: ChordSettings = SETTINGS) -> None:
        Cluster.__init__(self, ChordService, seed)
        self.settings = settings
        self.ours: list[ChordService] = []
        self.peer = ScriptedPeer(self, self.rng)
        for _ in range(count):
            self.add()

    def add(self) -> ChordService:
        """One node of ours more."""
        node = self.start(*self.ours[:1], subnet="chord", settings=self.settings)
        self.result(node.when_joined())
        self.ours.append(node)
        return node

    def link(self, *, is_storing: bool = True) -> ScriptedPeer:
        """The legacy peer comes."""
        self.run(4)  # what comes sooner after the ring has changed may be an old copy
        self.peer.link(*self.ours)
        self.peer.run(0.5)
        if is_storing:
            self.peer.join()
            self.peer.run(0.5)
        return self.peer

    def get(self, key: bytes, node: int = 0) -> Any:
        """What a node of ours reads, while the legacy peer answers."""
        return self.done(self.ours[node].get(key))

    def done(self, work: Any) -> Any:
        """The result of a call, while the legacy peer answers."""
        found: list[Any] = []
        work.addBoth(found.append)
        late = self.time.now + 60
        while not found and self.time.now < late:
            self.peer.run(0.02)
        assert found, "no result in time"
        if not isinstance(found[0], Exception) and hasattr(found[0], "raiseException"):
            found[0].raiseException()
        return found[0]

    def until(self, is_so: Callable[[], bool], seconds: float = 30.0) -> None:
        """Let time pass until something is so."""
        late = self.time.now + seconds
        while not is_so():
            assert self.time.now < late, "it does not come to be so"
            self.peer.run(0.05)

    def legacy(self, node: int = 0) -> Any:
        return self.ours[node]._legacy


def test_without_legacy_peers_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    called: list[str] = []
    for node in ring.ours:
        for name in [name for name in node._methods if name.startswith("legacy")]:
            monkeypatch.setitem(node._methods, name, lambda *_, name=name: called.append(name))
    for key in KEYS:
        ring.result(ring.ours[0].set(key, 1))
    ring.run(20)
    assert called == []
    assert not any(node._legacy.is_active for node in ring.ours)
    assert not any(node._hosting is not None and node._hosting.groups.turn.is_watched for node in ring.ours)


@pytest.mark.parametrize("seed", range(4))
def test_each_side_reads_what_the_other_wrote(seed: int) -> None:
    ring = Ring(seed=seed)
    for number, key in enumerate(KEYS[:20]):
        ring.result(ring.ours[number % 3].set(key, number))
    peer = ring.link()
    for number, key in enumerate(KEYS[:20]):
        assert peer.get(key) == number
    for number, key in enumerate(KEYS):
        peer.set(key, {"by": number})
    for number, key in enumerate(KEYS):
        ring.until(lambda key=key, number=number: ring.get(key, number % 3) == {"by": number})
    for number, key in enumerate(KEYS):
        ring.done(ring.ours[number % 3].set(key, "ours"))
    for key in KEYS:
        ring.until(lambda key=key: peer.get(key) == "ours")
    for number, key in enumerate(KEYS):
        ring.done(ring.ours[number % 3].delete(key))
    for key in KEYS:
        ring.until(lambda key=key: peer.get(key) is None)
    assert peer.tables == {}


def test_a_legacy_peer_deletes_and_writes_fields() -> None:
    ring = Ring(seed=5)
    peer = ring.link()
    for key in KEYS:
        ring.done(ring.ours[0].set(key, {"a": 1}))
    ring.until(lambda: all(peer.get(key) == {"a": 1} for key in KEYS))
    for key in KEYS[:20]:
        peer.set(key, None)
    for key in KEYS[20:]:
        peer.apply_delta(key, {"b": 2})
    for key in KEYS[:20]:
        ring.until(lambda key=key: ring.get(key) is None)
    for key in KEYS[20:]:
        ring.until(lambda key=key: ring.get(key) == {"a": 1, "b": 2})


def test_a_legacy_peer_that_only_uses_the_ring_reads_and_writes() -> None:
    ring = Ring()
    for key in KEYS:
        ring.result(ring.ours[0].set(key, "ours"))
    ring.peer.link(ring.ours[1])  # one link is enough
    ring.peer.run(1)
    assert all(ring.peer.get(key) == "ours" for key in KEYS)
    for key in KEYS:
        ring.peer.set(key, "theirs")
    for key in KEYS:
        ring.until(lambda key=key: ring.get(key, 2) == "theirs")


def test_a_stale_copy_undoes_nothing() -> None:
    ring = Ring()
    peer = ring.link()
    for key in KEYS[:10]:
        ring.done(ring.ours[0].set(key, "new"))
        peer.set(key, "stale", positions=2, is_told=False)
    peer.run(8)
    for key in KEYS[:10]:
        assert ring.get(key) == "new"
    ring.until(lambda: all(len(node._legacy._host.entries) == 0 for node in ring.ours))
    for key in KEYS[:10]:
        ring.until(lambda key=key: peer.get(key) == "new")


def test_old_copies_sent_again_when_the_ring_changes_undo_nothing() -> None:
    ring = Ring()
    peer = ring.link()
    for key in KEYS[:10]:
        ring.done(ring.ours[0].set(key, "new"))
    peer.link(ring.add())
    peer.run(0.1)  # all nodes hear of the new one
    for key in KEYS[:10]:
        for place in places_of(key):
            if (stranger := peer.owner(place)) is not None:
                stranger.say(11, *peer._on_wire(place), "old copy")
    peer.run(8)
    for key in KEYS[:10]:
        assert ring.get(key) == "new"
        ring.until(lambda key=key: peer.get(key) == "new")


def test_writes_that_follow_one_another_are_not_lost() -> None:
    ring = Ring()
    peer = ring.link()
    for key in KEYS[:10]:
        for value in range(5):
            peer.set(key, value)
            peer.run(0.03)
    for key in KEYS[:10]:
        ring.until(lambda key=key: ring.get(key) == 4)


def test_clients_that_come_and_go_hold_no_write_up() -> None:
    ring = Ring()
    peer = ring.link()
    for key in KEYS[:5]:
        ring.done(ring.ours[0].set(key, "ours"))
        ring.until(lambda key=key: peer.get(key) == "ours")
    for key in KEYS[:5]:
        client = ring.start(*ring.ours, subnet="chord", listen=None, leech=True, settings=SETTINGS)
        ring.done(client.when_joined())
        peer.run(0.5)
        assert all(client.id in node.routing_table for node in ring.ours)
        ring.done(client.stopService())
        peer.run(0.5)
        peer.set(key, "theirs")
        ring.until(lambda key=key: ring.get(key) == "theirs")


@pytest.mark.parametrize("seed", range(3))
def test_hosts_change_as_nodes_join_and_leave(seed: int) -> None:
    ring = Ring(seed=10 + seed)
    peer = ring.link()
    values = {key: number for number, key in enumerate(KEYS)}
    for key, value in values.items():
        ring.done(ring.ours[0].set(key, value))
    for _ in range(3):
        peer.link(ring.add())
        peer.run(0.2)
        for key, value in values.items():
            assert peer.get(key) == value  # late, if need be, and not wrongly
    while len(ring.ours) > 2:
        node = ring.ours.pop(ring.rng.randrange(len(ring.ours)))
        ring.done(node.stopService())
        peer.run(4)
        for key, value in values.items():
            ring.until(lambda key=key, value=value: peer.get(key) == value)
    for key in values:
        peer.set(key, "after")
    for key in values:
        ring.until(lambda key=key: ring.get(key) == "after")


def test_a_node_that_dies_takes_nothing_with_it() -> None:
    ring = Ring(5)
    peer = ring.link()
    for key in KEYS:
        ring.done(ring.ours[0].set(key, "value"))
    ring.kill(node := ring.ours.pop(2))
    peer.drop(node)
    ring.until(lambda: all(len(each._ring.successors) == 3 for each in ring.ours), 60)
    for key in KEYS:
        ring.until(lambda key=key: peer.get(key) == "value")


def owning_all(ring: Ring) -> ScriptedPeer:
    """A legacy peer right before a node of ours: the arcs of all nodes but that one's are its own."""
    ring.peer.number = (ring.ours[0].id_10 + 1) % SIZE
    return ring.peer


def taken_whole(ring: Ring, count: int) -> list[bytes]:
    """Keys of which the legacy peer takes all positions."""
    found = []
    for number in range(100_000):
        key = b"whole %d" % number
        if all(
            distance(place.position, ring.peer.number)
            < min(distance(place.position, node.id_10) for node in ring.ours)
            for place in places_of(key)
        ):
            found.append(key)
            if len(found) == count:
                return found
    raise AssertionError("its arc is too small")


def test_what_it_does_in_silence_is_seen_at_once() -> None:
    ring = Ring(1)
    owning_all(ring)
    peer = ring.link()
    keys = taken_whole(ring, 5)
    for key in keys:
        ring.done(ring.ours[0].set(key, "ours"))
        ring.until(lambda key=key: peer.get(key) == "ours")
        peer.run(0.2)
        peer.set(key, "theirs", is_told=False)
        assert ring.get(key) == "theirs"
        ring.done(ring.ours[0].set(key, "ours again"))
        assert ring.get(key) == "ours again"  # though its table may not have it yet
        ring.until(lambda key=key: peer.get(key) == "ours again")
        ring.done(ring.ours[0].delete(key))
        assert ring.get(key) is None
        ring.until(lambda key=key: peer.get(key) is None)
        peer.run(0.2)
        peer.set(key, "theirs", is_told=False)
        assert ring.get(key) == "theirs"
        peer.run(0.2)
        peer.set(key, None, is_told=False)
        assert ring.get(key) is None
    before = peer.asked
    assert ring.done(ring.ours[0].get(b"key")) is None
    assert peer.asked - before <= 10


def test_what_it_does_in_silence_is_seen_by_who_reads_all_the_time() -> None:
    ring = Ring(1)
    owning_all(ring)
    peer = ring.link()
    reads: list[Any] = []

    def read(key: bytes, times: int) -> None:
        for _ in range(times):
            reads.append(ring.ours[0].get(key))
            peer.run(0.02)

    for key in taken_whole(ring, 5):
        ring.done(ring.ours[0].set(key, "before"))
        read(key, 10)
        reads.append(ring.ours[0].get(key))
        done = ring.ours[0].set(key, "ours")
        read(key, 20)
        ring.done(done)
        peer.set(key, "theirs", is_told=False)
        read(key, 20)
        assert [ring.done(read) for read in reads][-1] == "theirs"


def test_one_that_hangs_makes_nobody_wait_long() -> None:
    ring = Ring(1)
    owning_all(ring)
    peer = ring.link()
    keys = taken_whole(ring, 20)
    for key in keys:
        ring.done(ring.ours[0].set(key, 1))
    ring.until(lambda: all(peer.get(key) == 1 for key in keys))
    peer.hangs = True
    begun = ring.time.now
    for key in keys:
        ring.done(ring.ours[0].set(key, 2))
        assert ring.get(key) == 2
    assert ring.time.now - begun < 10
    peer.hangs = False
    for key in keys:
        ring.until(lambda key=key: peer.get(key) == 2)


def test_what_a_legacy_peer_brings_along_becomes_the_rings() -> None:
    ring = Ring()
    peer = ring.peer
    for key in KEYS:
        for place in places_of(key):
            peer.tables[place] = "brought"
    ring.link()
    for key in KEYS:
        for place in places_of(key):  # handed over, as py2p does when there are nodes that are nearer
            if (stranger := peer.owner(place)) is not None:
                stranger.say(11, *peer._on_wire(place), peer.tables.pop(place))
        peer.tell(key)
    for key in KEYS:
        ring.until(lambda key=key: ring.get(key) == "brought")


def test_a_large_ring_refuses_them() -> None:
    settings = ChordSettings(partition_bits=4, mesh=MeshSettings(connections_max=2))
    ring = Ring(2, settings=settings)
    ring.link()
    assert not ring.peer.is_refused
    ring.add()  # it has become too large
    ring.until(lambda: ring.peer.is_refused)
    ring.peer.end()
    ring.peer.link(*ring.ours)
    assert ring.peer.is_refused
    ring.run(30)
    assert not any(node._legacy.is_active for node in ring.ours)


def test_it_ends_when_they_are_gone() -> None:
    ring = Ring()
    ring.link()
    assert all(node._legacy.is_active for node in ring.ours)
    ring.peer.end()
    ring.run(30)
    assert not any(node._legacy.is_active for node in ring.ours)
    assert all(node._legacy._host._pointers.all() == [] for node in ring.ours)


def test_it_ends_when_one_of_ours_has_a_legacy_peers_id() -> None:
    """A stranger may say so."""
    ring = Ring()
    peer = ring.link()
    for node in ring.ours:
        stranger = Stranger(node, "ours", Random(1))
        stranger.id = encode_id(peer.number)
        stranger.greet()
    peer.end()
    ring.run(30)
    assert not any(node._legacy.is_active for node in ring.ours)


def test_it_ends_when_they_had_several_links_one_after_another() -> None:
    """The second one waits for the place of the first, and takes it."""
    ring = Ring()
    peer = ring.link()
    first = dict(peer._links)
    peer.link(*ring.ours)
    for stranger in first.values():
        stranger.end()
    ring.run(1)
    assert [len(node._legacy._presence.links) for node in ring.ours] == [1] * len(ring.ours)
    assert ring.done(ring.ours[0].set(b"key", "value")) is None
    assert ring.get(b"key", 1) == "value"
    peer.end()
    ring.run(30)
    assert not any(node._legacy.is_active for node in ring.ours)


def test_a_key_that_is_told_again_and_again_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame of a member names it so often that as many questions would be too many."""
    ring = Ring()
    ring.link(is_storing=False)
    place = places_of(b"key")[0]
    (node,) = (node for node in ring.ours if node._ring.owns(place.position))
    host, reads = node._legacy._host, []
    read = host._records.read
    monkeypatch.setattr(host._records, "read", lambda key: reads.append(key) or read(key))
    host.entries.add(place, "value", False, 100)
    told = [[b"key", False]] * 1000
    ring.result(host.keys_changed(node._routing.own_arc_start(), told))
    ring.run(5)
    assert 0 < len(reads) < 50
    host.entries.add(place, "another value", False, 100)
    before = len(reads)
    ring.result(host.keys_changed(node._routing.own_arc_start(), told[:1]))
    ring.run(5)
    assert len(reads) > before


def test_each_change_is_announced_once() -> None:
    ring = Ring()
    peer = ring.link()
    heard: list[tuple[str, bytes]] = []
    ring.ours[0].on("add", lambda _, key: heard.append(("add", key)))
    ring.ours[0].on("delete", lambda _, key: heard.append(("delete", key)))
    peer.set(b"theirs", 1)
    ring.until(lambda: ring.get(b"theirs") == 1)
    peer.set(b"theirs", None, is_told=False)  # as js2p, which never says what it deletes
    ring.until(lambda: ring.get(b"theirs") is None)
    ring.done(ring.ours[1].set(b"ours", 1))
    ring.done(ring.ours[1].delete(b"ours"))
    peer.run(3)
    assert heard == [("add", b"theirs"), ("delete", b"theirs"), ("add", b"ours"), ("delete", b"ours")]
    assert (b"ours", False) in peer.heard
    assert (b"ours", True) in peer.heard


def test_keys_are_announced_only_while_a_legacy_peer_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring()
    announced: list[str] = []
    send = MeshConnection.send_message

    def watched(link: Any, message: Any, **how: Any) -> None:
        if message.payload[0] == flags.ANNOUNCE:
            announced.append(link.id)
        send(link, message, **how)

    monkeypatch.setattr(MeshConnection, "send_message", watched)
    heard: list[bytes] = []
    ring.ours[0].on("add", lambda _, key: heard.append(key))
    ring.done(ring.ours[1].set(b"before", 1))
    ring.run(2)
    assert (heard, announced) == ([b"before"], [])
    ring.run(4)
    peer = ring.peer
    beside = ring.ours[2]
    peer.link(beside)
    peer.run(1)
    for number, key in enumerate(KEYS):
        ring.done(ring.ours[number % 3].set(key, 1))
    peer.run(1)
    assert sorted(key for key, is_gone in peer.heard if key in KEYS) == sorted(KEYS)
    assert set(announced) == {beside.id}, "to the node beside it, and to no other"
    assert len(announced) <= len(KEYS)
    peer.end()
    ring.run(30)
    announced.clear()
    ring.done(ring.ours[1].set(b"after", 1))
    ring.run(2)
    assert announced == []
    assert sorted(heard) == sorted([b"before", *KEYS, b"after"])


def test_a_node_that_gives_its_ring_up_for_another_serves_them_there() -> None:
    ring = Ring(2)
    for key in KEYS:
        ring.result(ring.ours[0].set(key, "value"))
    lonely = ring.start(subnet="chord", settings=SETTINGS)
    ring.result(lonely.when_joined())
    lonely._joining._peers = [ring.ours[0]._own_address()]  # so that it begins no other one
    ring.peer.link(lonely)
    ring.peer.join()
    ring.peer.run(1)
    ring.ours.append(lonely)
    ring.done(lonely.connect(*ring.ours[0].out_addr))
    ring.until(lambda: len(lonely._ring.successors) == 2)
    ring.peer.link(*ring.ours[:2])
    for key in KEYS:
        ring.until(lambda key=key: ring.peer.get(key) == "value")
    ring.peer.run(4)
    for key in KEYS:
        ring.peer.set(key, "theirs")
        ring.until(lambda key=key: ring.get(key, 2) == "theirs")


def test_a_node_that_starts_again_is_told_again() -> None:
    ring = Ring()
    peer = ring.link()
    for key in KEYS:
        ring.done(ring.ours[0].set(key, "value"))
    for node in ring.ours:
        ring.done(node.stopService())
        peer.drop(node)
        node._bootstrap = [ring.ours[0 if node is not ring.ours[0] else 1]._own_address()]
        node.startService()
        ring.done(node.when_joined())
        peer.link(node)
        peer.run(3)
        for key in KEYS:
            ring.until(lambda key=key: peer.get(key) == "value")
