"""A leader's part: telling hosts which keys lie at their positions.

A *pointer* is soft state: that a key has a record. Each leader tells each host of the keys of its partitions
that have a position in the host's arc, and that these were all; again when either is another one than before.
Later changes are told as they come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Coroutine, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.legacy.presence import Presence
from chordtx.ring import Contact, Positions, ring_positions

_ROUND_SECONDS = 0.2
_BATCH = 500
_BATCH_PAUSE_SECONDS = 0.02
#: Changes that are told at once; the others wait in line, each key once.
_CHANGES_AT_ONCE = 500


class Node(Protocol):
    """What a leader's part needs of a node."""

    def everyone(self) -> Sequence[Contact] | None:
        """All nodes of the ring, by id; None while they are not known."""

    def leads(self) -> list[int]:
        """The partitions that this node leads."""

    def keys_of(self, partition: int) -> list[bytes]:
        """The keys with a record in a partition of its own."""

    def call_any(self, contact: Contact, method: str, *arguments: Any) -> Deferred[list[Any]]:
        """Ask a node, which may be this one."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""


class Arcs:
    """The arcs of a ring of which every node is known. The walk goes toward smaller ids.

    :ivar contacts: of nodes, by id. :ivar starts: where the arc of each starts.
    """

    def __init__(self, everyone: Sequence[Contact]) -> None:
        self.contacts = {contact.id: contact for contact in everyone}
        self._ids = sorted(self.contacts)
        self.starts = dict(pairwise([*self._ids, self._ids[0]]))

    def owners(self, positions: Positions) -> set[int]:
        """Ids of the nodes that own these positions: nearest at or below."""
        ids = self._ids
        return {ids[bisect_right(ids, position) - 1] for position in positions}


class _Batch:
    """What one host is to be told next: keys, and partitions of which they are the last."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.partitions: list[int] = []


class PointerTeller:
    """One node's, for the partitions that it leads."""

    _log = Logger()

    def __init__(self, node: Node, presence: Presence) -> None:
        self._node = node
        self._presence = presence
        self._told: dict[int, dict[int, int]] = {}  # host -> partition -> where the host's arc starts
        self._changed: dict[bytes, bool] = {}  # in line to be told -> whether it is gone
        self._is_telling = False
        self._is_telling_changes = False

    def begin(self) -> None:
        """There are legacy peers from now on."""
        self._told.clear()
        if not self._is_telling:
            self._is_telling = True
            self._node.background(self._tell_all())

    def lost(self, id: int) -> None:
        """A node of ours may have forgotten what it was told."""
        self._told.pop(id, None)

    # Everything

    async def _tell_all(self) -> None:
        try:
            while self._presence.is_active:
                everyone = self._node.everyone()
                if everyone is not None:
                    await self._tell_what_is_due(Arcs(everyone))
                await self._node.sleep(_ROUND_SECONDS)
        finally:
            self._is_telling = False

    async def _tell_what_is_due(self, arcs: Arcs) -> None:
        """Tell hosts of all keys of partitions, where they have not been told for their arcs yet."""
        leads = self._node.leads()
        known, self._told = self._told, {}
        for id in arcs.starts:
            told, start = known.get(id, {}), arcs.starts[id]
            self._told[id] = {each: start for each in leads if told.get(each) == start}
        batches = {id: _Batch() for id, told in self._told.items() if len(told) < len(leads)}
        for partition in leads if batches else ():
            due = {id for id in batches if partition not in self._told[id]}
            for count, key in enumerate(self._node.keys_of(partition) if due else (), start=1):
                for id in due & arcs.owners(ring_positions(key)):
                    batches[id].keys.append(key)
                if count % _BATCH == 0:
                    await self._send(arcs, batches, _BATCH)
            for id in due & batches.keys():
                batches[id].partitions.append(partition)
            await self._send(arcs, batches, _BATCH)
        await self._send(arcs, batches, 0)

    async def _send(self, arcs: Arcs, batches: dict[int, _Batch], keys_min: int) -> None:
        """Send batches that are large enough. A host that cannot be told is left to the next round."""
        ready = [id for id, batch in batches.items() if len(batch.keys) >= keys_min]
        if ready:
            sent = [Deferred.fromCoroutine(self._send_one(arcs, id, batches[id])) for id in ready]
            for id, (_, was_told) in zip(ready, await DeferredList(sent, consumeErrors=True), strict=True):
                batches[id] = _Batch()
                if was_told is not True:
                    del batches[id]
            await self._node.sleep(_BATCH_PAUSE_SECONDS)

    async def _send_one(self, arcs: Arcs, id: int, batch: _Batch) -> bool:
        start, host = arcs.starts[id], arcs.contacts[id]
        try:
            await self._node.call_any(
                host, "legacy_keys", start.to_bytes(48, "big"), batch.keys, batch.partitions
            )
        except ChordError as error:
            self._log.debug("{host} is not told yet: {error}", host=str(host.port), error=str(error))
            return False
        if id in self._told:  # else it is lost meanwhile, and may have forgotten it
            self._told[id].update(dict.fromkeys(batch.partitions, start))
        return True

    # What changes

    def key_changed(self, key: bytes, is_gone: bool) -> None:
        """A record of ours has changed, come or gone."""
        self._changed.pop(key, None)
        self._changed[key] = is_gone
        if not self._is_telling_changes:
            self._is_telling_changes = True
            self._node.background(self._tell_changes())

    async def _tell_changes(self) -> None:
        try:
            while self._changed and self._presence.is_active:
                everyone = self._node.everyone()
                if everyone is None:
                    await self._node.sleep(_ROUND_SECONDS)
                    continue
                changes = [(key, self._changed.pop(key)) for key in list(self._changed)[:_CHANGES_AT_ONCE]]
                if not await self._tell_hosts(Arcs(everyone), changes):
                    await self._node.sleep(_ROUND_SECONDS)
        finally:
            self._is_telling_changes = False
        self._changed.clear()

    async def _tell_hosts(self, arcs: Arcs, changes: list[tuple[bytes, bool]]) -> bool:
        """:returns: whether all hosts were told; what was not told to all is in line again."""
        by_host: dict[int, list[list[Any]]] = {}
        for key, is_gone in changes:
            for id in arcs.owners(ring_positions(key)):
                by_host.setdefault(id, []).append([key, is_gone])
        told = [
            Deferred.fromCoroutine(self._tell_host(arcs.contacts[id], arcs.starts[id], some))
            for id, some in by_host.items()
        ]
        ended = await DeferredList(told, consumeErrors=True)
        missed = list(chain.from_iterable(some for was_asked, some in ended if was_asked))
        for key, is_gone in missed:
            self._changed.setdefault(key, is_gone)
        return not missed

    async def _tell_host(self, host: Contact, start: int, changes: list[list[Any]]) -> list[list[Any]]:
        """:returns: what it could not be told."""
        try:
            await self._node.call_any(host, "legacy_changed", start.to_bytes(48, "big"), changes)
        except ChordError as error:
            self._log.debug("{host} is not told yet: {error}", host=str(host.port), error=str(error))
            return changes
        return []
