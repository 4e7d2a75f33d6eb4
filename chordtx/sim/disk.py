"""A simulated disk under a store: what was synced survives a crash, of the rest anything may."""

from __future__ import annotations

from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from chordtx.records import Record, merge
from chordtx.sim.virtual import NodeReactor
from chordtx.store import IStore, MemoryStore

_SYNC_SECONDS = 0.004


@define
class SimulatedDisk:
    """What a host keeps when its process ends: records and a few values beside.

    :ivar synced: what survives for certain, by key.
    :ivar unsynced: what was written since, in order: a crash tears it off anywhere.
    """

    synced: dict[bytes, Record | None] = field(factory=dict)
    unsynced: list[tuple[bytes, Record | None]] = field(factory=list)
    values: dict[str, Any] = field(factory=dict)

    def sync(self, count: int) -> None:
        """The first ``count`` unsynced writes are safe now."""
        for key, record in self.unsynced[:count]:
            self._apply(key, record)
        del self.unsynced[:count]

    def crash(self, rng: Random) -> None:
        """Of what was not synced some came to stand, some not: the last written is torn off first."""
        self.sync(rng.randint(0, len(self.unsynced)))
        self.unsynced.clear()

    def _apply(self, key: bytes, record: Record | None) -> None:
        if record is None:
            self.synced.pop(key, None)
        else:
            merged = merge(self.synced.get(key), record)
            self.synced[key] = merged


@implementer(IStore)
class SimulatedStore(MemoryStore):
    """A store on a simulated disk: an acknowledgement waits for a sync that several writes share.

    :param reactor: its process. :param disk: what is there already is loaded.
    """

    def __init__(self, reactor: NodeReactor, disk: SimulatedDisk, rng: Random) -> None:
        super().__init__()
        self._reactor = reactor
        self._disk = disk
        self._rng = rng
        self._waiting: list[Deferred[None]] = []
        for key, record in disk.synced.items():
            if record is not None:
                super().merge(key, record)

    def merge(self, key: bytes, record: Record) -> Record:
        """See :meth:`IStore.merge`."""
        before = self.get(key)
        after = super().merge(key, record)
        if after != before:
            self._disk.unsynced.append((key, after))
        return after

    def drop(self, key: bytes) -> None:
        """See :meth:`IStore.drop`."""
        if self.get(key) is not None:
            super().drop(key)
            self._disk.unsynced.append((key, None))

    def synced(self) -> Deferred[None] | None:
        """See :meth:`IStore.synced`."""
        if not self._disk.unsynced:
            return None
        if not self._waiting:
            self._reactor.callLater(_SYNC_SECONDS * (0.5 + self._rng.random()), self._sync)
        done: Deferred[None] = Deferred(lambda _: None)
        self._waiting.append(done)
        return done

    def _sync(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._disk.sync(len(self._disk.unsynced))
        for done in waiting:
            if not done.called:
                done.callback(None)
