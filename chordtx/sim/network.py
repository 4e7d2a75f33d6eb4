"""An in-memory network of TCP connections, with the faults that real ones have.

Bytes arrive in order, after a delay that differs from pair to pair and from time to time. What is sent
across a cut (see :meth:`Network.cut`) waits, as TCP would go on trying, and arrives once the cut is mended.
A killed process resets its connections; a host that lost its power says nothing, and resets what it is sent
on old connections once it is back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from attrs import define
from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IConnector, IListeningPort, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from chordtx.sim.virtual import NodeReactor, VirtualTime

BUFFER_BYTES = 64 * 1024
#: Where connections are refused, some are; the others are reset within so many times the usual delay.
_REFUSED_SHARE = 0.4
_HANDSHAKE_DELAYS = 4.0
_FIRST_EPHEMERAL_PORT = 49152
_JITTER = 0.3
_ORDER_SECONDS = 1e-7


class Network:
    """All connections.

    :param rng: draws delays. :param delay_seconds: gives the usual one-way delay between two hosts.
    :ivar torn: the share of writes that arrive in two pieces.
    """

    def __init__(
        self, time: VirtualTime, rng: Random, delay_seconds: Callable[[str, str], float], torn: float = 0.02
    ) -> None:
        self.time = time
        self.torn = torn
        self.rng = rng
        self._delay_seconds = delay_seconds
        self._ports: dict[tuple[str, int], Port] = {}
        self._processes: dict[str, NodeReactor] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._slow: dict[tuple[str, str], float] = {}
        self._down: dict[str, None] = {}
        self._refusing: dict[str, int] = {}
        self.transports: dict[Transport, None] = {}
        self._next_port = _FIRST_EPHEMERAL_PORT

    # Processes

    def process(self, host: str, rate: float = 1.0) -> NodeReactor:
        """A new process on a host: after an earlier one there has ended. :param rate: of its clock."""
        self._down.pop(host, None)
        reactor = self._processes[host] = NodeReactor(self.time, self, host, rate)
        return reactor

    def kill(self, host: str, is_silent: bool) -> None:
        """End the process on a host at once.

        :param is_silent: as when the power fails: nobody is told; else the kernel resets its connections.
        """
        reactor = self._processes.pop(host)
        reactor.is_dead = True
        if is_silent:
            self._down[host] = None
        for address in [address for address in self._ports if address[0] == host]:
            del self._ports[address]
        for transport in [t for t in self.transports if t.reactor is reactor]:
            transport.is_gone = True
            del self.transports[transport]
            if not is_silent:
                transport.wire.reset()

    # Faults between hosts

    def cut(self, source: str, target: str) -> None:
        """From now on nothing gets from one host to the other (the way back is another matter)."""
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1

    def mend(self, source: str, target: str) -> None:
        """Undo one :meth:`cut`; what waited is sent."""
        left = self._cuts[source, target] - 1
        if left:
            self._cuts[source, target] = left
            return
        del self._cuts[source, target]
        for transport in list(self.transports):
            if transport.reactor.host == source and transport.wire.target_host == target:
                transport.wire.release()

    def refuse(self, host: str) -> None:
        """From now on connections to a host are refused, or reset before or in the handshake."""
        self._refusing[host] = self._refusing.get(host, 0) + 1

    def accept(self, host: str) -> None:
        """Undo one :meth:`refuse`."""
        self._refusing[host] -= 1

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets through that way."""
        return bool(self._cuts) and (source, target) in self._cuts

    def slow_down(self, source: str, target: str, factor: float) -> None:
        """Multiply the delay that way from now on; 1 makes it normal again."""
        if factor == 1:
            self._slow.pop((source, target), None)
        else:
            self._slow[source, target] = factor

    def delay(self, source: str, target: str) -> float:
        """How long the next packet takes, seconds."""
        usual = self._delay_seconds(source, target)
        if self._slow:
            usual *= self._slow.get((source, target), 1.0)
        return usual * (1 + self.rng.random() * _JITTER)

    def break_connection(self) -> bool:
        """Break one of all connections. :returns: whether there was any."""
        everyone = [t for t in self.transports if not t.is_gone and t.peer is not None]
        if not everyone:
            return False
        transport = self.rng.choice(everyone)
        assert transport.peer is not None
        for end in (transport, transport.peer):
            end.lose(ConnectionLost())
        return True

    # What reactors do

    def listen(self, reactor: NodeReactor, port: int, factory: Any) -> Port:
        """See ``listenTCP``."""
        if (reactor.host, port) in self._ports:
            raise CannotListenError(reactor.host, port, OSError("in use"))
        opened = Port(self, reactor, port, factory)
        self._ports[reactor.host, port] = opened
        factory.doStart()
        return opened

    def closed(self, port: Port) -> None:
        """A port listens no more."""
        self._ports.pop((port.reactor.host, port.number), None)

    def connect(
        self, reactor: NodeReactor, host: str, port: int, factory: Any, timeout_seconds: float
    ) -> Connector:
        """See ``connectTCP``."""
        connector = Connector(self, reactor, host, port, factory)
        factory.doStart()
        factory.startedConnecting(connector)
        if connector.is_waiting:
            connector.begin(timeout_seconds)
        return connector

    def arrives(self, connector: Connector) -> None:
        """A request to connect has crossed the network."""
        source, host = connector.reactor.host, connector.host
        if host in self._down or self.is_cut(source, host) or self.is_cut(host, source):
            return  # nobody answers: it times out
        port = self._ports.get((host, connector.port))
        is_refusing = self._refusing.get(host, 0) > 0
        if port is None or (is_refusing and self.rng.random() < _REFUSED_SHARE):
            self._answer(connector, lambda: connector.fail(ConnectionRefusedError()))
            return
        self._next_port += 1
        client_address = IPv4Address("TCP", source, self._next_port)
        server_address = IPv4Address("TCP", host, connector.port)
        server = Transport(self, port.reactor, server_address, client_address)
        client = Transport(self, connector.reactor, client_address, server_address)
        server.pair(client)

        def accepted() -> None:
            protocol = port.factory.buildProtocol(client_address)
            if protocol is None:
                server.abortConnection()
            else:
                server.begin(protocol)

        self.time.call_at(self.time.now, accepted, port.reactor)
        self._answer(connector, lambda: connector.connected(client))
        if is_refusing:
            after = self.rng.random() * _HANDSHAKE_DELAYS * self.delay(source, host)
            self.time.call_later(after, server.abortConnection)

    def _answer(self, connector: Connector, f: Callable[[], None]) -> None:
        delay = self.delay(connector.host, connector.reactor.host)
        self.time.call_at(self.time.now + delay, f, connector.reactor)


