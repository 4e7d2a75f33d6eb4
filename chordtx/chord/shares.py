"""What a node's records have in common with each other node's, in brief: for two to find out what differs.

For each other member there is a tree of two levels over the records that both keep: 256 leaves, by the first
byte of the key's SHA-384, each the exclusive or of its records' digests; the root is that of all leaves. So a
write costs a few operations per replica, two nodes that agree find that out by comparing one number, and
two that do not list the records of the leaves that differ. (A Merkle tree's middle levels would save
little: all leaves fit into one packet or two.)
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgpack

from chordtx.chord.routing import Routing
from chordtx.records import Record, Unknown
from chordtx.ring import BITS
from chordtx.store import IStore
from chordtx.store.memory import naming_position

LEAVES = 256
DIGEST_BYTES = 8
_LEAF_SHIFT = BITS - 8
_SLICE_KEYS = 100
_SLICE_PAUSE_SECONDS = 0.002
_ALL = 1 << 62

Members = tuple[int, ...]


def digest_of(key: bytes, record: Record) -> int:
    """The digest of a record, its version and fields included: the same exactly when all of it is."""
    packed: bytes = msgpack.packb([key, record.to_wire()])
    return int.from_bytes(blake2b(packed, digest_size=DIGEST_BYTES).digest(), "big")


def leaf_of(key: bytes) -> int:
    """The leaf that a key belongs to."""
    return naming_position(key) >> _LEAF_SHIFT


class Tree:
    """What is shared with one other member.

    :ivar root: the exclusive or of all digests. :ivar leaves: the same for each leaf.
    """

    __slots__ = ("leaves", "root")

    def __init__(self) -> None:
        self.root = 0
        self.leaves = [0] * LEAVES

    def toggle(self, leaf: int, digest: int) -> None:
        """Put a record in, or take it out."""
        self.root ^= digest
        self.leaves[leaf] ^= digest


class Shares:
    """One node's trees.

    :param node: the service: ``sleep``. :param own_id: ours. :param routing: tells who keeps a key.
    """

    def __init__(self, node: Any, own_id: int, routing: Routing, store: IStore) -> None:
        self._node = node
        self._own_id = own_id
        self._routing = routing
        self._store = store
        self._trees: dict[int, Tree] = {}
        # Under what each record was filed, so that it can be taken out again: digest, and who shares it.
        self._filed: dict[bytes, tuple[int, Members]] = {}
        self._strays: dict[bytes, None] = {}
        self._filed_epoch = -1
        self._has_unfiled = False

    def merged(self, key: bytes, record: Record) -> None:
        """A record is in the store now."""
        digest = digest_of(key, record)
        filed = self._filed.get(key)
        if filed is not None:
            if filed[0] == digest:
                return
            self._toggle(key, filed)
            members = filed[1]
        else:
            members = self._members(key)
        entry = digest, members
        self._filed[key] = entry
        self._toggle(key, entry)

    def dropped(self, key: bytes) -> None:
        """A record is in the store no more."""
        filed = self._filed.pop(key, None)
        self._strays.pop(key, None)
        if filed is not None:
            self._toggle(key, filed)

    async def refresh(self) -> None:
        """File everything anew by who keeps it now, where that has changed; a slice at a time.

        :raises ChordError: when it cannot be found out who keeps something.
        """
        arcs = self._routing.arcs
        while self._filed_epoch != arcs.epoch or self._has_unfiled:
            epoch, self._has_unfiled = arcs.epoch, False
            for count, key in enumerate(self._store.keys(), start=1):
                if count % _SLICE_KEYS == 0:
                    await self._node.sleep(_SLICE_PAUSE_SECONDS)
                if isinstance(self._routing.known_replica_set(key), Unknown):
                    await self._routing.replica_set(key)
                self._file(key)
            self._filed_epoch = epoch

    def _file(self, key: bytes) -> None:
        members = self._members(key)
        filed = self._filed.get(key)
        if filed is None:
            record = self._store.get(key)
            if record is not None:
                self.merged(key, record)
        elif filed[1] != members:
            self._toggle(key, filed)
            self._filed[key] = entry = filed[0], members
            self._toggle(key, entry)

    def _members(self, key: bytes) -> Members:
        """The ids of those that are to have a key too; notes it down when it is not ours to keep.

        What is not ours is shared too: with those whose it is, who may have come all at once and lack it.
        """
        known = self._routing.known_replica_set(key)
        if isinstance(known, Unknown):
            self._has_unfiled = True
            return ()
        ids = [contact.id for contact in known]
        if self._own_id in ids:
            self._strays.pop(key, None)
            return tuple(id for id in ids if id != self._own_id)
        self._strays[key] = None
        return tuple(ids)

    def _toggle(self, key: bytes, entry: tuple[int, Members]) -> None:
        digest, members = entry
        leaf = leaf_of(key)
        for id in members:
            tree = self._trees.get(id)
            if tree is None:
                tree = self._trees[id] = Tree()
            tree.toggle(leaf, digest)

    # What is asked

    def tree(self, id: int) -> Tree:
        """What we share with the member of this id, as of the last :meth:`refresh` and all writes since."""
        return self._trees.get(id) or Tree()

    def listed(self, id: int, leaf: int) -> Iterator[tuple[bytes, int]]:
        """The keys of one leaf that we share with a member, and their digests."""
        first = leaf << _LEAF_SHIFT
        last = first + (1 << _LEAF_SHIFT) - 1
        for _, key in self._store.keys_down_from(last, first, _ALL):
            filed = self._filed.get(key)
            if filed is not None and id in filed[1]:
                yield key, filed[0]

    def digest(self, key: bytes) -> int | None:
        """That of what is stored under a key, None when nothing is."""
        filed = self._filed.get(key)
        if filed is not None:
            return filed[0]
        record = self._store.get(key)
        return None if record is None else digest_of(key, record)

    def strays(self) -> list[bytes]:
        """What is stored here and is others' to keep."""
        return list(self._strays)
