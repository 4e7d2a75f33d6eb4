"""A node's full copy: every entry in memory, and a digest tree over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha384
from heapq import heappop, heappush
from typing import Any

import msgpack

from chordtx.sync.entry import Entry, joined
from chordtx.sync.tree import LEAVES, Tree, digest

_KEY_OVERHEAD_BYTES = 300  # about what a key costs beside its bytes and its record


class Replica:
    """All entries that a node has.

    :ivar tree: over all of them. :ivar bytes_used: about what they take.
    """

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._digests: list[dict[bytes, int]] = [{} for _ in range(LEAVES)]
        self._expiries: list[tuple[int, bytes]] = []
        self.tree = Tree()
        self.bytes_used = 0

    def __len__(self) -> int:
        """How many, those deleted too."""
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """What is kept under ``key``, also when it is deleted."""
        return self._entries.get(key)

    def keys(self) -> list[bytes]:
        """All keys, those of deleted ones too, as of now."""
        return list(self._entries)

    def is_alive(self, key: bytes, now_ms: int) -> bool:
        """Whether ``key`` has a value."""
        entry = self._entries.get(key)
        return entry is not None and entry.record.alive(now_ms)

    def packed_value(self, key: bytes, now_ms: int) -> bytes | None:
        """The value of ``key``, None when there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.record.packed_value(now_ms)

    def merge(self, key: bytes, entry: Entry) -> tuple[Entry | None, Entry]:
        """Merge an entry in.

        :returns: what was there before, and what is there now.
        """
        before = self._entries.get(key)
        after = joined(before, entry)
        assert after is not None
        if after != before:
            self._put(key, before, after)
        return before, after

    def _put(self, key: bytes, before: Entry | None, after: Entry) -> None:
        if before is not None:
            self._take_out(key, before)
        self._entries[key] = after
        leaf = leaf_of(key)
        self._digests[leaf][key] = value = digest_of(key, after)
        self.tree.toggle(leaf, value)
        self.bytes_used += _cost_bytes(key, after)
        if after.record.expiry_ms is not None:
            heappush(self._expiries, (after.record.expiry_ms, key))

    def _take_out(self, key: bytes, entry: Entry) -> None:
        leaf = leaf_of(key)
        self.tree.toggle(leaf, self._digests[leaf].pop(key))
        self.bytes_used -= _cost_bytes(key, entry)

    def forget(self, key: bytes) -> None:
        """Drop an entry, as if it had never been there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._take_out(key, entry)

    def growth_bytes(self, key: bytes, entry: Entry) -> int:
        """About how many bytes more it would take to have ``entry`` under ``key``."""
        present = self._entries.get(key)
        return _cost_bytes(key, entry) - (0 if present is None else _cost_bytes(key, present))

    def expired(self, now_ms: int) -> list[bytes]:
        """Keys whose value has expired since this was asked last, each once."""
        found: dict[bytes, None] = {}
        while self._expiries and self._expiries[0][0] <= now_ms:
            expiry_ms, key = heappop(self._expiries)
            entry = self._entries.get(key)
            if entry is not None and entry.record.expiry_ms == expiry_ms:
                found[key] = None
        return list(found)

    # What differs

    def listed(self, leaves: Iterable[int]) -> Iterator[tuple[bytes, int]]:
        """The keys of some leaves, and their digests."""
        for leaf in leaves:
            yield from self._digests[leaf].items()

    def digest(self, key: bytes) -> int | None:
        """That of what is kept under a key, None when nothing is."""
        return self._digests[leaf_of(key)].get(key)


class View(Mapping[bytes, Any]):
    """What is alive in a :class:`Replica`, as a dict that one can read at once.

    :param replica: whose. :param now_ms: tells the time. :param shown: makes of an entry, and of its packed
        value, what is shown.
    """

    def __init__(self, replica: Replica, now_ms: Any, shown: Any) -> None:
        self._replica = replica
        self._now_ms = now_ms
        self._shown = shown

    def __getitem__(self, key: bytes | str) -> Any:
        name = key.encode("utf-8") if isinstance(key, str) else key
        packed = self._replica.packed_value(name, self._now_ms())
        if packed is None:
            raise KeyError(key)
        return self._shown(self._replica.get(name), packed)

    def __iter__(self) -> Iterator[bytes]:
        now_ms = self._now_ms()
        return (key for key in self._replica.keys() if self._replica.is_alive(key, now_ms))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


def digest_of(key: bytes, entry: Entry) -> int:
    """The digest of an entry."""
    return digest(msgpack.packb([key, entry.to_wire()]))


def leaf_of(key: bytes) -> int:
    """Which leaf of a tree a key is filed under."""
    return sha384(key).digest()[0]


def _cost_bytes(key: bytes, entry: Entry) -> int:
    return len(key) + _KEY_OVERHEAD_BYTES + entry.record.cost_bytes
