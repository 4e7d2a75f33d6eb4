"""What a node does for others as a replica: has their records, and answers for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.config import ChordSettings
from chordtx.errors import NotJoined, ProtocolError, StorageFull
from chordtx.records import HybridClock, Record, RecordLimits, merge
from chordtx.store import IStore

Stored = Callable[[bytes, Record], "Deferred[None] | None"]


class Replica:
    """One node's copies.

    :param is_member: whether the node is in the ring now; it refuses otherwise.
    :param wall_ms: the wall clock, Unix time in milliseconds.
    :param going_on_seconds: for how long the ring has been going on without a break.
    :param record_limits: what can be sent to others.
    :ivar knows: whether it has whatever was written under a key, and so may vote on it.
    :ivar agrees: whether a replica set, by its tag, is the key's as we see it. Only such calls count: what a
        majority that sees one set has acknowledged is found by the majority that sees the next.
    :ivar merged: called with each record right after it was merged.
    :ivar stored: called with each record after it was merged; when it returns a Deferred, the
        acknowledgement waits for that.
    :ivar may_have_changed: whether an old peer may have overwritten a key without a word.
    :ivar has_old_peers: whether storing old peers are around.
    """

    def __init__(
        self,
        store: IStore,
        clock: HybridClock,
        settings: ChordSettings,
        is_member: Callable[[], bool],
        wall_ms: Callable[[], int],
        going_on_seconds: Callable[[], float],
        record_limits: RecordLimits,
    ) -> None:
        self.store = store
        self._clock = clock
        self._settings = settings
        self._is_member = is_member
        self._wall_ms = wall_ms
        self._going_on_seconds = going_on_seconds
        self._record_limits = record_limits
        self.knows: Callable[[bytes], bool] = lambda _: True
        self.agrees: Callable[[bytes, bytes], bool] = lambda *_: True
        self.merged: Callable[[bytes, Record], None] = lambda *_: None
        self._unsynced: dict[bytes, int] = {}
        self.stored: Stored | None = None
        self.may_have_changed: Callable[[bytes], bool] = lambda _: False
        self.has_old_peers: Callable[[], bool] = lambda: False

    def read(self, caller: Any, key: Any, tag: Any) -> Deferred[list[Any]] | list[Any]:
        """``read(key, set)`` -> ``[record or nil, may an old peer have changed it, votes]``.

        What a crash could still undo is shown to nobody: the answer waits until it is on the disk.
        """
        record = self._record(key)
        if record is not None:
            self._record_limits.must_travel(key, record)
        wire = None if record is None else record.to_wire()
        answer = [wire, self.may_have_changed(key), self._votes(key, tag)]
        synced = self.store.synced() if key in self._unsynced else None
        return answer if synced is None else _after([synced], answer)

    def version(self, caller: Any, key: Any, tag: Any) -> list[Any]:
        """``version(key, set)`` -> ``[clock or nil, writer, is there a value, votes]``."""
        record = self._record(key)
        if record is None:
            return [None, b"", False, self._votes(key, tag)]
        newest = record.newest
        return [newest.clock, newest.writer, record.alive(self._wall_ms()), self._votes(key, tag)]

    def write(self, caller: Any, key: Any, wire: Any, tag: Any) -> Deferred[list[Any]] | list[Any]:
        """``write(key, record, set)`` -> ``[are there old peers, agrees]`` once it, or something newer, is
        stored.

        Where there are old peers, whose guarantee is the majority of five tables, the writer waits for all
        replicas: each one's answer says that the tables of which it is the host are in step.
        """
        self._check(key)
        record, present = Record.from_wire(wire), self.store.get(key)
        self._must_fit(record, present)
        answer = [self.has_old_peers(), self._agrees(key, tag)]
        return _after(self._put(key, record, present), answer)

    def put(self, key: bytes, record: Record) -> list[Deferred[None]]:
        """Merge a record that came from another node.

        :returns: what an acknowledgement has to wait for.
        :raises ChordError: when it is no key, or what it makes of the record that is there could not be sent
            to others.
        """
        self._check(key)
        return self._put(key, record, self.store.get(key))

    def _put(self, key: bytes, record: Record, present: Record | None) -> list[Deferred[None]]:
        now_ms = self._wall_ms()
        self._clock.observe(record.newest, now_ms)
        if present is None and not record.alive(now_ms) and self.is_forgettable(record):
            return []  # from somebody who has not forgotten it yet
        self._must_be_kept(key, record, present, now_ms)
        merged = self.store.merge(key, record)
        self.merged(key, merged)
        stored = None if self.stored is None else self.stored(key, merged)
        waits = [] if stored is None else [stored]
        synced = self.store.synced()
        if synced is not None:
            self._unsynced[key] = self._unsynced.get(key, 0) + 1
            waits.append(synced.addBoth(self._now_synced, key))
        return waits

    def _must_be_kept(self, key: bytes, record: Record, present: Record | None, now_ms: int) -> None:
        """:raises ValueTooLarge: when what it makes of the present one could not be sent to others."""
        becomes: Record | None = record
        if record.fields or (present is not None and present.fields):
            becomes = merge(present, record)  # without fields it becomes one of the two
        if becomes is not None and (present is None or becomes != present):
            self._record_limits.must_be_kept(key, becomes, now_ms)

    def _now_synced(self, outcome: Any, key: bytes) -> Any:
        left = self._unsynced.pop(key) - 1
        if left:
            self._unsynced[key] = left
        return outcome

    def is_forgettable(self, record: Record) -> bool:
        """Whether a tombstone, or what has expired, was remembered for long enough.

        While the ring is switched off nobody hears of it: that time does not count.
        """
        seconds = self._settings.tombstone_seconds
        return self._going_on_seconds() > seconds and record.forgettable(self._wall_ms(), int(seconds * 1000))

    def _must_fit(self, record: Record, present: Record | None) -> None:
        """Refuse what a user adds past the limits; what is deleted, shrinks or is repaired always fits."""
        if record.value is None and not record.fields:
            return
        settings = self._settings
        growth = record.cost_bytes - (0 if present is None else present.cost_bytes)
        if growth > 0 and self.store.bytes_used + growth > settings.store_bytes_max:
            limit = f"store_bytes_max = {settings.store_bytes_max}"
        elif present is None and len(self.store) >= settings.store_records_max:
            limit = f"store_records_max = {settings.store_records_max}"
        else:
            return
        raise StorageFull(f"a replica is full: {limit}", limit)

    def _votes(self, key: bytes, tag: Any) -> bool:
        return self.knows(key) and self._agrees(key, tag)

    def _agrees(self, key: bytes, tag: Any) -> bool:
        return isinstance(tag, bytes) and self.agrees(key, tag)

    def _record(self, key: Any) -> Record | None:
        self._check(key)
        return self.store.get(key)

    def _check(self, key: Any) -> None:
        if not self._is_member():
            raise NotJoined("this node stores nothing")
        if not isinstance(key, bytes) or len(key) > self._settings.key_bytes_max:
            raise ProtocolError("a key is bytes, and not too many")


def _after(waits: list[Deferred[None]], answer: list[Any]) -> Deferred[list[Any]] | list[Any]:
    if not waits:
        return answer

    async def wait() -> list[Any]:
        for each in waits:
            await each
        return answer

    return Deferred.fromCoroutine(wait())
