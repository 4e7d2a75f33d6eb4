"""The mesh: links to peers, messages that reach everyone, replies that reach one.

:class:`MeshService` hands each message to the handler of its sub-flag, and puts the parts together:
:class:`~chordtx.mesh.listening.Listening` and :class:`~chordtx.mesh.dialing.Dialing` open links,
:class:`~chordtx.mesh.link_table.LinkTable` keeps them, :class:`~chordtx.mesh.broadcasts.Broadcasts` spreads
what is for everyone, :class:`~chordtx.mesh.peer_exchange.PeerExchange` tells and hears who else is there,
:class:`~chordtx.mesh.finding.Finding` finds nodes by their ids, and
:class:`~chordtx.mesh.inbox.Inbox` holds what users are sent.
:class:`~chordtx.ChordService` extends it: it adds handlers, methods and what to do when a link opens or
closes. It gets its reactor and its random source, and reaches for no others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from copy import copy
from math import ceil
from random import Random
from typing import Any, ClassVar, Self, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from chordtx.config import MeshSettings
from chordtx.errors import ChordError, ProtocolError, Stopped, WrongSubnet
from chordtx.mesh.accepting import MeshFactory
from chordtx.mesh.address import Address
from chordtx.mesh.address_trust import PEERS_READ_MAX, DialLimits
from chordtx.mesh.arguments import (
    check_advertise,
    check_encryption,
    check_listen,
    check_peers,
    check_reactor,
    check_rng,
    check_settings,
    check_subnet,
)
from chordtx.mesh.bounds import LinkBounds
from chordtx.mesh.broadcast_recovery import MissedBroadcasts
from chordtx.mesh.broadcasts import Broadcasts
from chordtx.mesh.calls import Method
from chordtx.mesh.common_clock import CommonClock
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deduplication import SeenBroadcasts
from chordtx.mesh.deferreds import within
from chordtx.mesh.dialing import Dialing
from chordtx.mesh.endpoints import Outward
from chordtx.mesh.events import EventEmitter
from chordtx.mesh.finding import Finding
from chordtx.mesh.first_link import FirstLink
from chordtx.mesh.inbox import Inbox
from chordtx.mesh.keepalive import Keepalive
from chordtx.mesh.life import Life, Phase
from chordtx.mesh.limited_log import LimitedLog
from chordtx.mesh.link_table import LinkTable
from chordtx.mesh.listening import Listening
from chordtx.mesh.loop import Loop, Pause, Round
from chordtx.mesh.messaging import FlagHandler, Messaging
from chordtx.mesh.peer_exchange import PeerExchange
from chordtx.mesh.rivals import Rivals
from chordtx.mesh.status import status_of_link
from chordtx.mesh.steady import steady, wall_clock_of
from chordtx.mesh.tasks import Tasks
from chordtx.wire import decode_id, flags, node_id, offered, protocol_id

T = TypeVar("T")

_OUTGOING_WANTED = 4
_CLOSE_SECONDS_MAX = 2.0
_CANCELLED_AGAIN_MAX = 10
_REFUSED_KEPT = 10


class MeshService(Messaging, Service):
    """A node of a mesh network.

    ``async with MeshService(...) as node:`` starts it, waits until it can be used, and stops it at the end.

    :param reactor: Twisted's, or one that behaves like it.
    :param listen: Twisted server endpoint to accept peers on, or the text of one; None accepts none.
    :param advertise: outward address ``HOST:PORT`` that peers are told; taken from ``listen`` when None.
    :param peers: addresses ``HOST:PORT`` (``[v6]:PORT``) of nodes to join through.
    :param subnet: the network's name. :param encryption: ``Plaintext`` or ``SSL``.
    :param settings: limits and times. :param rng: random source; the system's when None.
    :param wall_clock: gives Unix time in seconds, for expiry and what people read; the system's when None.
    :ivar reactor: what was given, with timers that no change of the system's clock moves.
    :ivar routing_table: peer id -> the link to it. :ivar awaiting_ids: links whose handshake is not through.
    :ivar methods: what our own nodes may call, by name. :ivar refused: why the latest links that we opened
        were refused, where it was another subnet.
    :raises ValueError: for an address, encryption or setting that makes no sense.
    :raises TypeError: for an argument of another kind.
    """

    _log = Logger()
    _event_names: ClassVar[tuple[str, ...]] = ("connect", "message")
    #: Whether a peer is looked for again when the link to it broke, while there are others.
    _seeks_lost = True
    #: Whether its first link is what makes a node that was given peers usable.
    _joins_by_a_link = True

    def __init__(
        self,
        reactor: Any = None,
        listen: str | IStreamServerEndpoint | None = None,
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "mesh",
        encryption: str = "Plaintext",
        settings: MeshSettings | None = None,
        rng: Random | None = None,
        wall_clock: Callable[[], float] | None = None,
    ) -> None:
        check_reactor(reactor, type(self).__name__)
        self.reactor = reactor = steady(reactor)
        self._wall_clock = wall_clock or wall_clock_of(reactor)
        self._limited_log = LimitedLog(reactor)
        self._tasks = Tasks(self._limited_log, reactor)
        EventEmitter.__init__(self, self._event_names, self._tasks, self._limited_log)
        self.settings = check_settings(settings, MeshSettings).validate()
        self._rng = check_rng(rng)
        self.encryption = check_encryption(encryption)
        self.subnet = check_subnet(subnet)
        self._protocol_id = protocol_id(subnet, encryption)
        self._methods_offered: tuple[int, ...] = offered()
        self._bounds = LinkBounds.of(reactor, self.settings)
        self._advertised = check_advertise(advertise)
        self._bootstrap = check_peers(peers)
        self._factory = MeshFactory(self)
        outward = Outward.UNUSED if self._advertised else self._outward()
        listens_on = check_listen(reactor, listen, outward)
        self._listening = Listening(reactor, listens_on, self._factory, encryption == "SSL")
        own = self._own_address()
        self.id = node_id(own.host, own.port, self._protocol_id, self._rng.randbytes(32))
        self.id_10 = decode_id(self.id, bits_max=384)

        self._methods: dict[str, Method] = {"ping": lambda caller: [], "farewell": _farewell}
        self.awaiting_ids: list[MeshConnection] = []
        self._refused: list[Exception] = []
        self._link_table = LinkTable(self.id_10)
        self.routing_table = self._link_table.table
        self._life = Life(self._start, self._port_opened, self._stop, self._log)
        self._keepalive = Keepalive(reactor, self._tasks, self._bounds.turns, self._link_table.links)
        self._bounds.turns.when_worked(self._links_worked)
        self._first_link = FirstLink(
            self, self._bootstrap, self._life.joined, self.settings.first_link_timeout_seconds
        )
        self._limits = DialLimits(self._bootstrap)
        self._dialing = Dialing(self, encryption == "SSL", self._limits)
        self._rivals = Rivals(self, self._link_table, self._dialing, self._limits)
        self._exchange = PeerExchange(self, self._bootstrap, self._limits)
        self._finding = Finding(self)
        self._inbox = Inbox(self.settings, self._tasks, self._limited_log, self._keeps_messages)
        self._seen = SeenBroadcasts(
            self.settings.remembered_broadcasts_max, self.settings.broadcast_age_seconds_max
        )
        self._missed = MissedBroadcasts(self)
        common_clock = CommonClock(reactor.seconds, self._wall_clock, self._link_table.links)
        self._broadcasts = Broadcasts(
            self, self._seen, common_clock.seconds, self._handle, self._missed.passed_on
        )
        self._flag_handlers: dict[int, FlagHandler] = {
            flags.PEERS: self._exchange.peers_received,
            flags.REQUEST: self._request_received,
            flags.RESPONSE: self._finding.response_received,
        }
        self._links: dict[MeshConnection, None] = {}  # a set would be gone through in another order each time
        self._all_closed: Deferred[None] | None = None
        self._closing = False

    # The service

    def startService(self) -> None:
        """Twisted's: listen, and connect to the peers that were given.

        While the service is being stopped, it starts once that is done; after a start that failed, it tries
        again.
        """
        Service.startService(self)
        self._life.begin()

    def stopService(self) -> Deferred[None]:
        """Twisted's: leave, close the port and every link. :returns: fires when that is done."""
        Service.stopService(self)
        ended = self._life.end()
        if self._life.phase is Phase.DOWN:  # it may never have been started, with its port open early
            return Deferred.fromCoroutine(self._listening.close())
        return ended

    def when_listening(self) -> Deferred[None]:
        """Fires when peers can connect; fails with what the endpoint said when they cannot.

        Fails at once with :class:`~chordtx.errors.NotJoined` before the start, and with
        :class:`~chordtx.errors.Stopped` from when the service is stopped.
        """
        return self._life.listening.when_open()

    def when_joined(self) -> Deferred[None]:
        """Fires when messages and calls work: with the first link, and without peers when the port is open.

        Fails with the reason when the service cannot start (port taken and so on); with
        :class:`~chordtx.errors.NotJoined` when no peer is reached in ``first_link_timeout_seconds``,
        :class:`~chordtx.errors.WrongSubnet` when all are of another network; and as :meth:`when_listening`. A
        node that has reached nobody goes on trying: to be asked again.
        """
        return self._life.joined.when_open()

    async def _start(self) -> None:
        self._closing = False
        self._refused = []
        self._missed.begin()
        self._dialing.start()
        self._tasks.restart()
        self._keepalive.start()
        self._prepare()
        await self._listening.open()
        self._log.info("running as {id}", id=self.id)

    async def __aenter__(self) -> Self:
        """Start, and wait until it can be used. When that fails it is stopped, and the reason raised."""
        try:
            self.startService()
            await self.when_joined()
        except Exception:
            await self._or_logged(self.stopService())
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stopService()

    def privilegedStartService(self) -> None:
        """Twisted's: open the port while the process may still open one below 1024. All else waits for
        :meth:`startService`, so that it is done by the user that the process runs as from then on."""
        Service.privilegedStartService(self)
        if not self.running:
            self._listening.open_early()

    def _prepare(self) -> None:
        """What is to be done before the port is opened; for subclasses.

        :raises ChordError: when the service cannot start.
        """

    def _port_opened(self) -> None:
        """The port is open; a subclass goes on from here."""
        if self._seeks_lost or self._bootstrap or self._known_addresses():
            self._exchange.keep_connected(self._tasks)
        if self._joins_by_a_link:
            self._first_link.started()

    async def _stop(self, was_up: bool) -> None:
        self._closing = True
        if was_up:
            await self._or_logged(self._leave())
        self._tasks.cancel()
        self._finding.stop()
        self._dialing.stop()
        await self._or_logged(self._listening.close())
        self._keepalive.stop()
        await self._or_logged(self._close_links())
        self._bounds.turns.stop()
        await self._or_logged(self._finish())
        for _ in range(_CANCELLED_AGAIN_MAX):
            if not self._tasks.count:
                break
            # What has stopped us, in the middle of a step, can be cancelled in the next turn.
            await self.sleep(0)
            self._tasks.cancel()
        self._limited_log.tell_dropped()

    async def _or_logged(self, work: Awaitable[None]) -> None:
        """One step of the end: when it fails, the others are done all the same."""
        try:
            await work
        except Exception:
            self._log.failure("something failed while the service was stopped")

    async def _catch_up(self, link: MeshConnection) -> None:
        """What is to be had from the first neighbour before calls work; for subclasses.

        :raises ChordError: when that was not to be had. The next link is another chance.
        """

    async def _leave(self) -> None:
        """What is to be done before the links are closed; a subclass leaves its ring here."""

    async def _finish(self) -> None:
        """What is to be done at the very end; for subclasses."""

    async def _close_links(self) -> None:
        for link in tuple(self._links):
            link.part(Stopped("the service was stopped"))
        if self._links:
            closed = self._all_closed = Deferred()
            abort = self.reactor.callLater(_CLOSE_SECONDS_MAX, self._abort_links)
            # A transport may be so broken that it does not even tell that it was cut off.
            await within(
                2 * _CLOSE_SECONDS_MAX, self.reactor, closed, lambda: ChordError("links do not close")
            )
            if abort.active():
                abort.cancel()

    def _abort_links(self) -> None:
        for link in tuple(self._links):
            link.abort(Stopped("the service was stopped"))

    # Who we are, and whom we know

    def _be(self, id: str) -> None:
        """Take up an id from before, instead of the new one.

        :raises ProtocolError: when it is none.
        """
        self.id_10 = self._link_table.number = decode_id(id, bits_max=384)
        self.id = id

    def _remember(self, addresses: Iterable[Address]) -> None:
        """Find the network again through these, if need be."""
        for address in addresses:
            self._exchange.met(address)

    def _known_addresses(self) -> list[Address]:
        """Where there was a link to, the latest last."""
        return self._exchange.those_met()

    # Addresses and time

    def _own_address(self) -> Address:
        """The outward address that peers are told; port 0 when nobody can connect to us."""
        return self._advertised or self._listening.address

    def _outward(self) -> Outward:
        """What others need our own address for, where none is advertised; for subclasses."""
        return Outward.TOLD

    @property
    def protocol(self) -> tuple[str, str]:
        """``(subnet, encryption)``. (A synchronized dict's subnet ends with ``1`` where keys are leased, else
        with ``0``.)"""
        return (self.subnet, self.encryption)

    @property
    def out_addr(self) -> tuple[str, int]:
        """The outward address as ``(host, port)``."""
        address = self._own_address()
        return (address.host, address.port)

    @property
    def status(self) -> dict[str, Any]:
        """This node's view, fit for JSON: id, address, network and peers."""
        return {
            "id": self.id,
            "kind": "chordtx",
            "address": str(self._own_address()),
            "subnet": self.subnet,
            "encryption": self.encryption,
            **self._own_status(),
            "peers": [status_of_link(link) for link in self.routing_table.values()],
        }

    def _own_status(self) -> dict[str, Any]:
        """What a subclass has to say of itself."""
        return {}

    def _now_whole_seconds(self) -> int:
        """UTC, whole seconds since 1970."""
        return int(self._wall_clock())

    def _wall_ms(self) -> int:
        """The wall clock: Unix time, milliseconds."""
        return int(self._wall_clock() * 1000)

    def _expiry_ms(self, ttl_seconds: float) -> int:
        """When what is stored now expires: Unix time, in whole milliseconds, and never sooner than asked."""
        until_seconds = self._wall_clock() + ttl_seconds
        # What floats add below a microsecond must not count as one more millisecond.
        return ceil(round(until_seconds * 1000, 3))

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while of monotonic time; cancelling it cancels the timer."""
        waiting: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self.reactor.callLater(seconds, waiting.callback, None)
        return waiting

    # Work

    def _background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the service stops; a failure is logged.

        :returns: fires as it ends; cancelling it cancels the work.
        """
        return self._tasks.start(work)

    def _keep(
        self,
        name: str,
        round: Round,
        pause: Pause,
        first_after_seconds: float = 0.0,
    ) -> Loop:
        """Do something again and again until the service stops; see :meth:`chordtx.mesh.tasks.Tasks.keep`."""
        return self._tasks.keep(name, round, pause, first_after_seconds)

    def _run(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Run a coroutine for a caller who waits, until it ends or the service stops.

        Fails at once when the service is not started, could not start, or is stopped.
        """
        if self._life.refusal is not None:
            work.close()
            return fail(self._life.refusal)
        if self._life.phase is Phase.UP:
            return self._tasks.run(work)
        return Deferred.fromCoroutine(self._run_once_up(work))

    async def _run_once_up(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            await self._life.when_up()
        except Exception:
            work.close()
            raise
        return await self._tasks.run(work)

    # Links

    @property
    def outgoing(self) -> Iterator[str]:
        """Ids of the peers that we connected to."""
        return (peer for peer, link in self.routing_table.items() if link.outgoing)

    @property
    def incoming(self) -> Iterator[str]:
        """Ids of the peers that connected to us."""
        return (peer for peer, link in self.routing_table.items() if not link.outgoing)

    def connect(self, host: str, port: int) -> Deferred[MeshConnection]:
        """Connect to a node.

        :returns: fires with the link when its handshake is through (at once when there is one already). Fails
            with a :class:`~chordtx.errors.ChordError` that is a Twisted ``ConnectError`` too when nobody is
            reached there.
        :raises ValueError: for an address that makes no sense.
        """
        address = Address.parse(str(Address(host, port)))
        self._limits.trust(address)
        return self._run(self._connect(address))

    async def _connect(self, address: Address) -> MeshConnection:
        return await self._link_to(address)

    def _link_to(self, address: Address, peer: str | None = None) -> Deferred[MeshConnection]:
        """A link to whoever is reached at ``address``: the one that is open, or a new one.

        :param peer: whose link it is to be, when it is one that is open: anybody may claim any address.
        :returns: fails with a :class:`~chordtx.errors.ChordError`, whatever the transport raises.
        """
        return self._dialing.link_to(address, peer)

    def _why_not_reached(self, address: Address) -> str | None:
        """Why the last attempt to connect there failed; None when it did not, or there was none."""
        return self._dialing.why_not(address)

    def _nobody_is_there(self, address: Address) -> bool:
        """Whether the last attempt showed that no node of this network listens there."""
        return self._dialing.nobody_is_there(address)

    def _connect_quietly(self, address: Address) -> None:
        """Connect in the background; a failure is only logged.

        Nothing is done while very many attempts are under way: any peer can name addresses.
        """
        if not self._closing and self._dialing.count < self.settings.connections_max:
            self._dialing.link_quietly(address)

    def disconnect(self, peer: MeshConnection | str) -> None:
        """Close the link to a peer, given as the link or its id.

        :raises KeyError: when there is no link to a peer of that id.
        """
        link = self.routing_table[peer] if isinstance(peer, str) else peer
        link.part(Stopped("disconnected"))

    def _peer_met(self, peer: str, address: Address) -> None:
        """Somebody told us of a peer: connect to it while we have few links of our own making."""
        under_way = sum(1 for _ in self.outgoing) + self._dialing.count
        if peer not in self.routing_table and under_way < _OUTGOING_WANTED:
            self._connect_quietly(address)

    def _peers_told_max(self) -> int:
        """How many peers our own nodes are told of; for subclasses."""
        return PEERS_READ_MAX

    def _link_opened(self, link: MeshConnection) -> None:
        """A peer was added to the routing table, or has another link now; for subclasses."""

    def _turned_away(self, connection: MeshConnection, other: MeshConnection) -> None:
        """A link is about to be closed, since another one to its peer lives; for subclasses."""

    def _link_closed(self, link: MeshConnection, reason: Exception) -> None:
        """A peer left the routing table; for subclasses."""

    def _connection_made(self, connection: MeshConnection) -> None:
        """See :class:`~chordtx.mesh.owner.ConnectionOwner`."""
        self._links[connection] = None
        self.awaiting_ids.append(connection)

    def _connection_opened(self, connection: MeshConnection) -> None:
        """A handshake is through: file the link, unless there is another one to the same peer."""
        self.awaiting_ids.remove(connection)
        other = self._link_table.other_than(connection)
        if other is None or self._rivals.takes_over_at_once(connection, other):
            self._file(connection)
            return
        connection.settle(other)
        if self._link_table.wait(connection):
            connection.hold()
            self._background(self._rivals.decide(connection, other))
        else:
            connection.close(ProtocolError("another link to this peer waits for the place already"))

    def _file(self, connection: MeshConnection) -> None:
        """Make a link the one to its peer."""
        was_empty = not self.routing_table
        replaced = self._link_table.put(connection)
        self._exchange.greeted(connection)
        self._link_opened(connection)
        self._exchange.tell(connection)
        if connection.ours:
            self._missed.link_opened(connection)
        if replaced is not None:
            replaced.close(ProtocolError("there is a better link to this peer"))
        if was_empty:
            self._emit("connect", self)
        connection.settle(connection)
        connection.release()
        if self._joins_by_a_link and self._life.phase is Phase.UP:
            self._first_link.linked(connection)

    def _connection_closed(self, connection: MeshConnection, reason: Exception) -> None:
        """A link is gone."""
        reason = self._dialing.explained(connection, reason)
        self._links.pop(connection, None)
        if connection in self.awaiting_ids:
            self.awaiting_ids.remove(connection)
        if not connection.outgoing:
            self._factory.connection_closed(connection)
        elif isinstance(reason, WrongSubnet):
            # A copy: the error itself is raised where somebody waits for the link, and gets a traceback
            # there.
            self._refused = [*self._refused, copy(reason)][-_REFUSED_KEPT:]
        connection.settle(reason)
        self._unfile(connection, reason)
        if self._all_closed is not None and not self._links:
            done, self._all_closed = self._all_closed, None
            done.callback(None)

    def _unfile(self, connection: MeshConnection, reason: Exception) -> None:
        was_filed, spare = self._link_table.remove(connection)
        if spare is not None:
            self._file(spare)
        elif was_filed:
            text = "{connection} is gone: {reason}"
            self._limited_log.debug(text, connection=connection, reason=str(reason))
            if not connection.has_parted:
                self._exchange.parted_from(connection)
            self._link_closed(connection, reason)

    def _links_worked(self) -> None:
        """What came over some link was handled: send what that has given."""
        self._keepalive.flush()

    def _flush_calls(self) -> None:
        """See :class:`~chordtx.mesh.owner.ConnectionOwner`."""
        self._keepalive.flush()

    def _wants_flush(self, connection: MeshConnection) -> None:
        """See :class:`~chordtx.mesh.owner.ConnectionOwner`."""
        self._keepalive.wants_flush(connection)


def _farewell(caller: MeshConnection) -> list[Any]:
    """``farewell()``: the caller ends the link because it wants to."""
    caller.has_parted = True
    return []
