"""The distributed dict: a node of a Chord ring, as users embed it.

:class:`ChordService` puts the parts together: :class:`~chordtx.chord.membership.Membership` keeps its
place in the ring, :class:`~chordtx.chord.routing.Routing` finds replicas,
:class:`~chordtx.chord.coordinator.Coordinator` reads and writes,
:class:`~chordtx.chord.replica.Replica` answers for its own records,
:class:`~chordtx.chord.repair.Repair` finds out what it lacks, and
:class:`~chordtx.chord.transfer.Transfer` moves records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from chordtx.chord.announcements import Announcements
from chordtx.chord.contacts import Contacts
from chordtx.chord.coordinator import Coordinator
from chordtx.chord.dictionary import RingDict
from chordtx.chord.joining import Joining
from chordtx.chord.keeping import Keeping
from chordtx.chord.listing import Listing
from chordtx.chord.membership import Membership
from chordtx.chord.old_peers import OldPeers
from chordtx.chord.repair import Repair
from chordtx.chord.replica import Replica
from chordtx.chord.reunion import Reunion
from chordtx.chord.ring_age import RingAge
from chordtx.chord.routing import Routing, contact_of
from chordtx.chord.shares import Shares
from chordtx.chord.status import status_of_ring
from chordtx.chord.transfer import Transfer
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError, Stopped
from chordtx.mesh import Address, MeshConnection, MeshService
from chordtx.mesh.arguments import check_settings
from chordtx.mesh.endpoints import Outward
from chordtx.mesh.life import Phase
from chordtx.mesh.messaging import FlagHandler
from chordtx.mesh.status import kind_of
from chordtx.mesh.waiting import Shared, within
from chordtx.records import HybridClock, RecordLimits
from chordtx.ring import Contact, RingNode, distance
from chordtx.store import IStore, MemoryStore
from chordtx.wire import Message, flags

_JOIN_RETRY_SECONDS = 0.1
_SPREAD_SECONDS = 1.0


class ChordService(RingDict, MeshService):
    """A node of a Chord ring, with the ring's records as a dict.

    :param reactor: Twisted's, or one that behaves like it.
    :param listen: Twisted server endpoint to accept peers on, or the text of one; None accepts none, and can
        only leech.
    :param advertise: outward address ``HOST:PORT``; taken from ``listen`` when None.
    :param peers: addresses of nodes to join through; with none, the node begins a ring of its own.
    :param subnet: the network's name. :param encryption: ``Plaintext`` or ``SSL``.
    :param leech: use the ring, and store nothing.
    :param settings: limits and times. :param rng: random source. :param store: where records are kept; it is
        closed when the service has stopped, and cannot be used again then, unless it is in memory.
    :param data: path of a folder to keep records, id and peers in instead, opened at the start.
    :param node_id: the id from an earlier run. :param remembered: addresses of peers from an earlier run, to
        join through. :param wall_clock: gives Unix time in seconds, for expiry and what people read; the
        system's when None.
    :raises ValueError: for an address, encryption or setting that makes no sense.
    :raises TypeError: for an argument of another kind.
    """

    _log = Logger()
    _keeps_messages = False
    _event_names = (*MeshService._event_names, "add", "delete")
    _seeks_lost = False  # the ring has its own ways, see Reunion
    _joins_by_a_link = False  # see Joining
    _old_peers: OldPeers

    def __init__(
        self,
        reactor: Any = None,
        listen: str | IStreamServerEndpoint | None = "tcp:44565:interface=127.0.0.1",
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "chord",
        encryption: str = "Plaintext",
        leech: bool = False,
        settings: ChordSettings | None = None,
        rng: Random | None = None,
        store: IStore | None = None,
        data: str | None = None,
        node_id: str | None = None,
        remembered: Iterable[str] = (),
        wall_clock: Callable[[], float] | None = None,
    ) -> None:
        self.leeching = leech or listen is None
        self._chord_settings = check_settings(settings, ChordSettings).validate()
        mesh = self._chord_settings.mesh
        MeshService.__init__(
            self, reactor, listen, advertise, peers, subnet, encryption, mesh, rng, wall_clock
        )
        self._key_bytes_max = self._chord_settings.key_bytes_max
        self._value_bytes_max = self._chord_settings.value_bytes_max
        self._value_limits = mesh.limits
        self._record_limits = RecordLimits(self._value_bytes_max, mesh.limits)
        if node_id is not None:
            self._be(node_id)
        self._clock = HybridClock(
            self._rng.randbytes(16), int(self._chord_settings.clock_drift_seconds_max * 1000)
        )
        self._ring = RingNode(Contact(self.id_10, "", 0), self._chord_settings.successors_max)
        absence_seconds_max = self._chord_settings.absence_seconds_max
        self._age = RingAge(self, lambda: self._ring.is_member, absence_seconds_max, self._drop_until)
        self._keeping = Keeping(self, data, self._age)
        self._replica = Replica(
            MemoryStore() if store is None else store,
            self._clock,
            self._chord_settings,
            lambda: self._ring.is_member,
            self._wall_ms,
            self._age.going_on_seconds,
            self._record_limits,
        )
        self._announcements = Announcements(self, self._chord_settings.announce_interval_seconds)
        self._contacts = Contacts(self, self._chord_settings.call_timeout_seconds)
        self._members = self._contacts.members
        self._call_contact = self._contacts.call
        self._ask_contact = self._contacts.ask
        self._is_linked = self._contacts.is_linked
        self._calling_member = self._contacts.member
        self._coming_member = self._contacts.coming_member
        self._has_place = self._contacts.has_place
        self._round_trip_seconds = self._contacts.round_trip_seconds
        self._joining = Joining(
            self, self._bootstrap, self._chord_settings.join_timeout_seconds, self._life.joined
        )
        self._remember_from_before(remembered)
        self._started = []
        self._spreading: set[Address] = set()
        self._leaving = False
        self._unjoining: Shared[None] | None = None
        self._is_store_closed = False
        self._put_together()
        self._flag_handlers.update(self._chord_handlers())

    def _chord_handlers(self) -> dict[int, FlagHandler]:
        # What has to do with old peers is made anew at each start, and so looked up at each message.
        return {
            flags.HANDSHAKE: self._meta_received,
            flags.ANNOUNCE: self._announcements.received,
            flags.NOTIFY: self._notify_received,
            flags.STORE: lambda link, message: self._old_peers.store_received(link, message),
            flags.DELTA: lambda link, message: self._old_peers.delta_received(link, message),
            flags.RETRIEVE: lambda link, message: self._old_peers.retrieve_received(link, message),
            flags.RETRIEVED: lambda link, message: self._old_peers.retrieved_received(link, message),
        }

    def _put_together(self) -> None:
        settings, replica = self._chord_settings, self._replica
        self._routing = Routing(self._ring, settings, self._members, self._call_contact)
        self._membership = Membership(self, self._ring, self._routing, settings, self._ring_changed)
        self._reunion = Reunion(self, self._ring, self._membership, settings)
        self._coordinator = Coordinator(
            self,
            self.id_10,
            self._routing,
            replica,
            self._clock,
            settings,
            self._wall_ms,
            self._record_limits,
        )
        self._old_peers = OldPeers(
            self, self._ring, self._routing, replica.store, self._coordinator, self._clock, settings
        )
        replica.stored = self._old_peers.stored
        replica.may_have_changed = self._old_peers.may_have_changed
        self._refresh_from_old = self._old_peers.refresh
        replica.has_old_peers = self._old_peers.any_store
        shares = Shares(self, self.id_10, self._routing, replica.store)
        replica.merged = shares.merged
        replica.agrees = self._routing.agrees
        self._transfer = Transfer(
            self, self._ring, self._routing, replica, shares, settings, self._record_limits
        )
        self._repair = Repair(self, self._ring, self._routing, replica, shares, self._transfer, settings)
        self._listing = Listing(
            self, self._ring, self._routing, replica, settings, self._wall_ms, lambda: self._repair.is_settled
        )
        self._methods.update(
            read=replica.read, version=replica.version, write=replica.write, status=self._status
        )
        self._methods.update(may_begin=self._joining.may_begin)

    # The service

    def _prepare(self) -> None:
        """See :class:`~chordtx.MeshService`: open the data folder, and be who we were."""
        folder = self._keeping.open()
        if folder is not None:
            self._replica.store = folder.store
            folder.store.on_lost = lambda key: self._repair.lost(key)
            if folder.node_id is not None:
                self._be(folder.node_id)
            self._remember_from_before(folder.peers)
        elif self._is_store_closed:
            raise Stopped("the store that was given is closed: make a new service to start again")
        self._joining.remember(self._known_addresses())  # when this is not the first start

    def _remember_from_before(self, peers: Iterable[str]) -> None:
        addresses = []
        for peer in peers:
            with suppress(ValueError):
                addresses.append(Address.parse(peer))
        self._remember(addresses)
        self._joining.remember(addresses)

    async def _finish(self) -> None:
        """See :class:`~chordtx.MeshService`: the store is closed last."""
        await self._keeping.close()
        try:
            closed = self._replica.store.close()
            if closed is not None:
                self._is_store_closed = True
                await closed
        except ChordError as error:
            self._log.error("not everything could be stored: {error}", error=str(error))

    def when_joined(self) -> Deferred[None]:
        """Fires when the node is in a ring (a leeching one: can reach one), and may be used.

        Fails with the reason when the service cannot start (port taken, data folder not usable and so on);
        with :class:`~chordtx.errors.NotJoined` when no ring is found in ``join_timeout_seconds``, and
        :class:`~chordtx.errors.WrongSubnet` when the peers are of another network, though the node goes on
        trying; at once with :class:`~chordtx.errors.NotJoined` before the start and
        :class:`~chordtx.errors.Stopped` from when the service is stopped.
        """
        return super().when_joined()

    def _port_opened(self) -> None:
        """The port is open: find the ring."""
        address = self._own_address()
        self._ring = RingNode(
            Contact(self.id_10, address.host, address.port), self._chord_settings.successors_max
        )
        self._leaving = False
        self._spreading.clear()
        self._put_together()
        super()._port_opened()
        self._age.go_on()
        self._keeping.go_on()
        self._look_for_ring()

    def _outward(self) -> Outward:
        """See :class:`~chordtx.MeshService`: who stores must be found."""
        return Outward.UNUSED if self.leeching else Outward.NEEDED

    def _look_for_ring(self) -> None:
        self._joining.look(self._join_through, self._begin_ring)

    async def _leave(self) -> None:
        """Leave the ring politely: hand over, and say goodbye."""
        self._joining.stop()
        self._announcements.flush()
        await self._coordinator.finish_writes(self._chord_settings.call_timeout_seconds)
        self._announcements.flush()
        if self._unjoining is not None:
            await self._unjoining.wait()  # it is leaving already
        elif self._ring.is_member:
            await self._hand_over_and_go()
        self._stop_keeping_our_place()

    def _stop_keeping_our_place(self) -> None:
        self._repair.stop()
        self._reunion.stop()
        self._membership.stop()

    async def _hand_over_and_go(self) -> None:
        self._repair.stop()
        settings = self._chord_settings
        if self._ring.successors:
            handed_over = Deferred.fromCoroutine(self._transfer.hand_over())
            seconds = settings.leave_timeout_seconds
            within(seconds, self.reactor, handed_over, lambda: NotJoined("handing over took too long"))
            try:
                await handed_over
            except ChordError as error:
                self._log.warn("left without handing everything over: {error}", error=str(error))
            except Exception:
                self._log.failure("left without handing everything over")
            self._leaving = True  # not before: what is handed over is taken from members only
            self._tell_state(leeching=True)
            await self._membership.say_goodbye()
        self._stop_keeping_our_place()
        self._age.keep()
        self._ring.leave()
        self._routing.ring_changed()
        self._leaving = False

    async def _join_through(self, member: MeshConnection) -> None:
        if self.leeching:
            await self._routing.lookup(self.id_10, only=member)
            return
        if not self._ring.is_member:
            await self._age.join(member)
            await self._membership.join(member)
            self._keep_our_place()
        await self._repair.when_caught_up()

    async def _begin_ring(self, others_waiting: int) -> None:
        if not self._ring.is_member:
            self._age.begin()
            self._membership.create()
            self._tell_state(leeching=False)
            if others_waiting:
                await self._wait_for(min(others_waiting, self._chord_settings.successors_max))
            else:
                self._repair.begin_ring()
            self._keep_our_place()
        await self._repair.when_caught_up()

    def _keep_our_place(self) -> None:
        self._tell_state(leeching=False)
        self._repair.keep_whole()
        self._reunion.keep_looking()

    async def _wait_for(self, others: int) -> None:
        """Those that were in the ring with us know what we missed: compare with them before we vote."""
        late = self.reactor.seconds() + self._chord_settings.settle_timeout_seconds
        while len(self._ring.successors) < others and self.reactor.seconds() < late:
            await self.sleep(_JOIN_RETRY_SECONDS)

    def _drop_until(self, until_ms: int) -> int:
        """Drop the records that were written up to then. :returns: how many."""
        store = self._replica.store
        old = [
            key for key in store.keys() if (record := store.get(key)) and record.newest.time_ms <= until_ms
        ]
        for key in old:
            store.drop(key)
            self._repair.lost(key)
        return len(old)

    def join(self) -> Deferred[None]:
        """Begin to store, after :meth:`unjoin` or when started as a leech. :returns: as :meth:`when_joined`.

        :raises ValueError: for a node that nobody could connect to.
        """
        if not self._listening.accepts:
            raise ValueError("a node that does not listen cannot store: nobody could reach it")
        if Outward.NEEDED.lacks(self._own_address()):
            raise ValueError(
                "a node cannot store without an address that peers can connect to: give advertise"
            )
        if not self.leeching or self._life.refusal is not None:
            return self.when_joined()
        self.leeching = False
        self._joining.stop()  # a leech that has not found any ring yet
        self._life.joined.reset()
        if self._life.phase is Phase.UP:  # else it looks for the ring by itself once it is started
            self._background(self._join_once_unjoined())
        return self.when_joined()

    async def _join_once_unjoined(self) -> None:
        if self._unjoining is not None:
            await self._unjoining.wait()
        if not self.leeching:
            self._put_together()
            self._look_for_ring()

    def unjoin(self) -> Deferred[None]:
        """Hand over everything, and only use the ring from then on.

        :returns: fires when that is done. Cancelling it does not keep the node in the ring.
        """
        if self._life.refusal is not None:
            return fail(self._life.refusal)
        if not self.leeching:
            self.leeching = True
            self._joining.stop()
            if self._unjoining is None:
                self._unjoining = Shared(self._run(self._unjoin()))
        under_way = self._unjoining
        if under_way is None:
            return succeed(None)
        if under_way.is_done:
            self._unjoining = None
        return under_way.wait()

    async def _unjoin(self) -> None:
        try:
            await self._hand_over_and_go()
        finally:
            self._unjoining = None
        if not self._joining.is_joined and self.leeching:  # it was to stop before it was in a ring
            self._put_together()
            self._look_for_ring()

    # What the parts need

    def _remembered(self) -> list[Address]:
        """Where nodes were reached that we have no link to now."""
        return self._exchange.unlinked()

    def _met_before(self, message: Message) -> bool:
        """Whether this broadcast was met before; it counts as met from now on."""
        return not self._broadcasts.first_time(message, message.id)

    # What happens

    def _own_arc_start(self) -> bytes | None:
        """See :class:`~chordtx.mesh.connection.ConnectionOwner`."""
        ring = self._ring
        if not ring.is_member:
            return None
        if ring.predecessor is not None:
            return ring.predecessor.id.to_bytes(48, "big")
        return ring.me.id.to_bytes(48, "big") if ring.complete and not ring.successors else None

    def _arc_told(self, connection: MeshConnection) -> None:
        """See :class:`~chordtx.mesh.connection.ConnectionOwner`."""
        if connection.arc_start is not None and not connection.leeching:
            self._routing.arc_told(connection, int.from_bytes(connection.arc_start, "big"))

    def _link_opened(self, link: MeshConnection) -> None:
        """See :class:`~chordtx.MeshService`."""
        self._contacts.link_opened(link)
        link.send(flags.HANDSHAKE, "1" if self._stores_nothing() else "0")
        if link.ours:
            self._membership.link_made(link)
        else:
            self._old_peers.link_opened(link)

    def _link_closed(self, link: MeshConnection, reason: Exception) -> None:
        """See :class:`~chordtx.MeshService`."""
        if self._contacts.link_closed(link):
            if not link.ours:
                self._old_peers.link_closed(link)
            elif not link.leeching and not self._closing:
                self._membership.link_lost(link, is_silent=isinstance(reason, TimeoutError))

    def _peer_met(self, peer: str, address: Address) -> None:
        """A peer was named: a member of a ring as small as our links go keeps one to everybody."""
        if (
            self.leeching
            or peer in self.routing_table
            or len(self.routing_table) >= self.settings.connections_max
        ):
            return
        if address in self._spreading or len(self._spreading) >= self.settings.connections_max:
            return
        # Both sides hear of each other at about the same time: the one with the greater id goes first, so
        # that there is one link and not two of which one must go again.
        first = self.id > peer
        delay = 0.0 if first else _SPREAD_SECONDS * (1 + self._rng.random())
        self._background(self._connect_unless_linked(peer, address, delay))

    async def _connect_unless_linked(self, peer: str, address: Address, delay_seconds: float) -> None:
        self._spreading.add(address)
        try:
            await self.sleep(delay_seconds)
        finally:
            self._spreading.discard(address)
        if peer not in self.routing_table:
            self._connect_quietly(address)

    def _may_relay(self, link: MeshConnection, message: Message) -> bool:
        """See :class:`~chordtx.MeshService`: announcements go to our own nodes only."""
        if message.payload[0] == flags.ANNOUNCE and not link.ours:
            return False
        return super()._may_relay(link, message)

    def _announce(self, key: bytes, deleted: bool) -> None:
        """Tell everyone that a key came or went."""
        self._announcements.announce(key, deleted)

    def _notify_received(self, link: MeshConnection, message: Message) -> None:
        self._announcements.notified(message)
        self._old_peers.notify_received(link, message)

    def _ring_changed(self) -> None:
        self._old_peers.ring_changed()

    def _stores_nothing(self) -> bool:
        return not self._ring.is_member or self._leaving

    def _tell_state(self, leeching: bool) -> None:
        for link in tuple(self.routing_table.values()):
            link.send(flags.HANDSHAKE, "1" if leeching else "0")

    def _meta_received(self, connection: MeshConnection, message: Message) -> None:
        """``meta [5, '0' | '1']``: whether the peer stores."""
        if len(message.payload) != 2 or message.payload[1] not in ("0", "1", b"0", b"1"):
            raise ProtocolError("meta says '0' or '1'")
        leeching = message.payload[1] in ("1", b"1") or not _can_be_found(connection)
        changed = leeching != connection.leeching
        connection.leeching = leeching
        if changed and not connection.ours:
            if not leeching:
                self._old_peers.link_stores(connection)
        elif changed:
            if leeching:
                self._routing.forget(connection.id_10)
                return
            self._exchange.greeted(connection)  # a member may be reached by a name
            self._age.met(connection)  # before anything else is asked of it
            self._routing.met(contact_of(connection))
            if self._ring.is_member:
                self._membership.link_opened(connection)

    # What operators see

    @property
    def next(self) -> Contact | None:
        """The next node along the walk, None in a ring of one."""
        return self._ring.successor

    @property
    def prev(self) -> Contact | None:
        """The node before on the walk, None while unknown."""
        return self._ring.predecessor

    @property
    def status(self) -> dict[str, Any]:
        """This node's view, fit for JSON: id, address, neighbours, arc, records, bytes, peers."""
        return super().status

    def _own_status(self) -> dict[str, Any]:
        return {
            "leeching": self._stores_nothing(),
            "caught_up": self._repair.has_caught_up,
            **status_of_ring(self._ring),
            "records": len(self._replica.store),
            "bytes": self._replica.store.bytes_used,
            **self._keeping.status,
        }

    def _status_summary(self) -> dict[str, Any]:
        """:attr:`status`, with the number of peers instead of each, and the old peers it hosts."""
        hosted = [
            link
            for link in self.routing_table.values()
            if not link.ours and not link.leeching and self._ring.owns(link.id_10)
        ]
        hosted.sort(key=lambda link: distance(link.id_10, self._ring.me.id), reverse=True)
        old_peers = [{"id": link.id, "address": str(link.address), "kind": kind_of(link)} for link in hosted]
        return {**self.status, "peers": len(self.routing_table), "old_peers": old_peers}

    def _status(self, caller: MeshConnection) -> list[Any]:
        return [self._status_summary()]

    def ring(self) -> Deferred[list[dict[str, Any]]]:
        """The ring, walked once.

        :returns: fires with one dict a node, in the order of the walk: id, address, records and so on.
        """
        return self._run(self._listing.walk())


def _can_be_found(link: MeshConnection) -> bool:
    """Whether others could connect to this peer, so that it can be a member of the ring."""
    return not link.ours or (link.address is not None and link.address.reachable)
