"""The digest tree of a partition: two states find out where they differ, for a few bytes a record.

A record is told by 16 bytes of a hash of its key and its rank: a rank is used for one content only. Records
are parted into leaves by a hash of their keys, and a leaf is told by a hash of its records. So 4 KiB tell
where two states differ; then 16 bytes for each record in these leaves tell which records are lacking, on
either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgpack

from chordtx.group.record import Record
from chordtx.group.state import Client, client_to_wire

LEAVES = 256
DIGEST_BYTES = 16


class Digests:
    """The digests of a state that stands still.

    :ivar leaves: for each leaf, keys by their records' digests.
    :ivar tree: the leaves' digests, one after the other: 4 KiB.
    """

    __slots__ = ("leaves", "tree")

    def __init__(self, records: Mapping[bytes, Record]) -> None:
        leaves: list[dict[bytes, bytes]] = [_NO_RECORDS] * LEAVES
        for key, record in records.items():
            leaf = leaf_of(key)
            if leaves[leaf] is _NO_RECORDS:
                leaves[leaf] = {}
            leaves[leaf][digest_of(key, record)] = key
        self.leaves = leaves
        self.tree = b"".join([_leaf_digest(each) if each else _EMPTY_LEAF for each in self.leaves])

    def leaves_unlike(self, tree: bytes) -> list[int]:
        """Those that are not as in another tree. An empty tree has nothing in any leaf."""
        if not tree:
            return [leaf for leaf, entries in enumerate(self.leaves) if entries]
        mine = self.tree
        places = range(0, len(mine), DIGEST_BYTES)
        return [
            place // DIGEST_BYTES
            for place in places
            if mine[place : place + DIGEST_BYTES] != tree[place : place + DIGEST_BYTES]
        ]


def leaf_of(key: bytes) -> int:
    """The leaf that a key belongs to."""
    return blake2b(key, digest_size=1).digest()[0]


def digest_of(key: bytes, record: Record) -> bytes:
    """What stands for a record."""
    return blake2b(msgpack.packb((key, record.rank)), digest_size=DIGEST_BYTES).digest()


def clients_digest(clients: Mapping[bytes, Client]) -> bytes:
    """What stands for all that is remembered of clients."""
    parts = blake2b(digest_size=DIGEST_BYTES)
    for id in sorted(clients):
        parts.update(msgpack.packb((id, client_to_wire(clients[id]))))
    return parts.digest()


def _leaf_digest(entries: Iterable[bytes]) -> bytes:
    return blake2b(b"".join(sorted(entries)), digest_size=DIGEST_BYTES).digest()


#: As most leaves are in a partition of few records.
_EMPTY_LEAF = _leaf_digest(())
_NO_RECORDS: dict[bytes, bytes] = {}