class Wire:
    """One direction of a connection: what was written, on its way.

    :param end: the transport at whose far end it comes out. :ivar target_host: where that is.
    """

    def __init__(self, network: Network, source: Transport, end: Transport) -> None:
        self._network = network
        self._source = source
        self._end = end
        self.target_host = end.reactor.host
        self._source_host = source.reactor.host
        self._last_at = 0.0
        self._held: list[Callable[[], None]] = []
        self.bytes_under_way = 0

    def send(self, data: bytes) -> None:
        """Put bytes on their way."""
        self.bytes_under_way += len(data)
        if len(data) > 1 and self._network.rng.random() < self._network.torn:
            place = self._network.rng.randrange(1, len(data))
            self._put(lambda: self._bytes_arrive(data[:place]))
            self._put(lambda: self._bytes_arrive(data[place:]))
        else:
            self._put(partial(self._bytes_arrive, data))

    def finish(self) -> None:
        """After what is under way, the connection is closed in good order."""
        self._put(lambda: self._end.lose(ConnectionDone()))

    def reset(self) -> None:
        """The connection is no more: the far end is told as soon as can be."""
        self._put(lambda: self._end.lose(ConnectionLost()))

    def release(self) -> None:
        """The way is free again."""
        held, self._held = self._held, []
        for arrive in held:
            self._put(arrive)

    def _put(self, arrive: Callable[[], None]) -> None:
        network = self._network
        if self._held or network.is_cut(self._source_host, self.target_host):
            self._held.append(arrive)
            return
        at = network.time.now + network.delay(self._source_host, self.target_host)
        self._last_at = at = max(at, self._last_at + _ORDER_SECONDS)
        network.time.call_at(at, arrive, self._end.reactor)

    def _bytes_arrive(self, data: bytes) -> None:
        self.bytes_under_way -= len(data)
        self._end.receive(data)
        if not self.bytes_under_way and self._source.waits_to_write:
            time = self._network.time
            time.call_at(time.now, self._source.drained, self._source.reactor)


