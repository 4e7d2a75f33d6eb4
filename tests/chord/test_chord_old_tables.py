"""What is known of an old peer's tables goes with the link to it, whatever is under way just then."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

from chordtx.chord import ChordService
from chordtx.mesh import MeshConnection
from chordtx.wire import flags
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

KEYS = [b"key %d" % number for number in range(20)]


class Storing(Stranger):
    """An old peer that stores.

    :param answers: whether it says what it has (nothing); else it is silent.
    """

    def __init__(self, node: ChordService, rng: Random, answers: bool) -> None:
        super().__init__(node, "bin", rng)
        self._answers = answers
        self.say(flags.HANDSHAKE, self.id.encode(), node._protocol_id.encode(), ["10.9.9.9", 4000], [])
        self.say(flags.HANDSHAKE, "0")

    def answer(self) -> None:
        """Say what it has where it is asked."""
        for message in self.heard():
            if message.payload[0] == flags.RETRIEVE and self._answers:
                self.say(flags.RETRIEVED, *message.payload[1:], None)


def closed_links(node: ChordService) -> list[MeshConnection]:
    gc.collect()
    links: list[Any] = [each for each in gc.get_objects() if isinstance(each, MeshConnection)]
    return [link for link in links if link.closed and link.owner is node]


def test_nothing_is_kept_of_old_peers_that_went_while_they_were_told_and_asked() -> None:
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord")
    nodes.run(3)
    rng = Random(1)
    for key in KEYS:
        nodes.result(node.set(key, "value"))
    for number in range(40):
        peer = Storing(node, rng, answers=number % 2 == 0)
        # Gone before, while and after it is asked for the first time, and told what is nearest to it.
        for _ in range(number % 8):
            nodes.run(0.2)
            peer.answer()
            for key in rng.sample(KEYS, 3):
                node[key] = number
        peer.end()
    del peer
    nodes.run(60)
    assert not closed_links(node)
    assert nodes.result(node.get(KEYS[0])) is not None
