"""A legacy peer on virtual time, as py2p is: it keeps five tables, and routes by who is nearest at or below.

It has a link to each node of ours that it is given, over transports that go nowhere. Every step of it is
taken by the test, so it may hang, be late, or go at any moment.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from chordtx.chord.service import ChordService
from chordtx.legacy.tables import Place, places_of
from chordtx.ring import HASHES, distance
from chordtx.wire import Message, encode_id, flags
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

STEP_SECONDS = 0.02
PATIENCE_SECONDS = 20.0


class ScriptedPeer:
    """See the module.

    :ivar tables: value by place. :ivar heard: keys that it was told of, by whether they went.
    :ivar hangs: whether it reads nothing. :ivar asked: how often it was asked for a place of its own.
    :ivar deleted_nothing: how often it was told to delete what it does not have.
    """

    def __init__(self, cluster: Cluster, rng: Random, id: int | None = None) -> None:
        self.cluster = cluster
        self.number = rng.getrandbits(384) if id is None else id
        self.is_storing = False
        self.hangs = False
        self.tables: dict[Place, Any] = {}
        self.heard: list[tuple[bytes, bool]] = []
        self.asked = 0
        self.deleted_nothing = 0
        self._rng = rng
        self._links: dict[ChordService, Stranger] = {}
        self._answers: dict[Place, Any] = {}

    # Links

    def link(self, *nodes: ChordService) -> None:
        """Connect to nodes of ours."""
        for node in nodes:
            stranger = Stranger(node, "bin", self._rng)
            stranger.id = encode_id(self.number)
            own, protocol = stranger.id.encode(), node._protocol_id.encode()
            stranger.say(flags.HANDSHAKE, own, protocol, ["10.9.9.9", 4000], [])
            stranger.say(flags.HANDSHAKE, "0" if self.is_storing else "1")
            self._links[node] = stranger

    def join(self) -> None:
        """Begin to store."""
        self.is_storing = True
        for stranger in self._links.values():
            stranger.say(flags.HANDSHAKE, "0")

    def unjoin(self) -> None:
        """Cease to store, and hand on everything that it has, as py2p does."""
        self.is_storing = False
        for stranger in self._links.values():
            stranger.say(flags.HANDSHAKE, "1")
        for place, value in self.tables.items():
            stranger = self.owner(place)
            assert stranger is not None
            stranger.say(flags.STORE, *self._on_wire(place), value)
        self.tables.clear()

    def drop(self, node: ChordService) -> None:
        """A node of ours is gone."""
        del self._links[node]

    def end(self) -> None:
        """All links break."""
        for stranger in self._links.values():
            stranger.end()
        self._links.clear()

    @property
    def is_refused(self) -> bool:
        """Whether some node has ended the link."""
        return any(stranger.gone for stranger in self._links.values())

    def run(self, seconds: float) -> None:
        """Let time pass, and answer meanwhile."""
        until = self.cluster.time.now + seconds
        while self.cluster.time.now < until:
            self.cluster.run(STEP_SECONDS)
            if not self.hangs:
                for stranger in list(self._links.values()):
                    for message in stranger.heard():
                        self._received(stranger, message)

    def _received(self, stranger: Stranger, message: Message) -> None:
        flag, *payload = message.payload
        if flag == flags.RETRIEVE:
            self.asked += 1
            value = self.tables.get(Place.from_legacy(*payload))
            stranger.say(flags.RETRIEVED, *payload, value)
        elif flag == flags.REQUEST:
            stranger.say(flags.PEERS, [])
        elif flag == flags.STORE:
            place = Place.from_legacy(*payload[:2])
            if payload[2] is None:
                self.deleted_nothing += place not in self.tables  # where py2p falls over
                self.tables.pop(place, None)
            else:
                self.tables[place] = payload[2]
        elif flag == flags.DELTA:
            self.tables.setdefault(Place.from_legacy(*payload[:2]), {}).update(payload[2])
        elif flag == flags.RETRIEVED:
            self._answers[Place.from_legacy(*payload[:2])] = payload[2]
        elif flag == flags.NOTIFY:
            self.heard.append((payload[0], len(payload) == 2))

    # What it does

    def owner(self, place: Place) -> Stranger | None:
        """The nearest storing node at or below a place: over which link it is reached; None for itself."""
        ahead = [
            (distance(place.position, node.id_10), stranger)
            for node, stranger in self._links.items()
            if node._ring.is_member and not stranger.gone
        ]
        nearest = min(ahead, key=lambda each: each[0])
        if self.is_storing and distance(place.position, self.number) < nearest[0]:
            return None
        return nearest[1]

    def set(self, key: bytes, value: Any, positions: int = 5, is_told: bool = True) -> None:
        """Store at the key's positions; None deletes.

        :param positions: only at the first of them. :param is_told: whether the key is named to all.
        """
        for place in places_of(key)[:positions]:
            stranger = self.owner(place)
            if stranger is not None:
                stranger.say(flags.STORE, *self._on_wire(place), value)
            elif value is None:
                self.tables.pop(place, None)
            else:
                self.tables[place] = value
        if is_told:
            self.tell(key, value is None)

    def apply_delta(self, key: bytes, delta: dict[str, Any]) -> None:
        """Merge fields at the key's positions."""
        for place in places_of(key):
            stranger = self.owner(place)
            if stranger is not None:
                stranger.say(flags.DELTA, *self._on_wire(place), delta)
            else:
                self.tables[place] = {**self.tables.get(place, {}), **delta}

    def tell(self, key: bytes, is_gone: bool = False) -> None:
        """Broadcast a notify."""
        stranger = next(iter(self._links.values()))
        payload = (flags.NOTIFY, key, b"del") if is_gone else (flags.NOTIFY, key)
        stranger.say(*payload, type=flags.BROADCAST)

    def get(self, key: bytes) -> Any:
        """The value that at least three tables agree on; None when there is none."""
        self._answers = {}
        places = places_of(key)
        for place in places:
            stranger = self.owner(place)
            if stranger is None:
                self._answers[place] = self.tables.get(place)
            else:
                stranger.say(flags.RETRIEVE, *self._on_wire(place))
        late = self.cluster.time.now + PATIENCE_SECONDS
        while len(self._answers) < 5 and self.cluster.time.now < late:
            self.run(STEP_SECONDS)
        texts = Counter(repr(value) for value in self._answers.values())
        text, count = texts.most_common(1)[0]
        assert count >= 3, f"no majority for {key!r}: {texts}"
        return next(value for value in self._answers.values() if repr(value) == text)

    @staticmethod
    def _on_wire(place: Place) -> tuple[bytes, bytes]:
        return HASHES[place.table].encode(), encode_id(place.number).encode()