@implementer(ITCPTransport)
class Transport:
    """One end of a connection.

    :ivar peer: the other end. :ivar wire: what is written here. :ivar is_gone: no more of it.
    """

    def __init__(self, network: Network, reactor: NodeReactor, here: IPv4Address, there: IPv4Address) -> None:
        self._network = network
        self.reactor = reactor
        self._here = here
        self._there = there
        self.peer: Transport | None = None
        self.wire: Wire = None  # type: ignore[assignment]  # set by pair()
        self.is_gone = False
        self.disconnecting = False
        self._protocol: Any = None
        self._producer: Any = None
        self._producer_is_paused = False
        self._reading = True
        self._unread: list[bytes] = []

    def pair(self, other: Transport) -> None:
        """Make the two the ends of one connection."""
        self.peer, other.peer = other, self
        self.wire = Wire(self._network, self, other)
        other.wire = Wire(self._network, other, self)

    def begin(self, protocol: Any) -> None:
        """The connection is up at this end."""
        if self.is_gone:
            return
        self._protocol = protocol
        self._network.transports[self] = None
        protocol.makeConnection(self)
        self._read()

    # What comes

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        if not self.is_gone:
            self._unread.append(data)
            self._read()
        elif self.reactor.is_dead:
            return
        else:
            self.wire.reset()

    def _read(self) -> None:
        while self._unread and self._reading and self._protocol is not None and not self.is_gone:
            self._protocol.dataReceived(self._unread.pop(0))

    def lose(self, error: Exception) -> None:
        """The connection has ended."""
        if self.is_gone:
            return
        self.is_gone = True
        self._network.transports.pop(self, None)
        self._producer = None
        if self._protocol is not None:
            self._protocol.connectionLost(Failure(error))

    @property
    def waits_to_write(self) -> bool:
        """Whether the producer was paused, and is to go on once all has arrived."""
        return self._producer_is_paused

    def drained(self) -> None:
        """All that was written has arrived."""
        if self._producer is not None and self._producer_is_paused and not self.is_gone:
            self._producer_is_paused = False
            self._producer.resumeProducing()

    # Twisted's

    def write(self, data: bytes) -> None:
        """Twisted's."""
        if self.is_gone or self.disconnecting or not data:
            return
        self.wire.send(bytes(data))
        is_full = self.wire.bytes_under_way > BUFFER_BYTES
        if is_full and self._producer is not None and not self._producer_is_paused:
            self._producer_is_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Twisted's."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Twisted's: close, once what was written has left."""
        if self.is_gone or self.disconnecting:
            return
        self.disconnecting = True
        self.wire.finish()
        time = self._network.time
        time.call_at(time.now, lambda: self.lose(ConnectionDone()), self.reactor)

    def abortConnection(self) -> None:
        """Twisted's: close at once."""
        if self.is_gone:
            return
        self.wire.reset()
        self.disconnecting = True
        time = self._network.time
        time.call_at(time.now, lambda: self.lose(ConnectionAborted()), self.reactor)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Twisted's."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Twisted's."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Twisted's: read nothing for now."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Twisted's: read on."""
        if not self._reading:
            self._reading = True
            time = self._network.time
            time.call_at(time.now, self._read, self.reactor)

    def stopProducing(self) -> None:
        """Twisted's."""
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """Twisted's."""
        return self._there

    def getHost(self) -> IPv4Address:
        """Twisted's."""
        return self._here

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Twisted's; nothing here is ever held back for company."""

    def getTcpNoDelay(self) -> bool:
        """Twisted's."""
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Twisted's."""

    def getTcpKeepAlive(self) -> bool:
        """Twisted's."""
        return False

    def loseWriteConnection(self) -> None:
        """Twisted's."""
        self.loseConnection()


@implementer(IListeningPort)
@define(eq=False)
class Port:
    """Where a process accepts connections."""

    network: Network
    reactor: NodeReactor
    number: int
    factory: Any

    def getHost(self) -> IPv4Address:
        """Twisted's."""
        return IPv4Address("TCP", self.reactor.host, self.number)

    def startListening(self) -> None:
        """Twisted's."""

    def stopListening(self) -> None:
        """Twisted's."""
        self.network.closed(self)
        self.factory.doStop()


@implementer(IConnector)
class Connector:
    """An attempt to connect.

    :ivar is_waiting: neither connected nor failed yet.
    """

    def __init__(self, network: Network, reactor: NodeReactor, host: str, port: int, factory: Any) -> None:
        self._network = network
        self.reactor = reactor
        self.host = host
        self.port = port
        self._factory = factory
        self._timer: Any = None
        self.is_waiting = True

    def begin(self, timeout_seconds: float) -> None:
        """Send the request."""
        time, source = self._network.time, self.reactor.host
        self._timer = self.reactor.callLater(timeout_seconds, lambda: self.fail(TimeoutError()))
        time.call_later(self._network.delay(source, self.host), lambda: self._network.arrives(self))

    def connected(self, transport: Transport) -> None:
        """The request was answered."""
        if not self.is_waiting:
            transport.abortConnection()
            return
        self._end()
        protocol = self._factory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.abortConnection()
        else:
            transport.begin(protocol)

    def fail(self, error: Exception) -> None:
        """It cannot be."""
        if self.is_waiting:
            self._end()
            self._factory.clientConnectionFailed(self, Failure(error))

    def stopConnecting(self) -> None:
        """Twisted's."""
        self.fail(UserError())

    def disconnect(self) -> None:
        """Twisted's."""
        self.stopConnecting()

    def connect(self) -> None:
        """Twisted's; nobody here tries the same one again."""
        raise RuntimeError("an attempt is made once")

    def getDestination(self) -> IPv4Address:
        """Twisted's."""
        return IPv4Address("TCP", self.host, self.port)

    def _end(self) -> None:
        self.is_waiting = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
