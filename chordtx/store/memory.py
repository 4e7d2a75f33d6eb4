"""Records in memory: gone with the process."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha384

import msgpack
from twisted.internet.defer import Deferred
from zope.interface import implementer

from chordtx.records import Record, merge
from chordtx.ring import BITS, NAMING_TOP, tops_of
from chordtx.store.interface import IStore

# Keys are filed by the first bits of the position that names them, so that a page of them is found
# without keeping all in order: at a million keys a bucket holds 250, sorted when it is asked for.
_BUCKET_BITS = 12
_SHIFT = BITS - _BUCKET_BITS
KEY_OVERHEAD_BYTES = 150


def naming_position(key: bytes) -> int:
    """The position whose owner names ``key`` when all keys are listed: that of SHA-384."""
    return int.from_bytes(sha384(key).digest(), "big")


def _bucket_of(key: bytes) -> int:
    """The first bits of :func:`naming_position`."""
    return int.from_bytes(tops_of(key)[NAMING_TOP : NAMING_TOP + 2], "big") >> 16 - _BUCKET_BITS


@implementer(IStore)
class MemoryStore:
    """See :class:`~chordtx.store.IStore`."""

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._buckets: dict[int, set[bytes]] = {}
        self.bytes_used = 0

    def get(self, key: bytes) -> Record | None:
        """See :meth:`IStore.get`."""
        return self._records.get(key)

    def merge(self, key: bytes, record: Record) -> Record:
        """See :meth:`IStore.merge`."""
        before = self._records.get(key)
        if before is None:
            self._buckets.setdefault(_bucket_of(key), set()).add(key)
            self._records[key] = record
            self.bytes_used += len(key) + KEY_OVERHEAD_BYTES + record.cost_bytes
            return record
        after = merge(before, record)
        assert after is not None
        self._records[key] = after
        self.bytes_used += after.cost_bytes - before.cost_bytes
        return after

    def drop(self, key: bytes) -> None:
        """See :meth:`IStore.drop`."""
        record = self._records.pop(key, None)
        if record is not None:
            bucket = _bucket_of(key)
            self._buckets[bucket].discard(key)
            if not self._buckets[bucket]:
                del self._buckets[bucket]
            self.bytes_used -= record.cost_bytes + len(key) + KEY_OVERHEAD_BYTES

    def synced(self) -> Deferred[None] | None:
        """See :meth:`IStore.synced`."""
        return None

    def close(self) -> Deferred[None] | None:
        """See :meth:`IStore.close`: the records stay, for a service that is started again."""
        return None

    def keys(self) -> Iterator[bytes]:
        """See :meth:`IStore.keys`."""
        return iter(list(self._records))

    def packed(self) -> Iterator[tuple[bytes, bytes]]:
        """See :meth:`IStore.packed`."""
        for key in self.keys():
            record = self._records.get(key)
            if record is not None:
                yield key, msgpack.packb(record.to_wire())

    def keys_down_from(self, position: int, low: int, limit: int) -> list[tuple[int, bytes]]:
        """See :meth:`IStore.keys_down_from`."""
        found: list[tuple[int, bytes]] = []
        for bucket in range(position >> _SHIFT, (low >> _SHIFT) - 1, -1):
            placed = [(naming_position(key), key) for key in self._buckets.get(bucket, ())]
            found.extend(sorted((entry for entry in placed if low <= entry[0] <= position), reverse=True))
            if len(found) >= limit:
                break
        return found[:limit]

    def __len__(self) -> int:
        return len(self._records)
