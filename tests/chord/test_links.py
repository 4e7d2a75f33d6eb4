"""Whom a node is linked to: everybody in a small ring, and in a large one only who is needed, for long."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chordtx.chord.link_policy import LinkPolicy
from chordtx.chord.service import ChordService
from chordtx.config import ChordSettings, MeshSettings
from chordtx.mesh import Address
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime

LINKS_MAX = 10


class FakeLink:
    """A link to a member, or to a client."""

    def __init__(self, id_10: int, heard_at: float, is_member: bool = True) -> None:
        self.id_10 = id_10
        self.heard_at = heard_at
        self.is_member = is_member
        self.has_parted = False

    def part(self, reason: Exception) -> None:
        """Closed for good."""
        self.has_parted = True


class FakeNode:
    """What :class:`LinkPolicy` needs of a node. It waits for nothing."""

    def __init__(self) -> None:
        self.size = 3.0
        self.in_ring = True
        self.leeching = False
        self.open: list[Any] = []
        self.near: set[int] = set()
        self.fingers: set[int] = set()
        self.dialled: list[Address] = []
        self.waiting: list[Deferred[None]] = []

    def has_link(self, peer: str) -> bool:
        return False

    def is_leeching(self) -> bool:
        return self.leeching

    def is_in_ring(self) -> bool:
        return self.in_ring

    def ring_size(self) -> float:
        return self.size

    def dial(self, address: Address) -> None:
        self.dialled.append(address)

    def random(self) -> float:
        return 0.5

    def links(self) -> list[Any]:
        return [link for link in self.open if not link.has_parted]

    def is_near(self, id: int) -> bool:
        return id in self.near

    def is_finger(self, id: int) -> bool:
        return id in self.fingers

    def seconds(self) -> float:
        return 1000.0

    def sleep(self, seconds: float) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self.waiting.append(waiting)
        return waiting

    def background(self, work: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(work)

    def wait(self) -> None:
        """All that waits has waited long enough."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(None)


def address(number: int) -> Address:
    return Address(f"10.0.0.{number}", 4000)


def named(policy: LinkPolicy, count: int) -> None:
    for number in range(count):
        policy.peer_met(f"peer {number}", address(number))


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def policy(node: FakeNode) -> LinkPolicy:
    return LinkPolicy(node, "me", LINKS_MAX)


def test_in_a_small_ring_everybody_who_is_named_is_connected_to(node: FakeNode, policy: LinkPolicy) -> None:
    node.size = LINKS_MAX + 1.0
    named(policy, LINKS_MAX)
    named(policy, LINKS_MAX)  # once more: that changes nothing
    node.wait()
    assert node.dialled == [address(number) for number in range(LINKS_MAX)]


def test_of_those_named_no_more_are_connected_to_than_there_is_place_for(
    node: FakeNode, policy: LinkPolicy
) -> None:
    node.open = [FakeLink(number, 0.0) for number in range(7)]
    node.open += [
        FakeLink(number, 0.0, is_member=False) for number in range(100, 150)
    ]  # clients do not count
    named(policy, 8)
    node.wait()
    assert len(node.dialled) == LINKS_MAX - 7


def test_in_a_large_ring_nobody_is_connected_to_who_is_only_named(node: FakeNode, policy: LinkPolicy) -> None:
    node.size = LINKS_MAX + 1.1
    named(policy, 8)
    policy.look()
    node.wait()
    assert node.dialled == []


def test_who_was_named_is_connected_to_once_the_ring_is_small(node: FakeNode, policy: LinkPolicy) -> None:
    node.size = 100.0
    named(policy, 3 * LINKS_MAX)
    node.size = 5.0
    policy.look()
    policy.look()
    node.wait()
    assert sorted(map(str, node.dialled)) == sorted(str(address(n)) for n in range(20, 30))  # the latest


def test_before_it_is_in_the_ring_a_node_connects_to_few(node: FakeNode, policy: LinkPolicy) -> None:
    node.in_ring = False
    node.open = [FakeLink(1, 0.0)]
    named(policy, 8)
    node.wait()
    assert len(node.dialled) == 3
    node.in_ring = True
    policy.look()
    node.wait()
    assert len(node.dialled) == 8


