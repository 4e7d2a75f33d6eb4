"""Values that mean something to a service: keys, ids, places, records, versions, right ones mostly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any

import msgpack

from chordtx.chord.ring_identity import RING_ID_BYTES, RingIdentity
from chordtx.group.locks import LEASE_MS_MAX
from chordtx.group.messages import Message
from chordtx.group.operations import (
    COMPARE_AND_SET,
    COUNT,
    DELETE,
    DELTA,
    GET,
    INCREMENT,
    KINDS,
    LIST,
    LOCK,
    READS,
    RENEW,
    SET,
    TAKE,
    TOUCH,
    UNLOCK,
    WATCH,
    WATCH_MS_MAX,
)
from chordtx.group.rank import COUNT_MAX, NO_RANK
from chordtx.legacy.tables import places_of
from chordtx.ring import HASHES
from chordtx.ring.partitions import partition_of
from chordtx.sync.version import COUNTER_BITS
from chordtx.wire import decode_id, encode_id
from tests.fuzz.members import CLIENTS, Telling
from tests.fuzz.world import OWN_KEYS, PARTITION_BITS

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
    :param id: of the stranger who speaks.
    """

    def __init__(self, rng: Random, nodes: Sequence[Any], id: str) -> None:
        self.rng = rng
        self._nodes = nodes
        self._id = _id_bytes(id)
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

    def node_bytes(self) -> bytes:
        """The id of a node that is there, or of the stranger, as groups have it."""
        return self.rng.choice([*self._node_ids(), self._id])

    def _node_ids(self) -> list[bytes]:
        return [_id_bytes(node.id) for node in self._nodes]

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
        """As legacy peers do, as text."""
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

    def digest(self) -> bytes:
        """Of a record, or of many."""
        return self.rng.randbytes(8)

    def seconds(self) -> int:
        """Unix time."""
        return self._now_ms // SECOND_MS - self.rng.choice([0, 0, 1, 30, 59, 90, -5, -7200])

    # Groups

    def identity(self) -> RingIdentity:
        """Of the ring, as far as it is known; or of another one."""
        known = self._nodes[0]._identity
        other = RingIdentity(bytes(RING_ID_BYTES), PARTITION_BITS, 3)
        return other if known is None or self.rng.random() < 0.2 else known

    def standing(self) -> list[Any]:
        """What a node tells of itself."""
        rng = self.rng
        ring = rng.choice([None, *[self.identity().to_wire()] * 3])
        starts = rng.choice([0, 0, 1, 10**6, COUNT_MAX])
        return [ring, *(rng.random() < 0.2 for _ in range(3)), starts, rng.random() < 0.5, rng.random() < 0.2]

    def partition(self) -> int:
        """One that there is."""
        return self.rng.randrange(1 << PARTITION_BITS)

    def partitions(self) -> list[int]:
        """Some, or all that there are."""
        return self.rng.sample(range(1 << PARTITION_BITS), self.rng.choice([0, 1, 3, 1 << PARTITION_BITS]))

    def contact(self) -> list[Any]:
        """Where a node is, or where nobody is."""
        return [self.position(), *self.address()]

    def row(self) -> list[Any]:
        """Who ought to keep something."""
        return [[self.contact(), self.rng.random() < 0.3] for _ in range(self.rng.choice([1, 1, 3, 32]))]

    def telling(self, partition: int) -> Telling:
        """What the stranger might tell of a group."""
        hosting = getattr(self._nodes[0], "_hosting", None)  # no ring, no groups
        group = None if hosting is None else hosting.groups.groups.get(partition)
        replica = None if group is None else group.replica
        values = [msgpack.packb(value) for value in VALUES]
        keys = OWN_KEYS + FOREIGN_KEYS
        return Telling(self.rng, self._id, self._node_ids(), replica, self._now_ms, keys, values)

    def told(self) -> tuple[int, Message]:
        """A message, and the partition that it is of."""
        partition = self.partition()
        return partition, self.telling(partition).message()

    def rank(self) -> Any:
        """Of a record that may be there, or of none."""
        return self.rng.choice([NO_RANK, self.telling(self.partition()).rank()])

    def operation(self) -> list[Any]:
        """``[partition, client, number, answered, stamp, kind, key, arguments]``, of a read without
        the three numbers. Only foreign keys are written."""
        rng = self.rng
        kind = rng.randrange(KINDS)
        key = self.key() if kind in READS else self.foreign_key()
        partition = partition_of(key, PARTITION_BITS) if rng.random() < 0.8 else self.partition()
        if kind in READS and rng.random() < 0.9:
            return [partition, rng.choice(CLIENTS), kind, key, self._arguments(kind)]
        number = rng.choice([0, 1, 2, 5, 10**6, COUNT_MAX])
        answered = max(0, number - rng.choice([1, 1, 2, 5]))
        stamp = rng.choice([NO_RANK, NO_RANK, self.rank()])
        client = rng.choice([*CLIENTS, rng.randbytes(16), b"legacy\0\0"])
        return [partition, client, number, answered, stamp, kind, key, self._arguments(kind)]

    def _expires(self) -> Any:
        return self.rng.choice(
            [None, None, 0, 100, 60_000, COUNT_MAX, [self._now_ms + 100], [1], [COUNT_MAX]]
        )

    def _arguments(self, kind: int) -> list[Any]:
        rng = self.rng
        value = rng.choice([self.packed(), self.packed(), None])
        version = rng.choice([None, self.rank()])
        limit = rng.choice([1, 5, 1000])
        return {
            GET: [],
            SET: [value, self._expires()],
            DELETE: [version],
            COMPARE_AND_SET: [version, value, self._expires()],
            DELTA: [msgpack.packb(self.map())],
            INCREMENT: [msgpack.packb(rng.choice([1, -5, 2.5, 2**64 - 1, -(2**63), 1e308]))],
            TAKE: [],
            TOUCH: [self._expires()],
            LIST: [rng.choice([b"", b"h"]), rng.choice([None, self.key()]), limit, rng.random() < 0.5],
            COUNT: [rng.choice([b"", b"h"])],
            WATCH: [rng.choice([b"", b"h"]), rng.random() < 0.5, version, rng.choice([0, 100, WATCH_MS_MAX])],
            LOCK: [rng.choice(["me", "you"]), rng.choice([1, 1000, LEASE_MS_MAX]), rng.random() < 0.5],
            RENEW: [rng.choice(["me", "you"]), rng.choice([1, 1000, LEASE_MS_MAX])],
            UNLOCK: [rng.choice(["me", "you"])],
        }[kind]

    def answer(self) -> list[Any]:
        """What an operation comes to."""
        rng = self.rng
        details = [
            None,
            5,
            1.5,
            self.packed(),
            [self.packed(), 0, self.rank()],
            self.rank(),
            self.node_bytes(),
        ]
        page = [[[self.key(), self.packed(), 0, self.rank()]], rng.random() < 0.5]
        status = rng.choice([*range(5), *range(32, 37)])
        return [status, rng.choice([*details, page]), self.rank(), self.rank()]

    def opinion(self) -> list[Any]:
        """What a legacy peer says."""
        rng = self.rng
        is_delta = rng.random() < 0.2
        value = msgpack.packb(self.map()) if is_delta else rng.choice([None, self.packed()])
        return [rng.randrange(4), is_delta, value, rng.choice([None, self.rank()]), rng.randrange(9)]


def _id_bytes(id: str) -> bytes:
    return decode_id(id).to_bytes(48, "big")
