"""A leader's part: telling hosts which keys lie at their positions.

A *pointer* is soft state: that a key has a record. Each leader tells each host of the keys of its partitions
that have a position in the host's arc, and that these were all; again when either is another one than before.
What changes later it tells as it comes.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.legacy.presence import Presence
from chordtx.ring import Contact, Positions, in_arc, ring_positions

_ROUND_SECONDS = 0.2
_BATCH = 500
_BATCH_PAUSE_SECONDS = 0.02
#: Changes that are told at once; the others wait in line, each key once.
_CHANGES_AT_ONCE = 500


class Node(Protocol):
    """What of a node a leader's part needs."""

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


class PointerTeller:
    """One node's, for the partitions that it leads."""

    _log = Logger()

    def __init__(self, node: Node, presence: Presence) -> None:
        self._node = node
        self._presence = presence
        self._told: dict[int, dict[int, int]] = {}  # host -> partition -> where the host's arc starts
        self._changed: dict[bytes, bool] = {}  # in line to be told -> whether it is gone
        self._is_telling_changes = False

    def begin(self) -> None:
        """There are legacy peers from now on."""
        self._told.clear()
        self._node.background(self._tell_all())

    def lost(self, id: int) -> None:
        """A node of ours may have forgotten what it was told."""
        self._told.pop(id, None)

    # Everything

    async def _tell_all(self) -> None:
        while self._presence.is_active:
            everyone, leads = self._node.everyone(), set(self._node.leads())
            arcs = [] if everyone is None else list(_arcs(everyone))
            hosts = {contact.id for contact, _ in arcs}
            self._told = {
                id: {each: start for each, start in told.items() if each in leads}
                for id, told in self._told.items()
                if id in hosts or not arcs
            }
            telling = [Deferred.fromCoroutine(self._tell(contact, start, leads)) for contact, start in arcs]
            await DeferredList(telling, consumeErrors=True)
            await self._node.sleep(_ROUND_SECONDS)

    async def _tell(self, host: Contact, start: int, leads: Iterable[int]) -> None:
        """Tell a host of all keys, where it has not been told for this arc yet."""
        told = self._told.setdefault(host.id, {})
        partitions = [each for each in leads if told.get(each) != start]
        if not partitions:
            return
        keys = [
            key
            for partition in partitions
            for key in self._node.keys_of(partition)
            if any(in_arc(position, start, host.id) for position in ring_positions(key))
        ]
        wire = start.to_bytes(48, "big")
        try:
            for first in range(0, len(keys), _BATCH):
                await self._node.call_any(host, "legacy_keys", wire, keys[first : first + _BATCH], [])
                await self._node.sleep(_BATCH_PAUSE_SECONDS)
            await self._node.call_any(host, "legacy_keys", wire, [], partitions)
        except ChordError as error:
            self._log.debug("{host} is not told yet: {error}", host=str(host.port), error=str(error))
        else:
            told.update(dict.fromkeys(partitions, start))

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
                if not await self._tell_hosts(everyone, changes):
                    await self._node.sleep(_ROUND_SECONDS)
        finally:
            self._is_telling_changes = False
        self._changed.clear()

    async def _tell_hosts(self, everyone: Sequence[Contact], changes: list[tuple[bytes, bool]]) -> bool:
        """:returns: whether all hosts were told; what was not told to all is in line again."""
        placed = [(key, is_gone, ring_positions(key)) for key, is_gone in changes]
        told = [
            Deferred.fromCoroutine(self._tell_host(contact, start, _of(contact, start, placed)))
            for contact, start in _arcs(everyone)
        ]
        missed = [changes for _, changes in await DeferredList(told, consumeErrors=True) if changes]
        for key, is_gone in chain.from_iterable(missed):
            self._changed.setdefault(key, is_gone)
        return not missed

    async def _tell_host(self, host: Contact, start: int, changes: list[list[Any]]) -> list[list[Any]]:
        """:returns: what it could not be told."""
        if changes:
            try:
                await self._node.call_any(host, "legacy_changed", start.to_bytes(48, "big"), changes)
            except ChordError as error:
                self._log.debug("{host} is not told yet: {error}", host=str(host.port), error=str(error))
                return changes
        return []


def _arcs(everyone: Sequence[Contact]) -> Iterable[tuple[Contact, int]]:
    """Each node with where its arc starts. The walk goes toward smaller ids."""
    contacts = sorted(everyone, key=lambda contact: contact.id)
    return [(one, following.id) for one, following in pairwise([*contacts, contacts[0]])]


def _of(host: Contact, start: int, placed: Iterable[tuple[bytes, bool, Positions]]) -> list[list[Any]]:
    return [
        [key, is_gone]
        for key, is_gone, positions in placed
        if any(in_arc(position, start, host.id) for position in positions)
    ]
