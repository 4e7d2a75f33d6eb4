"""What a node does for others as a replica: has their records, and answers for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.config import ChordSettings
from chordtx.errors import NotJoined, ProtocolError, ValueTooLarge
from chordtx.records import HybridClock, Record
from chordtx.store import IStore

Stored = Callable[[bytes, Record], "Deferred[None] | None"]


class Replica:
    """One node's copies.

    :param is_member: whether the node is in the ring now; it refuses otherwise.
    :param wall_ms: the wall clock, Unix time in milliseconds.
    :ivar caught_up: whether it has what it missed before it came, and so may vote on reads.
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
    ) -> None:
        self.store = store
        self._clock = clock
        self._settings = settings
        self._is_member = is_member
        self._wall_ms = wall_ms
        self.caught_up = False
        self.stored: Stored | None = None
        self.may_have_changed: Callable[[bytes], bool] = lambda _: False
        self.has_old_peers: Callable[[], bool] = lambda: False

    def read(self, caller: Any, key: Any) -> list[Any]:
        """``read(key)`` -> ``[record or nil, may an old peer have changed it, votes]``."""
        record = self._record(key)
        return [None if record is None else record.to_wire(), self.may_have_changed(key), self.caught_up]

    def version(self, caller: Any, key: Any) -> list[Any]:
        """``version(key)`` -> ``[clock or nil, writer, is there a value, votes]``."""
        record = self._record(key)
        if record is None:
            return [None, b"", False, self.caught_up]
        newest = record.newest
        return [newest.clock, newest.writer, record.alive(self._wall_ms()), self.caught_up]

    def write(self, caller: Any, key: Any, wire: Any) -> Deferred[list[Any]] | list[Any]:
        """``write(key, record)`` -> ``[are there old peers]`` once it, or something newer, is stored.

        Where there are old peers, whose guarantee is the majority of five tables, the writer waits for all
        replicas: each one's answer says that the tables of which it is the host are in step.
        """
        self._check(key)
        record = Record.from_wire(wire)
        if record.cost_bytes > 2 * self._settings.value_bytes_max:
            raise ValueTooLarge(
                "the record is too large", record.cost_bytes, 2 * self._settings.value_bytes_max
            )
        self._clock.observe(record.newest, self._wall_ms())
        merged = self.store.merge(key, record)
        waits = [] if self.stored is None else [self.stored(key, merged)]
        waits.append(self.store.synced())
        return _after([wait for wait in waits if wait is not None], [self.has_old_peers()])

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
