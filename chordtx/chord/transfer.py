"""Moving records from one node to another: fetching, giving, passing on what is others' to keep.

What is moved is named by digests first, so that only what the other one lacks goes over the wire. It is
merged by version there: so it may be done at any time, twice, and by several at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from chordtx.chord.replica import Replica
from chordtx.chord.routing import Routing
from chordtx.chord.shares import Shares
from chordtx.config import ChordSettings
from chordtx.errors import NotJoined, ProtocolError, ValueTooLarge
from chordtx.mesh import MeshConnection
from chordtx.records import (
    Record,
    RecordLimits,
    Unknown,
    entries_from_wire,
    fetch_all,
    first_piece_of,
    listed_from_wire,
    listed_to_wire,
    pieces_of,
    some_at_a_time,
)
from chordtx.ring import Contact, RingNode

_BATCH_PAUSE_SECONDS = 0.005


class Transfer:
    """One node's share in moving records.

    :param node: the service: ``_call_contact``, ``sleep``.
    """

    _log = Logger()

    def __init__(
        self,
        node: Any,
        ring: RingNode,
        routing: Routing,
        replica: Replica,
        shares: Shares,
        settings: ChordSettings,
        record_limits: RecordLimits,
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._replica = replica
        self._shares = shares
        self._settings = settings
        self._record_limits = record_limits
        node._methods.update(fetch=self._fetch, offer=self._offer, take=self._take)

    # Fetching and giving

    async def fetch_from(self, contact: Contact, keys: Sequence[bytes]) -> None:
        """Get records from another node, and merge them in.

        :raises ChordError: when it does not answer to the end.
        """

        async def fetch(wanted: list[bytes]) -> set[bytes]:
            entries = await self.ask(contact, "fetch", wanted)
            refused, waits = self._keep(entries)
            for key, error in refused.items():
                self._log.info("{key} is not kept: {error}", key=repr(key[:80]), error=str(error))
            for wait in waits:
                await wait
            return {entry[0] for entry in entries}

        await fetch_all(keys, fetch)

    async def give_to(self, contact: Contact, keys: Iterable[bytes]) -> None:
        """Send records to another node, which merges them in.

        :raises ValueTooLarge: when one could not be sent, or was not taken; all others were.
        :raises ChordError: when it does not answer to the end.
        """
        refused: list[ValueTooLarge] = []
        for piece in pieces_of(keys, lambda key: self._found(key, refused)):
            try:
                await self.ask(contact, "take", piece)
            except ValueTooLarge as error:
                refused.append(error)
        if refused:
            raise refused[0]

    def _found(self, key: bytes, refused: list[ValueTooLarge]) -> tuple[list[Any], int] | None:
        record = self._replica.store.get(key)
        if record is None:
            return None
        try:
            self._record_limits.must_travel(key, record)
        except ValueTooLarge as error:  # it was written by an earlier version
            refused.append(error)
            return None
        return record.to_wire(), record.cost_bytes

    def _keep(self, entries: Any) -> tuple[dict[bytes, ValueTooLarge], list[Deferred[None]]]:
        """:returns: what was refused, and why; and what is to be waited for."""
        refused: dict[bytes, ValueTooLarge] = {}
        waits: list[Deferred[None]] = []
        for key, wire in entries_from_wire(entries):
            record = Record.from_wire(wire)
            try:
                waits += self._replica.put(key, record)
            except ValueTooLarge as error:  # alone: the others are kept
                refused[key] = error
        return refused, waits

    def _fetch(self, caller: MeshConnection, keys: Any) -> list[Any]:
        """``fetch(keys)`` -> ``[[key, record], ...]``: as many as fit into an answer, at least one."""
        return first_piece_of(keys, lambda key: self._found(key, []))

    def ask(self, contact: Contact, method: str, *arguments: Any) -> Deferred[list[Any]]:
        """Make a call that moves or compares many records."""
        call: Deferred[list[Any]] = self._node._call_contact(
            contact, method, *arguments, timeout_seconds=self._settings.bulk_timeout_seconds
        )
        return call

    # Passing on

    async def pass_on(self, strays: Sequence[bytes]) -> None:
        """Give what is not ours to keep to those whose it is, and forget what all of them have."""
        for batch in some_at_a_time(strays, self._settings.hand_over_batch):
            before = {key: self._replica.store.get(key) for key in batch}
            if await self._hand_over_batch(batch, leaving=False):
                self._drop({key: record for key, record in before.items() if record is not None})
            await self._node.sleep(_BATCH_PAUSE_SECONDS)

    async def hand_over(self) -> bool:
        """Before we leave: give everything to those that are to keep it without us.

        :returns: whether everybody could be reached.
        """
        reached_all = True
        keys = list(self._replica.store.keys())
        for batch in some_at_a_time(keys, self._settings.hand_over_batch):
            reached_all = await self._hand_over_batch(batch, leaving=True) and reached_all
        return reached_all

    async def _hand_over_batch(self, keys: Sequence[bytes], leaving: bool) -> bool:
        offers: dict[Contact, list[bytes]] = {}
        for key in keys:
            for contact in await self._members(key, leaving):
                if contact.id != self._ring.me.id:
                    offers.setdefault(contact, []).append(key)
        told = [Deferred.fromCoroutine(self._offer_to(contact, each)) for contact, each in offers.items()]
        outcomes = await DeferredList(told, consumeErrors=True)
        return all(succeeded for succeeded, _ in outcomes)

    async def _members(self, key: bytes, leaving: bool) -> tuple[Contact, ...]:
        members = await self._routing.replica_set(key)
        if not leaving:
            return members
        without_us = self._routing.known_replica_set(key, without=self._ring.me.id)
        if isinstance(without_us, Unknown):
            raise NotJoined("the ring is not known well enough")
        return without_us

    def _drop(self, strays: dict[bytes, Record]) -> None:
        """Forget what was passed on, unless it is newer by now, or the answers showed that it is ours."""
        for key, record in strays.items():
            members = self._routing.known_replica_set(key)
            ours = isinstance(members, Unknown) or any(each.id == self._ring.me.id for each in members)
            if not ours and self._replica.store.get(key) == record:
                self._replica.store.drop(key)
                self._shares.dropped(key)

    async def _offer_to(self, contact: Contact, keys: list[bytes]) -> None:
        offered = [
            listed_to_wire(key, digest) for key in keys if (digest := self._shares.digest(key)) is not None
        ]
        wanted = await self.ask(contact, "offer", offered)
        await self.give_to(contact, [offered[index][0] for index in wanted if _is_index(index, len(offered))])

    def _offer(self, caller: MeshConnection, offered: Any) -> list[Any]:
        """``offer([[key, digest], ...])`` -> the indexes of those that we do not have just so."""
        self._node._calling_member(caller)
        if not self._ring.is_member:
            raise NotJoined("this node stores nothing")
        if not isinstance(offered, list):
            raise ProtocolError("offer takes a list")
        return [index for index, entry in enumerate(offered) if self._lacks(entry)]

    def _lacks(self, entry: Any) -> bool:
        key, digest = listed_from_wire(entry)
        return self._shares.digest(key) != digest

    def _take(self, caller: MeshConnection, entries: Any) -> Deferred[list[Any]] | list[Any]:
        """``take([[key, record], ...])``: what we said that we lack."""
        self._node._calling_member(caller)
        if not self._ring.is_member:
            raise NotJoined("this node stores nothing")
        refused, waits = self._keep(entries)
        return Deferred.fromCoroutine(_after(waits, list(refused.values()))) if waits or refused else []


async def _after(waits: list[Deferred[None]], refused: list[ValueTooLarge]) -> list[Any]:
    for wait in waits:
        await wait
    if refused:
        raise refused[0]
    return []


def _is_index(value: Any, length: int) -> bool:
    return type(value) is int and 0 <= value < length
