"""The view that py2p and js2p nodes get of the ring, and what their writes become.

The two worlds are kept apart (see docs/decisions): replica sets are made of our own nodes alone. An old
peer owns the positions that it is nearest to, as its protocol says; the node of ours that would own such a
position (its *host*) keeps the old peer's table entry in step with the record. Every message of an old
peer about a position goes to that position's host, which knows the old peers around.

What an old peer stores becomes a write once most of the key's positions have it. The owner of the key's
first position (the *adopter*) finds that out: it asks all five hosts, and each of them the old peers that
own a position. So a stale copy that an old peer sends to one position undoes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.chord.announcements import DELETED, as_key
from chordtx.chord.coordinator import Coordinator
from chordtx.chord.old_adopter import Adopter
from chordtx.chord.old_entries import places_of
from chordtx.chord.old_hosting import OldHost, id_bytes
from chordtx.chord.old_tables import OldTables, Place
from chordtx.chord.routing import Routing
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.mesh.hearsay import believed
from chordtx.records import HybridClock, Record
from chordtx.ring import RingNode
from chordtx.store import IStore
from chordtx.wire import Message, flags, pack_value, unpack_value

_HOST_ATTEMPTS = 3
_HOST_PAUSE_SECONDS = 0.1
_SETTLE_SECONDS = 1.0
_BATCH = 100
_BATCH_PAUSE_SECONDS = 0.02
_RECONNECT_SECONDS = (0.5, 2.0, 5.0, 15.0)
#: What only hosts ask each other. The others are asked by whoever has a link to an old peer.
_FOR_MEMBERS = frozenset({"old_opinion", "old_settled"})
Method = Callable[..., Coroutine[Any, Any, list[Any]]]


class OldPeers:
    """One node's dealings with old peers, and its part in serving them.

    :param node: the service.
    """

    def __init__(
        self,
        node: Any,
        ring: RingNode,
        routing: Routing,
        store: IStore,
        coordinator: Coordinator,
        clock: HybridClock,
        settings: ChordSettings,
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._store = store
        self._value_bytes_max = settings.value_bytes_max
        self._key_bytes_max = settings.key_bytes_max
        self._limits = settings.mesh.limits
        self._handing = False
        self._tables = OldTables(node.reactor)
        self._host = OldHost(
            node, ring, store, coordinator, clock, settings, self._tables, lambda key: self._adopter.hint(key)
        )
        self._adopter = Adopter(node, self._host, coordinator, clock, self._limits, self._at_host)
        self._methods: dict[str, Method] = {
            "old_store": self._host.store,
            "old_retrieve": self._host.retrieve,
            "old_opinion": self._host.opinion,
            "old_settled": self._host.settled,
            "old_hint": self._adopter.hinted,
            "old_refresh": self._adopter.refresh,
        }
        for name, method in self._methods.items():
            node._methods[name] = _served(method, node._calling_member if name in _FOR_MEMBERS else None)

    # Messages of old peers

    def store_received(self, link: MeshConnection, message: Message) -> None:
        """``store [11, method, position, value]``; nil deletes."""
        if len(message.payload) != 4:
            raise ProtocolError("a store has a table, a position and a value")
        place = Place.from_old(*message.payload[1:3])
        self._forward(link, place, False, message.payload[3])

    def delta_received(self, link: MeshConnection, message: Message) -> None:
        """``delta [17, method, position, map]``."""
        if len(message.payload) != 4 or not isinstance(message.payload[3], dict):
            raise ProtocolError("a delta has a table, a position and a map")
        self._forward(link, Place.from_old(*message.payload[1:3]), True, message.payload[3])

    def _forward(self, link: MeshConnection, place: Place, is_delta: bool, value: Any) -> None:
        try:
            blob = pack_value(value, self._value_bytes_max, self._limits)
        except (TypeError, ChordError) as error:
            raise ProtocolError(f"an old peer's value cannot be kept: {error}") from error
        arguments = [place.to_wire(), is_delta, blob, id_bytes(link)]
        self._node._background(self._at_host(place.position, "old_store", *arguments))

    def retrieve_received(self, link: MeshConnection, message: Message) -> None:
        """``retrieve [12, method, position]``, answered by ``retrieved``."""
        if len(message.payload) != 3:
            raise ProtocolError("a retrieve has a table and a position")
        place = Place.from_old(*message.payload[1:])
        self._tables.asked_back(link, place)
        self._node._background(self._answer(link, place, message.payload[1], message.payload[2]))

    async def _answer(self, link: MeshConnection, place: Place, method: Any, position: Any) -> None:
        reply = await self._at_host(place.position, "old_retrieve", place.to_wire(), id_bytes(link))
        value = unpack_value(reply[0], self._limits) if isinstance(reply[0], bytes) else None
        link.send(flags.RETRIEVED, method, position, value)

    def retrieved_received(self, link: MeshConnection, message: Message) -> None:
        """``retrieved [13, method, position, value or nil]``."""
        self._tables.retrieved(link, message)

    def notify_received(self, link: MeshConnection, message: Message) -> None:
        """``notify [6, key]``: an old peer names a key, which may be what entries here wait for."""
        key = as_key(message.payload[1])
        if len(key) > self._key_bytes_max:
            raise ProtocolError("the key is too long")
        if len(message.payload) == 3 and message.payload[2] in (DELETED, "del"):
            self._adopter.deletion_told(key)
        waits = self._host.entries.name(key)
        if waits or not link.ours or self._ring.owns(places_of(key)[0].position):
            self._adopter.hint(key)

    # Old peers come and go

    def link_stores(self, link: MeshConnection) -> None:
        """An old peer has begun to store: everyone links to it, and it is handed what is nearer to it."""
        if link.address is not None and link.address.reachable:
            told = [[link.address.to_wire(), (link.id or "").encode("ascii")]]
            for other in self._node.routing_table.values():
                if other.ours:
                    other.send(flags.PEERS, told)
        self._node._background(self._host.hand_entries(link))

    def ring_changed(self) -> None:
        """We may be the host of other positions now."""
        if self._host.any_store() and not self._handing:
            self._handing = True
            self._node._background(self._hand_entries())

    async def _hand_entries(self) -> None:
        try:
            await self._node.sleep(_SETTLE_SECONDS)
        finally:
            self._handing = False
        for link in tuple(self._node.routing_table.values()):
            if not link.ours and not link.leeching:
                await self._host.hand_entries(link)

    def link_opened(self, link: MeshConnection) -> None:
        """An old peer is connected: it is told the keys that we own."""
        self._node._background(self._tell_keys(link))

    def link_closed(self, link: MeshConnection) -> None:
        """An old peer is gone, or its link is."""
        self._tables.link_closed(link)
        self._host.forget(link)
        if not link.leeching and link.address is not None and link.address.reachable:
            self._node._background(self._reconnect(link))

    async def _reconnect(self, lost: MeshConnection) -> None:
        # Links of old peers go down for less than their owners' deaths: a wrong message is enough.
        assert lost.address is not None
        address = believed(lost.address, lost.remote_host)
        for seconds in _RECONNECT_SECONDS if address is not None else ():
            await self._node.sleep(seconds)
            if lost.id in self._node.routing_table:
                return
            try:
                await self._node._link_to(address)
                return
            except ChordError as error:
                text = "{link} does not come back: {error}"
                self._node._limited_log.debug(text, link=lost, error=str(error))

    async def _tell_keys(self, link: MeshConnection) -> None:
        """py2p can delete only keys that it was told of."""
        count = 0
        for key in self._store.keys():
            record = self._store.get(key)
            if record is None or not record.alive(self._node._wall_ms()):
                continue
            if self._ring.owns(places_of(key)[3].position) and not link.closed:
                link.send(flags.NOTIFY, key)
            count += 1
            if count % _BATCH == 0:
                await self._node.sleep(_BATCH_PAUSE_SECONDS)

    def any_store(self) -> bool:
        """See :meth:`OldHost.any_store`."""
        return self._host.any_store()

    def may_have_changed(self, key: bytes) -> bool:
        """Whether an old peer may have overwritten a key without a word: see :meth:`OldHost.silent_owner`."""
        return self._host.any_store() and self._host.silent_owner(places_of(key), self._routing.arcs.owner)

    async def refresh(self, key: bytes) -> None:
        """Have what an old peer may have changed by itself made a write.

        :raises ChordError: when the key's adopter cannot be reached.
        """
        await self._at_host(places_of(key)[0].position, "old_refresh", key)

    def stored(self, key: bytes, record: Record) -> Deferred[None] | None:
        """See :meth:`OldHost.stored`."""
        return self._host.stored(key, record)

    async def _at_host(self, position: int, method: str, *arguments: Any) -> list[Any]:
        """Ask the node of ours that would own a position.

        :raises ChordError: when it cannot be reached.
        """
        error: Exception = NotJoined("no host was found")
        for _ in range(_HOST_ATTEMPTS):
            host = self._routing.arcs.owner(position) or (await self._routing.lookup(position)).chain[0]
            try:
                if host.id == self._ring.me.id:
                    return await self._methods[method](*arguments)
                reply: list[Any] = await self._node._call_contact(host, method, *arguments)
                return reply
            except ChordError as failure:
                error = failure
                self._routing.call_failed(host.id, failure)
            await self._node.sleep(_HOST_PAUSE_SECONDS)
        raise error


def _served(
    method: Method, is_allowed: Callable[[MeshConnection], object] | None
) -> Callable[..., Deferred[list[Any]]]:
    """
    :param is_allowed: raises when the caller may not call it; None: anybody may.
    """

    def serve(caller: MeshConnection, *arguments: Any) -> Deferred[list[Any]]:
        if is_allowed is not None:
            is_allowed(caller)
        return Deferred.fromCoroutine(method(*arguments))

    return serve
