"""The distributed dict: a node of a Chord ring, as users embed it.

The ring says where to look, and the group decides what is stored. :class:`ChordService` puts the parts
together: :class:`~chordtx.chord.membership.Membership` keeps the node's place in the ring,
:class:`~chordtx.chord.routing.Routing` finds who owns a position, :class:`~chordtx.chord.hosting.Hosting`
runs the groups that the node is in, :class:`~chordtx.chord.placement.Placement` tells groups who ought to be
in them, and :class:`~chordtx.chord.client.GroupClient` asks their leaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from chordtx.assignments import Assignments
from chordtx.chord.bootstrap import Bootstrap
from chordtx.chord.client import GroupClient
from chordtx.chord.departure import Departure
from chordtx.chord.hosting import Hosting
from chordtx.chord.key_events import KeyEvents
from chordtx.chord.leaders import Leaders, node_id_of
from chordtx.chord.link_policy import LinkPolicy
from chordtx.chord.membership import Membership
from chordtx.chord.namespace import RingNamespaces
from chordtx.chord.node_folder import NodeFolder, OpenFolder, opens
from chordtx.chord.node_parts import NodeParts
from chordtx.chord.operating import Operating
from chordtx.chord.placement import OWNER_SECONDS, ROUND_SECONDS, Placement
from chordtx.chord.ring_identity import RING_ID_BYTES, RingIdentity
from chordtx.chord.ring_merge import RingMerge
from chordtx.chord.ring_view import RingView
from chordtx.chord.routing import Routing, contact_of
from chordtx.chord.rpc import Rpc
from chordtx.chord.serving import Serving
from chordtx.chord.set_aside import SetAside
from chordtx.chord.standings import Standings
from chordtx.chord.walk import RingWalk
from chordtx.chord.watching import Watches
from chordtx.config import ChordSettings
from chordtx.errors import NoMajorityTimeout, NotJoined
from chordtx.group.configuration import Member
from chordtx.legacy import LegacyPeers
from chordtx.mesh import Address, MeshConnection, MeshService
from chordtx.mesh.arguments import check_settings
from chordtx.mesh.deferreds import Gate, Shared, within
from chordtx.mesh.endpoints import Outward
from chordtx.mesh.life import Phase
from chordtx.mesh.loop import Loop
from chordtx.mesh.messaging import FlagHandler
from chordtx.mesh.steady import lease_clock_of
from chordtx.ring import Contact, RingNode
from chordtx.wire import Message, flags, node_id

_LEFT_SECONDS = 0.5
_CALM_MAX = 3.0  # times longer are the pauses between rounds of stabilization while nothing changes
_WATCH_SECONDS = 15.0  # for how long leaders keep the answer back when a watcher has nothing to be told
_NOTE_SECONDS = 1.0  # how often it is seen whether there is something new to note


class ChordService(RingNamespaces, RingView):
    """A node of a Chord ring, with the ring's records as a dict.

    :param reactor: Twisted's, or one that behaves like it.
    :param listen: Twisted server endpoint to accept peers on, or the text of one; None accepts none, and can
        only leech.
    :param advertise: outward address ``HOST:PORT``; taken from ``listen`` when None.
    :param peers: addresses of nodes to join through; with none, the node begins a ring of its own.
    :param subnet: the network's name. :param encryption: ``Plaintext`` or ``SSL``.
    :param leech: use the ring, and store nothing.
    :param settings: limits and times. :param rng: random source.
    :param data: path of a folder to keep records, id and peers in, opened at the start.
    :param remembered: addresses of peers from an earlier run, to join through.
    :param wall_clock: gives Unix time in seconds, for expiry and what people read; the system's when None.
    :param lease_clock: gives seconds on a clock that only runs forward, and that counts while the machine
        sleeps; the system's when None. :param open_folder: opens another kind of data folder.
    :raises ValueError: for an address, encryption or setting that makes no sense.
    :raises TypeError: for an argument of another kind.
    """

    _log = Logger()
    _keeps_messages = False
    _event_names = (*MeshService._event_names, "add", "delete", "reset")
    _seeks_lost = False  # the ring has its own ways, see RingMerge
    _joins_by_a_link = False  # see Bootstrap

    def __init__(
        self,
        reactor: object = None,
        listen: str | IStreamServerEndpoint | None = "tcp:44565:interface=127.0.0.1",
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "chord",
        encryption: str = "Plaintext",
        leech: bool = False,
        settings: ChordSettings | None = None,
        rng: Random | None = None,
        data: str | None = None,
        remembered: Iterable[str] = (),
        wall_clock: Callable[[], float] | None = None,
        lease_clock: Callable[[], float] | None = None,
        open_folder: OpenFolder | None = None,
    ) -> None:
        self.leeching = leech or listen is None
        self._chord_settings = check_settings(settings, ChordSettings).validate()
        mesh = self._chord_settings.mesh
        MeshService.__init__(
            self, reactor, listen, advertise, peers, subnet, encryption, mesh, rng, wall_clock
        )
        self._lease_clock = lease_clock or lease_clock_of(self.reactor)
        self._key_bytes_max = self._chord_settings.key_bytes_max
        self._value_bytes_max = self._chord_settings.value_bytes_max
        self._value_limits = mesh.limits
        self._read_limits = self._value_limits.of_reading
        self._identity: RingIdentity | None = None
        self._identified = Gate()
        self._book: dict[int, Contact] = {}
        self._connecting: set[int] = set()
        self._hosting: Hosting | None = None
        self._placing: Loop | None = None
        self._seeking: Loop | None = None
        self._rpc = Rpc(self, self._chord_settings.call_timeout_seconds)
        self._assignments = Assignments()
        self._has_run = False
        self._left = Gate()
        self._leaving = self._stopping = False
        self._unjoining: Shared[None] | None = None
        open_folder = open_folder or opens(data, self.subnet, self.reactor)
        self._kept = NodeFolder(self.reactor, open_folder, self._known_addresses)
        self._node: NodeParts = NodeParts(self)
        self._key_events = KeyEvents(self._node)
        self._standings = Standings(self._node)
        self._joining = Bootstrap(
            self._node,
            self._bootstrap,
            self._chord_settings.join_timeout_seconds,
            self._chord_settings.join_retries,
            self._life.joined,
        )
        self._remember_from_before(remembered)
        self._ring = RingNode(Contact(self.id_10, "", 0), self._chord_settings.successors_max)
        self._watches = Watches(self._node, _WATCH_SECONDS)
        self._put_together()
        self._flag_handlers.update(self._chord_handlers())

    def _chord_handlers(self) -> dict[int, FlagHandler]:
        return {
            flags.HANDSHAKE: self._standings.meta_received,
            flags.STANDING: self._standings.received,
            flags.REFUSAL: self._standings.refusal_received,
            flags.GROUPS: lambda link, message: self._serving.groups_received(link, *message.payload[1:]),
        }

    def _put_together(self) -> None:
        settings = self._chord_settings
        self._routing = Routing(self._ring, settings, self._rpc.members, self._rpc.call, self._node.seconds)
        self._membership = self._new_membership()
        self._ring_merge = RingMerge(self, self._ring, self._membership, settings)
        chain_length = settings.successors_max + 1
        self._leaders = Leaders(self._routing, lambda: self._identity, self._node.contact_of, chain_length)
        self._client = GroupClient(
            self._node,
            self._leaders,
            self._rng.randbytes(16),
            settings.operation_timeout_seconds,
            settings.value_bytes_max,
        )
        self._legacy = LegacyPeers(self._node.for_legacy(), settings)
        self._flag_handlers.update(self._legacy.handlers)
        self._placement = Placement(
            self._node,
            self._ring,
            self._leaders,
            settings.placement_settle_seconds,
            settings.restart_grace_seconds,
        )
        self._link_policy = LinkPolicy(self._node, self.id, self.settings.connections_max)
        self._serving = Serving(self._node, self._leaders, self.settings.limits, settings.value_bytes_max)
        self._departure = Departure(self._node, self._placement)
        self._walk = RingWalk(self._node, self._ring, self._routing, self._status_summary)
        self._set_aside = SetAside(self._node)
        self._operating = Operating(self._node, self._walk, self._set_aside)
        self._methods.update(
            led_groups=self._operating.led_groups,
            set_aside=self._set_aside.histories,
            read_set_aside=self._set_aside.page,
            leave=self._operating.leave,
            recover=self._operating.recover,
            force=self._operating.force,
            do=self._serving.do,
            pass_on=self._serving.pass_on,
            place=self._placement.placed,
            leads=self._placement.led,
            status=lambda caller: [self._status_summary()],
            may_begin=self._joining.may_begin,
            rival=self._standings.rival,
            **self._legacy.methods,
        )

    def _new_membership(self) -> Membership:
        settings, changed = self._chord_settings, self._ring_changed
        return Membership(self, self._ring, self._routing, settings, changed, _CALM_MAX)

    # The service

    def _prepare(self) -> None:
        """See :class:`~chordtx.MeshService`."""
        if self._identity is not None:  # it was in a ring when it was stopped
            self._joining.remember(self._known_addresses())
        folder = self._kept.open()
        if folder is None:
            self._be_new()
            return
        if folder.node_id is not None:
            self._be(folder.node_id)
        if folder.ring is not None:  # else its peers have waited for a ring as well
            self._remember_from_before(folder.peers)

    def _remember_from_before(self, peers: Iterable[str]) -> None:
        addresses = []
        for peer in peers:
            with suppress(ValueError):
                addresses.append(Address.parse(peer))
        self._remember(addresses)
        self._joining.remember(addresses)

    def when_joined(self) -> Deferred[None]:
        """Fires when the node is in a ring (a leeching one: can reach one), and may be used.

        Fails with the reason when the service cannot start (port taken, data folder not usable and so on);
        with :class:`~chordtx.errors.NotJoined` when no ring is found in ``join_timeout_seconds`` (without
        ``join_retries``: at once when nobody listens at any peer), and
        :class:`~chordtx.errors.WrongSubnet` when the peers are of another network, though the node goes on
        trying; at once with :class:`~chordtx.errors.NotJoined` before the start and
        :class:`~chordtx.errors.Stopped` from when the service is stopped.
        """
        return super().when_joined()

    def when_hearing(self) -> Deferred[None]:
        """Fires once listeners to ``add`` and ``delete`` on this node miss no change that begins later, but
        such as ``reset`` tells of.

        At once when nobody listens. Fails with :class:`~chordtx.errors.NoMajority` when no ring is found in
        time.
        """
        return self._run(self._when_hearing())

    async def _when_hearing(self) -> None:
        is_ready = False
        while not is_ready:
            await self._ring_known()
            is_ready = await self._key_events.when_ready()

    def _port_opened(self) -> None:
        """The port is open: find the ring."""
        self._ring = RingNode(Contact(self.id_10, *self.out_addr), self._chord_settings.successors_max)
        self._leaving = self._stopping = False
        self._identity, self._identified = None, Gate()
        self._watches.start()
        self._put_together()
        if (ring := self._kept.ring) is not None:
            self._be_in(ring)
        if not self.leeching:
            self._host()
        super()._port_opened()
        self._look_for_ring()

    def _be_new(self) -> None:
        """A node without a disk has forgotten what it promised: it is another one at each start."""
        if self._has_run:
            own = self._own_address()
            self._be(node_id(own.host, own.port, self._protocol_id, self._rng.randbytes(32)))
        self._has_run = True

    def _host(self) -> None:
        settings, store = self._chord_settings, self._kept.store
        self._hosting = Hosting(
            Member(node_id_of(self.id_10), has_disk=store is not None),
            evolve(settings.groups, value_bytes_max=settings.value_bytes_max),
            self.reactor,
            self._node,
            self._node,
            self._rng,
            store,
            settings.store_bytes_max,
            self._legacy,
        )
        if store is not None:
            count = self._hosting.load()
            self._log.info("groups found in {path}: {count}", count=count, path=self._kept.path)
            self._note()  # that it has started once more, before it says anything
            self._keep("noting in the data folder", self._note_peers, lambda: _NOTE_SECONDS)

    def _outward(self) -> Outward:
        """See :class:`~chordtx.MeshService`: a node that stores must be found."""
        return Outward.UNUSED if self.leeching else Outward.NEEDED

    def _look_for_ring(self) -> None:
        self._joining.look(self._join_through, self._begin_ring)

    async def _join_through(self, member: MeshConnection) -> None:
        standing = self._standings.of(member.id_10)
        if standing is None or standing.ring is None:
            raise NotJoined("the peer has not told its ring's identity yet")
        self._be_in(standing.ring)
        if self.leeching:
            await self._routing.lookup(self.id_10, only=member)
            return
        if not self._ring.is_member:
            await self._membership.join(member)
            self._keep_our_place()
            await self._membership.predecessor_known()

    async def _begin_ring(self) -> None:
        if not self._ring.is_member:
            settings = self._chord_settings
            if self._identity is None:
                id = self._rng.randbytes(RING_ID_BYTES)
                identity = RingIdentity(id, settings.partition_bits, settings.replicas)
                assert self._hosting is not None
                self._hosting.create(range(identity.partitions))
                self._log.info("begins ring {ring}", ring=identity.text)
                self._be_in(identity)
            self._membership.create()
            self._keep_our_place()

    def _be_in(self, identity: RingIdentity) -> None:
        """This is our ring."""
        if self._identity != identity:
            self._identity = identity
            self._note()
            self._standings.ring_chosen(identity)
            self._standings.tell_all()
            self._key_events.look()
            self._identified.opened()  # last: whoever waits for it may go on at once

    def _note(self) -> None:
        """Keep who we are, and whom we know."""
        if self._hosting is not None:
            self._kept.note(self._hosting, self.id, self._identity)

    def _note_peers(self) -> None:
        if self._kept.has_news:
            self._note()

    def _ring_known(self) -> Deferred[RingIdentity]:
        """Fires with the ring's identity once it is known; fails when that takes too long."""
        if self._identity is not None:
            return succeed(self._identity)
        seconds = self._chord_settings.operation_timeout_seconds
        return within(seconds, self.reactor, Deferred.fromCoroutine(self._wait_for_ring()), _no_ring)

    async def _wait_for_ring(self) -> RingIdentity:
        await self._identified.when_open()
        assert self._identity is not None
        return self._identity

    def _keep_our_place(self) -> None:
        self._tell_state(leeching=False)
        self._standings.tell_all()
        self._ring_merge.keep_looking()
        self._placing = self._keep("placing groups", self._place, lambda: ROUND_SECONDS / 4)
        self._seeking = self._keep("seeking owners", self._seek, lambda: OWNER_SECONDS)

    async def _seek(self) -> None:
        self._link_policy.look()
        self._set_aside.look()
        await self._placement.seek_owners()
        self._standings.look()

    def _place(self) -> None:
        self._placement.look()
        self._placement.tell_owners()
        if self._hosting is not None and not self._leaving and not self._stopping:
            self._hosting.leadership.look()

    # Leaving

    async def _leave(self) -> None:
        """Leave the ring politely: hand over, and say goodbye."""
        self._joining.stop()
        self._legacy.flush()
        self._note()  # the peers are still known
        if self._unjoining is not None:
            await self._unjoining.wait()  # it is leaving already
        elif self._ring.is_member:
            await self._leave_groups_and_ring(for_good=self._kept.store is None)
        self._watches.stop()
        self._client.stop()
        self._stop_keeping_our_place()
        if self._hosting is not None:
            self._hosting.stop()
            self._hosting = None

    async def _finish(self) -> None:
        """See :class:`~chordtx.MeshService`: the folder is closed last."""
        await self._kept.close()

    def _stop_keeping_our_place(self) -> None:
        self._ring_merge.stop()
        self._membership.stop()
        for loop in (self._placing, self._seeking):
            if loop is not None:
                loop.stop()

    async def _leave_groups_and_ring(self, *, for_good: bool) -> None:
        """:param for_good: whether others are to keep what this node kept; else it hands over its leads only,
        and stays a member of its groups."""
        if self._ring.successors or (for_good and self._placement.is_anybody_staying()):
            if for_good:
                self._leaving = True
                self._standings.tell_all()
                await self._departure.leave_groups(self._chord_settings.leave_timeout_seconds)
            else:
                self._stopping = True
                self._standings.tell_all()
                await self._departure.give_leads_away(self._chord_settings.call_timeout_seconds)
            self._tell_state(leeching=True)
            await self._membership.say_goodbye()
        self._stop_keeping_our_place()
        self._ring.leave()
        self._routing.ring_changed()
        self._leaving = self._stopping = False

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
            self._ring.me = Contact(self.id_10, *self.out_addr)
            self._membership = self._new_membership()  # the one before has said goodbye
            self._ring_merge = RingMerge(self, self._ring, self._membership, self._chord_settings)
            if self._hosting is None:
                self._host()
            self._look_for_ring()

    def unjoin(self) -> Deferred[None]:
        """Hand the records over and store nothing any more; the node goes on using the ring."""
        if self._life.refusal is not None:
            return fail(self._life.refusal)
        if not self.leeching:  # but it may be leaving already, and be told to come back after that
            self.leeching = True
            self._joining.stop()
            if self._unjoining is None:
                self._unjoining = Shared(self._run(self._unjoin()))
        under_way = self._unjoining
        if under_way is not None and under_way.is_done:
            self._unjoining = None
        return succeed(None) if under_way is None else under_way.wait()

    def _left_for_good(self) -> None:
        """The node has left by an operator's word: it stops, once the one who asked has been told."""
        told = self.sleep(_LEFT_SECONDS)
        told.addCallback(lambda _: self.stopService()).addBoth(lambda _: self._left.opened())

    def when_left(self) -> Deferred[None]:
        """Fires when the node has left the ring for good, as an operator said, and is stopped."""
        return self._left.when_open()

    async def _unjoin(self) -> None:
        try:
            if self._ring.is_member:
                await self._leave_groups_and_ring(for_good=True)
        finally:
            self._unjoining = None
        if self.leeching and not self._joining.is_joined:  # it was to stop before it was in a ring
            self._look_for_ring()

    def _remembered(self) -> list[Address]:
        """Where nodes were reached that we have no link to now."""
        return self._exchange.unlinked()

    # What happens

    def _own_arc_start(self) -> bytes | None:
        """See :class:`~chordtx.mesh.connection.ConnectionOwner`."""
        return self._routing.own_arc_start()

    def _arc_told(self, connection: MeshConnection) -> None:
        """See :class:`~chordtx.mesh.connection.ConnectionOwner`."""
        if connection.arc_start is not None and not connection.leeching:
            self._routing.arc_told(connection, int.from_bytes(connection.arc_start, "big"))

    def _link_opened(self, link: MeshConnection) -> None:
        """See :class:`~chordtx.MeshService`."""
        self._rpc.link_opened(link)
        if link.ours:
            self._standings.tell(link)
        link.send(flags.HANDSHAKE, "0" if self._ring.is_member else "1")
        self._legacy.link_opened(link)
        self._standings.look()

    def _ping_interval_seconds(self, connection: MeshConnection) -> float:
        """See :class:`~chordtx.mesh.owner.ConnectionOwner`."""
        return self.settings.ping_interval_seconds * self._placement.patience_with(connection.id_10)

    def _groups_received(self, connection: MeshConnection, frame: object) -> None:
        """See :class:`~chordtx.mesh.owner.ConnectionOwner`."""
        self._serving.groups_received(connection, frame)

    def _links_worked(self) -> None:
        """See :class:`~chordtx.MeshService`."""
        if self._hosting is not None:
            self._hosting.links_worked()
        super()._links_worked()

    def _turned_away(self, connection: MeshConnection, other: MeshConnection) -> None:
        """See :class:`~chordtx.MeshService`."""
        self._standings.turned_away(connection, other)

    def _link_closed(self, link: MeshConnection, reason: Exception) -> None:
        """See :class:`~chordtx.MeshService`."""
        if not self._rpc.link_closed(link) or self._legacy.link_closed(link):
            return
        is_refused = self._standings.link_closed(link)
        self._leaders.lost(link.id_10)
        if self._closing or (link.has_parted and not self._placement.is_near(link.id_10)):
            return
        if self._hosting is not None:
            self._hosting.lost(node_id_of(link.id_10), has_ended=False)
            if not is_refused and link.address is not None and link.address.reachable:
                self._node.connect(contact_of(link))  # whether its process has ended shows by that
        if not link.leeching:
            self._membership.link_lost(link, is_silent=isinstance(reason, TimeoutError))

    def _peer_met(self, peer: str, address: Address) -> None:
        """See :class:`~chordtx.MeshService`."""
        if not self.leeching:
            self._link_policy.peer_met(peer, address)

    def _peers_told_max(self) -> int:
        """See :class:`~chordtx.MeshService`."""
        return self._link_policy.told_max

    def _listeners_changed(self) -> None:
        """See :class:`~chordtx.mesh.events.EventEmitter`."""
        self._key_events.look()

    def _may_relay(self, link: MeshConnection, message: Message) -> bool:
        """See :class:`~chordtx.mesh.messaging.Messaging`."""
        return super()._may_relay(link, message) and self._legacy.is_for(link, message)

    def _ring_changed(self) -> None:
        self._placement.look()
        self._link_policy.look()
        self._legacy.ring_changed()

    def _tell_state(self, leeching: bool) -> None:
        for link in tuple(self.routing_table.values()):
            link.send(flags.HANDSHAKE, "1" if leeching else "0")

    def _give_ring_up(self, for_ring: RingIdentity) -> None:
        """We are alone and hold nothing: better be in the other ring."""
        self._log.info("gives up its own ring for {ring}", ring=for_ring.text)
        assert self._hosting is not None
        self._hosting.stop()
        self._stop_keeping_our_place()
        self._ring.leave()
        self._identity, self._identified = None, Gate()
        self._key_events.look()
        self._put_together()
        self._host()
        self._tell_state(leeching=True)
        self._standings.tell_all()
        self._standings.judge_members()
        self._joining.look(self._join_through, self._begin_ring, has_met_one=True)


def _no_ring() -> Exception:
    return NoMajorityTimeout("no ring was found in time")
