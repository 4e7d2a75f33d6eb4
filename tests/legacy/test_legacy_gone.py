"""A legacy peer leaves: what it hands on undoes nothing, and nothing is kept of it."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

import pytest

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.legacy.tables import places_of
from chordtx.mesh import MeshConnection
from chordtx.ring import SIZE
from chordtx.wire import encode_id, flags
from tests.legacy.test_legacy_scripted import Ring, owning_all, taken_whole
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

KEYS = [b"key %d" % number for number in range(8)]


class Storing(Stranger):
    """A legacy peer that stores, right before a node of ours: nearly all of that one's positions are its own.

    :param answers: whether it says what it has (nothing); else it is silent.
    """

    def __init__(self, node: ChordService, rng: Random, answers: bool) -> None:
        super().__init__(node, "bin", rng)
        self._answers = answers
        self.id = encode_id((node.id_10 + rng.randrange(1, 1 << 370)) % SIZE)
        self.say(flags.HANDSHAKE, self.id.encode(), node._protocol_id.encode(), ["10.9.9.9", 4000], [])
        self.say(flags.HANDSHAKE, "0")

    def answer(self) -> int:
        """Say what it has where it is asked. :returns: how often it was asked."""
        asked = [message for message in self.heard() if message.payload[0] == flags.RETRIEVE]
        for message in asked if self._answers else ():
            self.say(flags.RETRIEVED, *message.payload[1:], None)
        return len(asked)


def closed_links(node: ChordService) -> list[MeshConnection]:
    gc.collect()
    links: list[Any] = [each for each in gc.get_objects() if isinstance(each, MeshConnection)]
    return [link for link in links if link.closed and link.owner is node]


def test_nothing_is_kept_of_legacy_peers_that_went_while_they_were_told_and_asked() -> None:
    nodes, settings = Cluster(ChordService), ChordSettings(partition_bits=3)
    ours: list[ChordService] = []
    for _ in range(3):
        ours.append(nodes.start(*ours[:1], subnet="chord", settings=settings))
        nodes.result(ours[-1].when_joined())
    rng, asked = Random(1), 0
    for key in KEYS:
        nodes.result(ours[0].set(key, "value"))
    for number in range(40):
        peer = Storing(ours[0], rng, answers=number % 2 == 0)
        # Gone before, while and after it is asked for the first time, and told what is nearest to it; perhaps
        # while a record is read for it.
        for _ in range(number % 8):
            for _ in range(10):
                nodes.run(0.02)
                asked += peer.answer()
            for key in rng.sample(KEYS, 3):
                nodes.result(ours[0].set(key, number))
        nodes.run(rng.uniform(0, 0.03))
        peer.end()
    assert asked > 100
    del peer
    nodes.run(60)
    assert not closed_links(ours[0])
    assert nodes.result(ours[0].get(KEYS[0])) is not None


@pytest.mark.parametrize("seconds", [0, 0.01, 0.02, 0.04, 0.1, 1])
def test_what_it_hands_on_undoes_no_write_of_just_before(seconds: float) -> None:
    ring = Ring(1)
    owning_all(ring)
    peer = ring.link()
    keys = taken_whole(ring, 6)
    for key in keys:
        ring.done(ring.ours[0].set(key, "old"))
        ring.until(lambda key=key: peer.get(key) == "old")
    peer.run(4)
    for key in keys[:3]:
        ring.result(ring.ours[0].set(key, "new"))
    for key in keys[3:]:
        peer.set(key, "theirs", is_told=False)
    if seconds:
        peer.run(seconds)
    peer.unjoin()
    peer.run(6)
    assert [ring.get(key) for key in keys] == ["new"] * 3 + ["theirs"] * 3


def test_what_it_has_had_for_long_undoes_nothing() -> None:
    """py2p hands its entries to nodes that are nearer, and keeps a copy."""
    ring = Ring()
    peer = ring.peer
    for key in KEYS:
        for place in places_of(key):
            peer.tables[place] = "old"
    ring.link()
    for key in KEYS:
        ring.done(ring.ours[0].set(key, "new"))
        ring.until(lambda key=key: peer.get(key) == "new")
    peer.run(4)
    peer.unjoin()
    peer.run(6)
    assert [ring.get(key) for key in KEYS] == ["new"] * len(KEYS)
