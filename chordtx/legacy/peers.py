"""One node's legacy peers: their messages and their links. Makes the other parts of this package."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.config import ChordSettings
from chordtx.errors import ChordError, ProtocolError
from chordtx.group import operations
from chordtx.group.messages import Operation
from chordtx.legacy import announcements, counter, host, hosts, pointers, presence, records, table_sync
from chordtx.legacy.announcements import Announcements, key_of
from chordtx.legacy.counter import Counter
from chordtx.legacy.entries import Entries
from chordtx.legacy.host import Host, id_bytes
from chordtx.legacy.hosts import Hosts
from chordtx.legacy.pointers import PointerTeller
from chordtx.legacy.presence import Presence
from chordtx.legacy.records import Records
from chordtx.legacy.table_sync import TableSync
from chordtx.legacy.tables import NAMING_TABLE, Place, Tables, places_of
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.address_trust import believed
from chordtx.mesh.deferreds import within
from chordtx.mesh.messaging import FlagHandler
from chordtx.mesh.status import kind_of
from chordtx.ring import Contact, distance
from chordtx.wire import Message, flags

#: How the ids begin of clients that ask on behalf of legacy peers.
LEGACY_CLIENT = b"legacy\x00\x00"
_SETTLE_SECONDS = 1.0
_BATCH = 100
_BATCH_PAUSE_SECONDS = 0.02
#: Deltas to one place that wait for its host.
_WAITING_MAX = 100
_RECONNECT_SECONDS = (0.5, 2.0, 5.0, 15.0)
_REFRESH_SECONDS = 1.5  # less than a call may take
_OWN_WORD_SECONDS = 1.0
_REMEMBERED_SECONDS = 5.0
_REMEMBERED_MAX = 1000
_DELETED = (b"del", "del")
#: Operations that do not look at what was there before, or not at what a legacy peer may have stored.
_LOOK_AT_NOTHING = frozenset(
    {operations.SET, operations.LIST, operations.COUNT, operations.WATCH, *operations.OF_LOCKS}
)
Method = Callable[..., Coroutine[Any, Any, list[Any]]]


class Node(
    announcements.Node,
    counter.Node,
    host.Node,
    hosts.Node,
    pointers.Node,
    presence.Node,
    records.Node,
    table_sync.Node,
    Protocol,
):
    """What legacy peers need of a node: what each part needs, and this."""

    reactor: Any

    def members_count(self) -> int:
        """How many nodes of the ring are known."""

    def member(self, caller: MeshConnection) -> Contact:
        """The member of the ring that calls. :raises NotJoined: when it is none."""

    def links(self) -> list[MeshConnection]:
        """All links."""

    def has_link(self, peer: str) -> bool:
        """Whether there is a link to a node, by its id."""

    def link_to(self, address: Address) -> Deferred[MeshConnection]:
        """A link to whoever is reached there. Fails with a ChordError."""


class LegacyPeers:
    """See the module.

    :ivar handlers: of sub-flags, by number. :ivar methods: that nodes of ours call, by name.
    """

    _log = Logger()

    def __init__(self, node: Node, settings: ChordSettings) -> None:
        self._node = node
        self._connections_max = settings.mesh.connections_max
        self._key_bytes_max = settings.key_bytes_max
        self._handing = False
        self._storing: dict[Place, list[tuple[bool, bytes, bytes]]] = {}
        # What legacy peers have announced, and what was written for them, each with when: see key_changed
        self._announced: dict[tuple[bytes, bool], float] = {}
        self._written: dict[bytes, float] = {}
        limits = settings.mesh.limits
        self._records = Records(node, settings.value_bytes_max, limits)
        self._presence = Presence(node, self._presence_changed)
        self._tables = Tables(node.reactor)
        self._table_sync = TableSync(node, self._tables, self._records)
        self._hosts = Hosts(node)
        entries = Entries(settings.positions_unnamed_max, settings.positions_unnamed_bytes_max)
        self._host = Host(
            node,
            self._hosts,
            self._presence,
            self._tables,
            self._table_sync,
            self._records,
            entries,
            settings.key_bytes_max,
        )
        self._counter = Counter(node, self._host, self._hosts, self._records, limits, settings.key_bytes_max)
        self._teller = PointerTeller(node, self._presence)
        self._announcements = Announcements(node, settings.announce_interval_seconds)
        self.handlers: dict[int, FlagHandler] = {
            flags.LEGACY: self._presence.heard,
            flags.ANNOUNCE: self._announcements.received,
            flags.NOTIFY: self._notify_received,
            flags.STORE: self._store_received,
            flags.DELTA: self._delta_received,
            flags.RETRIEVE: self._retrieve_received,
            flags.RETRIEVED: self._tables.retrieved,
        }
        self.methods: dict[str, Callable[..., Deferred[list[Any]]]] = {
            "legacy_store": self._for_all(self._host.store),
            "legacy_retrieve": self._for_all(self._host.retrieve),
            "legacy_hint": self._for_all(self._counter.hinted),
            "legacy_refresh": self._for_all(self._counter.refresh),
            "legacy_keys": self._for_members(self._host.keys_told),
            "legacy_changed": self._for_members(self._host.keys_changed),
            "legacy_opinion": self._for_members(self._host.opinion),
            "legacy_settled": self._for_members(self._host.settled),
        }
        for link in node.links():  # when the node has given up a ring for another
            if not link.ours:
                self.link_opened(link)

    def _for_all(self, method: Method) -> Callable[..., Deferred[list[Any]]]:
        """Also for nodes of ours that store nothing, and may have links to legacy peers."""

        def serve(_: MeshConnection | None, *arguments: Any) -> Deferred[list[Any]]:
            return Deferred.fromCoroutine(method(*arguments))

        return serve

    def _for_members(self, method: Method) -> Callable[..., Deferred[list[Any]]]:
        """Only what leaders and hosts tell one another."""

        def serve(caller: MeshConnection | None, *arguments: Any) -> Deferred[list[Any]]:
            if caller is not None:
                self._node.member(caller)
            return Deferred.fromCoroutine(method(*arguments))

        return serve

    # Whether there are any

    @property
    def is_active(self) -> bool:
        """Whether there are legacy peers anywhere in the ring."""
        return self._presence.is_active

    def _presence_changed(self) -> None:
        if self._presence.is_active:
            self._teller.begin()
        else:
            self._host.forget_pointers()

    def hosted(self) -> list[dict[str, Any]]:
        """The storing legacy peers whose ids this node owns, in the order of the walk, fit for JSON."""
        links = [link for link in self._presence.links if not link.leeching and self._node.owns(link.id_10)]
        links.sort(key=lambda link: distance(link.id_10, self._node.own_id()), reverse=True)
        return [{"id": link.id, "address": str(link.address), "kind": kind_of(link)} for link in links]

    # Links

    def link_opened(self, link: MeshConnection) -> None:
        """There is a link. A legacy peer is told the keys that we lead."""
        for other in self._presence.others_to(link):  # this one has taken its place
            self._forget(other)
        if link.ours or not self._is_refused(link):
            self._presence.link_opened(link)
            if not link.ours:
                self._node.background(self._tell_keys(link))

    def _is_refused(self, link: MeshConnection) -> bool:
        """A node that serves legacy peers has to know every node of the ring."""
        count = self._node.members_count()
        if count <= self._connections_max:
            return False
        link.refuse(ChordError(f"a ring of {count} nodes is too large for py2p and js2p"))
        return True

    def link_closed(self, link: MeshConnection) -> bool:
        """A link is gone. :returns: whether it was one to a legacy peer."""
        if link.ours:
            self._teller.lost(link.id_10)
            if not link.leeching:  # a client that goes changes nothing
                self._host.ours_changed()
            return False
        self._forget(link)
        if not link.leeching and link.address is not None and link.address.reachable:
            self._node.background(self._reconnect(link))
        return True

    def _forget(self, link: MeshConnection) -> None:
        self._presence.link_closed(link)
        self._tables.link_closed(link)
        self._table_sync.forget(link)

    async def _reconnect(self, lost: MeshConnection) -> None:
        # Links of legacy peers go down for less than their owners' deaths: a wrong message is enough.
        assert lost.address is not None
        address = believed(lost.address, lost.remote_host)
        if address is None:
            return
        for seconds in _RECONNECT_SECONDS:
            await self._node.sleep(seconds)
            if self._node.has_link(lost.id or ""):
                return
            try:
                await self._node.link_to(address)
                return
            except ChordError as error:
                text = "{link} does not come back: {error}"
                self._node.limited_log().debug(text, link=lost, error=str(error))

    def state_told(self, link: MeshConnection) -> bool:
        """A peer has begun to store, or ceased to. :returns: whether it is a legacy peer.

        When one has begun, everyone links to it, and it is handed what is nearer to it.
        """
        if link.ours:
            self._host.ours_changed()
            return False
        if link.leeching:
            self._host.ceased(link)
            return True
        if link.address is not None and link.address.reachable:
            told = [[link.address.to_wire(), (link.id or "").encode("ascii")]]
            for other in self._node.links():
                if other.ours:
                    other.send(flags.PEERS, told)
        self._node.background(self._host.hand_entries(link))
        return True

    def ring_changed(self) -> None:
        """We may be the host of other positions now, and the ring may be too large."""
        if not self.is_active:
            return
        self._host.arc_changed()
        for link in tuple(self._presence.links):
            self._is_refused(link)
        if not self._handing:
            self._handing = True
            self._node.background(self._hand_entries())

    async def _hand_entries(self) -> None:
        try:
            await self._node.sleep(_SETTLE_SECONDS)
        finally:
            self._handing = False
        for link in tuple(self._presence.links):
            await self._host.hand_entries(link)

    async def _tell_keys(self, link: MeshConnection) -> None:
        """py2p can delete only keys that it was told of."""
        count = 0
        for partition in self._node.leads():
            for key in self._node.keys_of(partition):
                if link.closed:
                    return
                link.send(flags.NOTIFY, key)
                count += 1
                if count % _BATCH == 0:
                    await self._node.sleep(_BATCH_PAUSE_SECONDS)

    # Messages

    def is_for(self, link: MeshConnection, message: Message) -> bool:
        """Whether a broadcast goes over a link: any but announcements that no legacy peer hears there."""
        return self._announcements.is_for(link, message)

    def flush(self) -> None:
        """The node is about to leave: what is to be announced goes out now."""
        self._announcements.flush()

    def _store_received(self, link: MeshConnection, message: Message) -> None:
        """``store [11, method, position, value]``; nil deletes."""
        if len(message.payload) != 4:
            raise ProtocolError("a store has a table, a position and a value")
        self._forward(link, Place.from_legacy(*message.payload[1:3]), False, message.payload[3])

    def _delta_received(self, link: MeshConnection, message: Message) -> None:
        """``delta [17, method, position, map]``."""
        if len(message.payload) != 4 or not isinstance(message.payload[3], dict):
            raise ProtocolError("a delta has a table, a position and a map")
        self._forward(link, Place.from_legacy(*message.payload[1:3]), True, message.payload[3])

    def _forward(self, link: MeshConnection, place: Place, is_delta: bool, value: Any) -> None:
        try:
            blob = self._records.pack(value)
        except (TypeError, ChordError) as error:
            raise ProtocolError(f"a legacy peer's value cannot be kept: {error}") from error
        waiting = self._storing.get(place)
        if waiting is None:
            self._storing[place] = [(is_delta, blob, id_bytes(link))]
            self._node.background(self._store(place))
            return
        if not is_delta or len(waiting) > _WAITING_MAX:
            del waiting[1:]  # the first is on its way; the others come to nothing by this
        waiting.append((is_delta, blob, id_bytes(link)))

    async def _store(self, place: Place) -> None:
        """What comes for one place goes to its host in this order."""
        waiting = self._storing[place]
        try:
            while waiting:
                await self._hosts.ask(place.position, "legacy_store", place.to_wire(), *waiting[0])
                del waiting[0]
        except ChordError as error:
            text = "what a legacy peer stored reaches no host: {error}"
            self._node.limited_log().info(text, error=str(error))
        finally:
            del self._storing[place]

    def _retrieve_received(self, link: MeshConnection, message: Message) -> None:
        """``retrieve [12, method, position]``, answered by ``retrieved``."""
        if len(message.payload) != 3:
            raise ProtocolError("a retrieve has a table and a position")
        place = Place.from_legacy(*message.payload[1:])
        self._tables.asked_back(link, place)
        self._node.background(self._answer(link, place, message.payload[1], message.payload[2]))

    async def _answer(self, link: MeshConnection, place: Place, method: Any, position: Any) -> None:
        try:
            (blob,) = await self._hosts.ask(
                place.position, "legacy_retrieve", place.to_wire(), id_bytes(link)
            )
            value = None if blob is None else self._records.unpack(blob)
        except ChordError as error:  # no answer is better than that there is nothing
            text = "a legacy peer gets no answer: {error}"
            self._node.limited_log().info(text, error=str(error))
            return
        link.send(flags.RETRIEVED, method, position, value)

    def _notify_received(self, link: MeshConnection, message: Message) -> None:
        """``notify [6, key]``: a legacy peer names a key, which may be what entries here wait for."""
        key = key_of(message)
        if len(key) > self._key_bytes_max:
            raise ProtocolError("the key is too long")
        is_gone = len(message.payload) == 3 and message.payload[2] in _DELETED
        if message.type == flags.BROADCAST:
            _remember(self._announced, (key, is_gone), self._node.seconds())
        waits = self._host.name(key)
        if waits or not link.ours or self._node.owns(places_of(key)[NAMING_TABLE].position):
            self._host.hint(key)

    # What happens where this node leads

    def key_changed(self, key: bytes, is_gone: bool | None) -> None:
        """A record came or went, where this node leads; or was changed, if ``is_gone`` is None."""
        if not self.is_active:
            return
        self._teller.key_changed(key, bool(is_gone))
        if is_gone is None:
            return
        if key in self._written and self._written[key] > self._node.seconds() - _REMEMBERED_SECONDS:
            self._node.background(self._announce_unless_told(key, is_gone))
        else:
            self._announcements.announce(key, is_gone)

    async def _announce_unless_told(self, key: bytes, is_gone: bool) -> None:
        """js2p never says what it deletes. py2p does, but its word may come after its stores."""
        if not self._was_announced(key, is_gone):
            await self._node.sleep(_OWN_WORD_SECONDS)
            if not self._was_announced(key, is_gone):
                self._announcements.announce(key, is_gone)

    def _was_announced(self, key: bytes, is_gone: bool) -> bool:
        at = self._announced.pop((key, is_gone), -inf)
        return at > self._node.seconds() - _REMEMBERED_SECONDS

    def before(self, operation: Operation) -> Deferred[Any] | None:
        """What an operation of a group that this node leads has to wait for; None when it may be done.

        A legacy peer that takes all places of a key overwrites it in silence: it is asked first.
        """
        if operation.client.startswith(LEGACY_CLIENT):
            if operation.kind not in operations.READS:
                _remember(self._written, operation.key, self._node.seconds())
            return None
        if operation.kind in _LOOK_AT_NOTHING or not self._host.is_taken_whole(operation.key):
            return None
        return self._node.background(self._refresh(operation.key))

    async def _refresh(self, key: bytes) -> None:
        asked = Deferred.fromCoroutine(
            self._hosts.ask(places_of(key)[NAMING_TABLE].position, "legacy_refresh", key)
        )
        try:
            await within(_REFRESH_SECONDS, self._node.reactor, asked, lambda: ChordError("it takes too long"))
        except ChordError as error:
            text = "a legacy peer may have changed {key}, and does not answer: {error}"
            self._node.limited_log().info(text, key=repr(key[:80]), error=str(error))


def _remember(latest: dict[Any, float], what: Any, seconds: float) -> None:
    latest.pop(what, None)
    latest[what] = seconds
    if len(latest) > _REMEMBERED_MAX:
        del latest[next(iter(latest))]