def test_others_are_told_of_fewer_in_a_large_ring(node: FakeNode, policy: LinkPolicy) -> None:
    few, node.size = policy.told_max, 100.0
    assert 0 < policy.told_max < few <= 64


def test_in_a_large_ring_calls_leave_places_for_others(node: FakeNode, policy: LinkPolicy) -> None:
    def make_links(size: float, links_count: int, leeching: bool = False) -> bool:
        node.size, node.leeching = size, leeching
        node.open = [FakeLink(number, 0.0) for number in range(links_count)]
        return policy.calls_make_links

    assert make_links(size=5.0, links_count=9)
    assert not make_links(size=5.0, links_count=10)
    assert make_links(size=100.0, links_count=7)
    assert not make_links(size=100.0, links_count=8)
    assert make_links(size=100.0, links_count=9, leeching=True)  # nobody connects to it
    assert not make_links(size=100.0, links_count=10, leeching=True)


def test_what_is_closed_is_idle_and_needed_by_nobody(node: FakeNode, policy: LinkPolicy) -> None:
    node.open = [FakeLink(number, 900.0 + number) for number in range(13)]
    node.open += [FakeLink(99, 999.0), FakeLink(100, 0.0, is_member=False)]
    node.near, node.fingers = {0}, {2}
    policy.look()
    assert [link.id_10 for link in node.open if link.has_parted] == [1, 3, 4, 5]
    policy.look()
    assert sum(link.has_parted for link in node.open) == 4


def test_what_is_needed_or_was_used_just_now_stays_beyond_the_bound(
    node: FakeNode, policy: LinkPolicy
) -> None:
    node.open = [FakeLink(number, 990.0) for number in range(10)]
    node.open += [FakeLink(number, 0.0) for number in range(10, 20)]
    node.near = set(range(10, 20))
    policy.look()
    assert not any(link.has_parted for link in node.open)


# Whole rings


class Ring:
    """A ring of simulated nodes."""

    def __init__(self, links_max: int) -> None:
        self.rng = Random(links_max)
        self.time = VirtualTime(Random(f"{links_max} order"))
        self.network = Network(self.time, Random(f"{links_max} delays"), lambda source, target: 0.0005)
        self.settings = ChordSettings(partition_bits=5, mesh=MeshSettings(connections_max=links_max))
        self.nodes: list[ChordService] = []

    def grow(self, count: int) -> None:
        """One node after the other comes."""
        for _ in range(count):
            host = f"10.0.0.{len(self.nodes) + 1}"
            peers = [
                str(node._own_address()) for node in self.rng.sample(self.nodes, min(3, len(self.nodes)))
            ]
            node = ChordService(
                self.network.process(host),
                listen=f"tcp:4000:interface={host}",
                peers=peers,
                settings=self.settings,
                rng=Random(self.rng.getrandbits(64)),
                wall_clock=lambda: self.time.now + 1e9,
            )
            node.startService()
            self.nodes.append(node)
            self.run(0.5)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(self.time.now + seconds)

    def result(self, work: Deferred[Any]) -> Any:
        """What comes of it, soon."""
        found: list[Any] = []
        work.addBoth(found.append)
        until = self.time.now + 5.0
        while not found and self.time.now < until:
            self.run(0.01)
        return found[0]

    def links(self) -> set[frozenset[str]]:
        """Who is linked to whom."""
        return {frozenset((node.id, peer)) for node in self.nodes for peer in node.routing_table}


def test_a_small_ring_is_one_hop_wide() -> None:
    ring = Ring(links_max=20)
    ring.grow(15)
    ring.run(6.0)
    assert len(ring.links()) == 15 * 14 / 2


def test_a_large_ring_comes_to_rest_with_few_links_and_works() -> None:
    links_max = 18
    ring = Ring(links_max)
    ring.grow(28)
    ring.run(140.0)
    before = ring.links()
    assert max(len(node.routing_table) for node in ring.nodes) <= links_max + 3
    ring.run(15.0)
    assert len(ring.links() ^ before) <= 4  # a lookup may go a way that none has gone before
    keys = [b"key %d" % number for number in range(10)]
    assert [ring.result(node.set(key, key)) for node, key in zip(ring.nodes, keys, strict=False)] == [
        None
    ] * 10
    assert [ring.result(node.get(key)) for node, key in zip(ring.nodes[10:], keys, strict=False)] == keys
