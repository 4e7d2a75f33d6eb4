"""Values that mean something to a service: keys, ids, places, records, versions, right ones mostly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any

import msgpack

from chordtx.chord.old_entries import places_of
from chordtx.records import ReplicaSet
from chordtx.records.version import COUNTER_BITS
from chordtx.ring import HASHES, Contact
from chordtx.wire import decode_id, encode_id
from tests.fuzz.world import OWN_KEYS

#: Keys that strangers write; honest ones never do.
FOREIGN_KEYS: list[bytes] = [b"", b"foreign", b"\xff\x00", "schl\u00fcssel".encode(), b"k" * 300]
#: Honest keys have places in five tables. A stranger writes in these only, for three of them are a write.
OWN_TABLES_WRITTEN = 2
VALUES: list[Any] = [
    *(None, 5, "text", b"bytes", [1, [2, []]], {"a": 1}, {"a": {"b": None}, b"c": 2.5}, True, "x" * 3000, {}),
    {str(number): number for number in range(50)},
]
SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS


class Words:
    """
    :param rng: what decides. :param nodes: the one that is fuzzed, then the others.
    :param dialect_text: writes an id as the peer does.
    """

    def __init__(self, rng: Random, nodes: Sequence[Any]) -> None:
        self.rng = rng
        self._nodes = nodes
        self._now_ms = nodes[0]._wall_ms()

    # Who, and where

    def id_text(self) -> str:
        """The id of a node that is there, or of none."""
        rng = self.rng
        return rng.choice([*(node.id for node in self._nodes), encode_id(rng.randrange(9))])

    def position(self) -> bytes:
        """Somewhere on the ring: where a node or a key is, or at its ends."""
        rng = self.rng
        number = rng.choice([0, 1, 2**384 - 1, rng.getrandbits(384)])
        if rng.random() < 0.5:
            number = decode_id(rng.choice(self._nodes).id)
        elif rng.random() < 0.5:
            number = int.from_bytes(hashlib.sha384(self.key()).digest(), "big")
        return int(number).to_bytes(48, "big")

    def address(self) -> list[Any]:
        """Where somebody is reached, or nobody is."""
        node = self.rng.choice(self._nodes)
        return list(self.rng.choice([[*node.out_addr], ["10.9.9.9", 4000], ["127.0.0.1", 0], ["::1", 5]]))

    # Keys

    def key(self) -> bytes:
        """One to read."""
        return self.rng.choice(OWN_KEYS + FOREIGN_KEYS)

    def foreign_key(self) -> bytes:
        """One to write."""
        return self.rng.choice(FOREIGN_KEYS)

    def place(self) -> tuple[int, int]:
        """A table and a position in it, to read."""
        place = self.rng.choice(places_of(self.key()))
        return place.table, place.number

    def place_written(self) -> tuple[int, int]:
        """The same, to write."""
        rng = self.rng
        places = places_of(self.foreign_key())
        if rng.random() < 0.2:
            places = places_of(rng.choice(OWN_KEYS))[:OWN_TABLES_WRITTEN]
        place = rng.choice(places)
        return place.table, place.number

    @staticmethod
    def place_to_wire(place: tuple[int, int]) -> list[Any]:
        """As our own nodes write it."""
        return [place[0], place[1].to_bytes(64, "big")]

    @staticmethod
    def place_to_old(place: tuple[int, int]) -> list[str]:
        """As old peers do, as text."""
        return [HASHES[place[0]], encode_id(place[1])]

    # What is stored

    def value(self) -> Any:
        """A value as users know it."""
        return self.rng.choice(VALUES)

    def packed(self) -> bytes:
        """A value as records hold it."""
        packed: bytes = msgpack.packb(self.value())
        return packed

    def map(self) -> dict[Any, Any]:
        """What a delta writes."""
        if self.rng.random() < 0.02:
            return dict.fromkeys(range(5000))
        return {self.rng.choice(["a", "b", b"c"]): self.value() for _ in range(self.rng.randrange(3))}

    def clock(self) -> int:
        """A version's: about now, or another time."""
        rng = self.rng
        shift_ms = rng.choice([0, 0, -HOUR_MS, -100 * HOUR_MS, HOUR_MS // 2, 2 * HOUR_MS])
        return max(0, self._now_ms + shift_ms << COUNTER_BITS) + rng.randrange(3)

    def writer(self) -> bytes:
        """A version's."""
        return self.id_text().encode()

    def expiry_ms(self) -> int | None:
        """Of a record."""
        return self.rng.choice(
            [None, None, 0, self._now_ms + 100, self._now_ms - 100, self._now_ms + HOUR_MS]
        )

    def record(self) -> list[Any]:
        """As it is on the wire."""
        rng = self.rng
        value = None if rng.random() < 0.2 else self.packed()
        names = rng.sample([b"\xa1a", b"\xa1b", b"\x01"], rng.choice([0, 0, 0, 1, 3]))
        fields = [[name, self.clock(), self.writer(), self.packed()] for name in names]
        return [self.clock(), self.writer(), value, self.expiry_ms(), fields]

    def entry(self) -> list[Any]:
        """A record of a synchronized dict."""
        rng = self.rng
        seconds = self._now_ms // SECOND_MS
        return [rng.randrange(3), seconds - rng.randrange(9), self.writer(), self.record()]

    def tag(self) -> bytes:
        """The set of those that keep a key."""
        contacts = [Contact(node.id_10, *node.out_addr) for node in self._nodes]
        return self.rng.choice([b"", ReplicaSet.of(contacts).tag, ReplicaSet.of(contacts[:2]).tag, bytes(18)])

    def digest(self) -> bytes:
        """Of a record, or of many."""
        return self.rng.randbytes(8)

    def ids(self) -> list[bytes]:
        """A neighbourhood."""
        ids = [node.id_10.to_bytes(48, "big") for node in self._nodes]
        return self.rng.sample(ids, self.rng.randrange(1, len(ids) + 1))

    def seconds(self) -> int:
        """Unix time."""
        return self._now_ms // SECOND_MS - self.rng.choice([0, 0, 1, 30, 59, 90, -5, -7200])
