"""What a node's records have in common with each other node's, in brief: for two to find out what differs.

For each other member there is a :class:`~chordtx.records.Tree` over the records that both keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Any, NamedTuple

import msgpack

from chordtx.chord.routing import Routing
from chordtx.mesh.waiting import Shared
from chordtx.records import LEAVES, Record, ReplicaSet, Tree, Unknown, WholeRing, digest
from chordtx.ring import NAMING_TOP, Contact, tops_of
from chordtx.store import IStore

_KEY_BYTES = Struct(">I")
_REMEMBERED_MAX = 50_000
_SLICE_KEYS = 500
_SLICE_PAUSE_SECONDS = 0.002

Members = tuple[int, ...]


def digest_of(key: bytes, record: Record) -> int:
    """The digest of a record, its version and fields included: the same exactly when all of it is."""
    return _digest_of_packed(key, msgpack.packb(record.to_wire()))


def _digest_of_packed(key: bytes, packed: bytes) -> int:
    return digest(_KEY_BYTES.pack(len(key)) + key + packed)


class _Filed(NamedTuple):
    """How a record was filed, so that it can be taken out again, or filed anew without hashing its key.

    :ivar members: the ids of those that share it. :ivar tops: the first 64 bits of each of its positions.
    """

    digest: int
    members: Members
    tops: bytes

    @property
    def leaf(self) -> int:
        return self.tops[NAMING_TOP]


def _others(contacts: Iterable[Contact], own_id: int) -> tuple[Members, bool]:
    """The ids of those that are not us, and whether we are not among them."""
    ids = [contact.id for contact in contacts]
    return tuple(id for id in ids if id != own_id), own_id not in ids


class Shares:
    """One node's trees.

    :param node: the service: ``sleep``, ``_run``. :param own_id: ours. :param routing: tells who keeps a key.
    """

    def __init__(self, node: Any, own_id: int, routing: Routing, store: IStore) -> None:
        self._node = node
        self._own_id = own_id
        self._routing = routing
        self._store = store
        self._trees: dict[int, Tree] = {}
        self._filed: dict[bytes, _Filed] = {}
        self._by_leaf: list[dict[bytes, None]] = [{} for _ in range(LEAVES)]  # sets, in order
        self._strays: dict[bytes, None] = {}
        self._whole: WholeRing | None = None
        self._others: dict[ReplicaSet, tuple[Members, bool]] = {}  # in that ring
        self._filed_epoch = -1
        self._has_unfiled = False
        self._has_read_all = False
        self._dropped: set[bytes] = set()  # before that
        self._refreshing: Shared[None] | None = None

    def merged(self, key: bytes, record: Record) -> None:
        """A record is in the store now."""
        digest = digest_of(key, record)
        filed = self._filed.get(key)
        if filed is None:
            tops = self._noted(key)
            members = self._members(key, tops)
        elif filed.digest == digest:
            return
        else:
            self._toggle(filed)
            members, tops = filed.members, filed.tops
        self._filed[key] = filed = _Filed(digest, members, tops)
        self._toggle(filed)

    def _noted(self, key: bytes) -> bytes:
        tops = tops_of(key)
        self._by_leaf[tops[NAMING_TOP]][key] = None
        return tops

    def dropped(self, key: bytes) -> None:
        """A record is in the store no more."""
        filed = self._filed.pop(key, None)
        self._strays.pop(key, None)
        if not self._has_read_all:
            self._dropped.add(key)
        if filed is not None:
            self._toggle(filed)
            del self._by_leaf[filed.leaf][key]

    async def refresh(self) -> None:
        """File everything anew by who keeps it now, where that has changed; a slice at a time, and once for
        all who wait for it.

        :raises ChordError: when it cannot be found out who keeps something.
        """
        while self._filed_epoch != self._routing.arcs.epoch or self._has_unfiled:
            if self._refreshing is None or self._refreshing.is_done:
                self._refreshing = Shared(self._node._run(self._file_all()))
            await self._refreshing.wait()

    async def _file_all(self) -> None:
        epoch, self._has_unfiled = self._routing.arcs.epoch, False
        if not self._has_read_all:
            await self._read_all()
        for count, key in enumerate(list(self._filed), start=1):
            if count % _SLICE_KEYS == 0:
                await self._node.sleep(_SLICE_PAUSE_SECONDS)
            if self._routing.arcs.everyone() is None and isinstance(
                self._routing.known_replica_set(key), Unknown
            ):
                await self._routing.replica_set(key)
            self._file(key)
        self._filed_epoch = epoch

    async def _read_all(self) -> None:
        """Note down what was in the store at the start; nobody shares it yet."""
        for count, (key, packed) in enumerate(self._store.packed(), start=1):
            if count % _SLICE_KEYS == 0:
                await self._node.sleep(_SLICE_PAUSE_SECONDS)
            if key not in self._filed and key not in self._dropped:
                self._filed[key] = _Filed(_digest_of_packed(key, packed), (), self._noted(key))
        self._has_read_all = True
        self._dropped.clear()

    def _file(self, key: bytes) -> None:
        filed = self._filed.get(key)
        if filed is None:
            return  # dropped meanwhile
        members = self._members(key, filed.tops)
        if members != filed.members:
            self._toggle(filed)
            self._filed[key] = filed = _Filed(filed.digest, members, filed.tops)
            self._toggle(filed)

    def _members(self, key: bytes, tops: bytes) -> Members:
        """The ids of those that are to have a key too; notes it down when it is not ours to keep.

        What is not ours is shared too: with those whose it is, who may have come all at once and lack it.
        """
        kept_by = self._kept_by(key, tops)
        if kept_by is None:
            self._has_unfiled = True
            return ()
        members, is_stray = kept_by
        if is_stray:
            self._strays[key] = None
        else:
            self._strays.pop(key, None)
        return members

    def _kept_by(self, key: bytes, tops: bytes) -> tuple[Members, bool] | None:
        whole = self._routing.whole_ring()
        if whole is None:
            known = self._routing.known_replica_set(key)
            return None if isinstance(known, Unknown) else _others(known, self._own_id)
        if whole is not self._whole:
            self._whole, self._others = whole, {}
        kept_by = whole.replica_set(key, tops)
        found = self._others.get(kept_by)
        if found is None:
            found = _others(kept_by.contacts, self._own_id)
            if len(self._others) < _REMEMBERED_MAX:
                self._others[kept_by] = found
        return found

    def _toggle(self, filed: _Filed) -> None:
        leaf, digest = filed.leaf, filed.digest
        for id in filed.members:
            tree = self._trees.get(id)
            if tree is None:
                tree = self._trees[id] = Tree()
            tree.root ^= digest
            tree.leaves[leaf] ^= digest

    # What is asked

    def tree(self, id: int) -> Tree:
        """What we share with the member of this id, as of the last :meth:`refresh` and all writes since."""
        return self._trees.get(id) or Tree()

    def listed(self, id: int, leaf: int) -> Iterator[tuple[bytes, int]]:
        """The keys of one leaf that we share with a member, and their digests."""
        for key in self._by_leaf[leaf]:
            filed = self._filed[key]
            if id in filed.members:
                yield key, filed.digest

    def digest(self, key: bytes) -> int | None:
        """That of what is stored under a key, None when nothing is."""
        filed = self._filed.get(key)
        if filed is not None:
            return filed.digest
        record = self._store.get(key)
        return None if record is None else digest_of(key, record)

    def strays(self) -> list[bytes]:
        """What is stored here and is others' to keep."""
        return list(self._strays)
