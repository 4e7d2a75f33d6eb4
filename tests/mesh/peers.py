"""Nodes of ours, and peers written by hand that speak the protocol byte by byte, on 127.0.0.1."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher

from chordtx.config import Limits, MeshSettings
from chordtx.mesh import Dialect, MeshService
from chordtx.wire import Codec, Light, Message, flags, node_id, preference, protocol_id
from chordtx.wire.frame import frame

HOST = "127.0.0.1"
LISTEN = "tcp:0:interface=127.0.0.1"
POLL_SECONDS = 0.005
#: Longer than anything takes on a busy machine: only what hangs gets there.
PATIENCE_SECONDS = 20.0
NOW = 1_700_000_000


class ManualPeer(Protocol):
    """A peer that says what the test makes it say, and keeps what it hears.

    :ivar messages: what came, parsed. :ivar light: what came in light frames.
    :ivar lost: whether the link is gone.
    """

    def __init__(self, dialect: Dialect = Dialect.BIN, subnet: str = "mesh", name: str = "manual") -> None:
        self.dialect = dialect
        self.protocol_id = protocol_id(subnet, "Plaintext")
        self.id = node_id(name, 1, self.protocol_id, name.encode())
        self.address: list[Any] = [HOST, 0]
        self.methods: list[int] = []
        self.messages: list[Message] = []
        self.received_bytes = 0
        self.lost = False
        self.greets_by_itself = False
        self.light: list[Light] = []
        self._codec = Codec(Limits(), preference())
        self._codec.greeted(ours=True)

    def connectionMade(self) -> None:
        if self.greets_by_itself:
            self.greet()

    def dataReceived(self, data: bytes) -> None:
        self.received_bytes += len(data)
        self._codec.receive_data(data)
        while (came := self._codec.next_received()) is not None:
            if isinstance(came, Message):
                self.messages.append(came)
            else:
                self.light.append(came)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    def heard(self, flag: int) -> list[tuple[Any, ...]]:
        """Payloads that came with this sub-flag."""
        return [message.payload for message in self.messages if message.payload[0] == flag]

    def build(self, *payload: Any, type: int = flags.WHISPER, time: int | None = None) -> Message:
        """A message from this peer."""
        sender = self.dialect.text(self.id)
        return Message.build(type, sender, self.now() if time is None else time, payload)

    def now(self) -> int:
        """By the real clock."""
        from twisted.internet import reactor

        return int(reactor.seconds())  # type: ignore[attr-defined]

    def say(self, *payload: Any, type: int = flags.WHISPER) -> Message:
        """Send a message."""
        message = self.build(*payload, type=type)
        self.write(frame(message.data))
        return message

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        transport: Any = self.transport
        if not self.lost:
            transport.write(data)

    def greet(self) -> None:
        """Shake hands as a legacy peer does."""
        text = self.dialect.text
        self.say(flags.HANDSHAKE, text(self.id), text(self.protocol_id), self.address, self.methods)

    def say_hello(self, version: int = 1) -> None:
        """Say that this is one of our own nodes. :param version: from 2 on one that reads light frames."""
        self.say(flags.HELLO, version)

    def end(self) -> None:
        """Close the link at once."""
        transport: Any = self.transport
        if not self.lost:
            transport.abortConnection()


class Mesh:
    """The nodes and peers of one test, which end with it."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.rng = Random(7)
        self.nodes: list[MeshService] = []
        self.peers: list[ManualPeer] = []
        self.ports: list[Any] = []
        self.log: list[LogEvent] = []
        globalLogPublisher.addObserver(self.log.append)

    async def node(self, *through: MeshService, **options: Any) -> MeshService:
        """A node that listens."""
        addresses = [f"{HOST}:{node.out_addr[1]}" for node in through]
        options.setdefault("listen", LISTEN)
        node = MeshService(self.reactor, peers=addresses, rng=Random(self.rng.getrandbits(64)), **options)
        self.nodes.append(node)
        node.startService()
        await node.when_listening()
        return node

    async def chain(self, count: int, settings: MeshSettings | None = None) -> list[MeshService]:
        """Nodes of which each is linked to the one before it (and to others, as they hear of them)."""
        nodes = [await self.node(settings=settings)]
        for _ in range(count - 1):
            nodes.append(await self.node(nodes[-1], settings=settings))
            await self.until(lambda: nodes[-1].routing_table, "a link")
        return nodes

    async def complete(self, count: int) -> list[MeshService]:
        """Nodes each of which is linked to each other one."""
        nodes = [await self.node() for _ in range(count)]
        for node in nodes:
            node._peer_met = lambda peer, address: None  # type: ignore[method-assign]
        for place, node in enumerate(nodes):
            for other in nodes[:place]:
                await node.connect(*other.out_addr)
        return nodes

    async def peer(self, node: MeshService, kind: str = "bin", **options: Any) -> ManualPeer:
        """A peer that connected to ``node``; ``bin`` or ``str`` is an old one, ``ours`` one of our own,
        ``light`` one that reads light frames, and ``silent`` one that has said nothing yet."""
        dialect = Dialect.STR if kind == "str" else Dialect.BIN
        peer = ManualPeer(dialect, name=f"peer {len(self.peers)}", **options)
        self.peers.append(peer)
        await connectProtocol(TCP4ClientEndpoint(self.reactor, HOST, node.out_addr[1]), peer)
        if kind in ("ours", "light"):
            await self.until(lambda: peer.heard(flags.HELLO), "a hello")
            peer.say_hello(2 if kind == "light" else 1)
        if kind != "silent":
            peer.greet()
            await self.until(lambda: peer.id in node.routing_table or peer.lost, "a handshake")
        return peer

    async def listening_peer(self, peer: ManualPeer) -> int:
        """Let a peer accept one link.

        :returns: its port.
        """
        peer.greets_by_itself = True
        self.peers.append(peer)
        port = await TCP4ServerEndpoint(self.reactor, 0, interface=HOST).listen(_factory_of(peer))
        self.ports.append(port)
        number: int = port.getHost().port
        peer.address = [HOST, number]
        return number

    async def until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until ``is_so()`` holds."""
        deadline = self.reactor.seconds() + PATIENCE_SECONDS
        while not is_so():
            assert self.reactor.seconds() < deadline, f"not in time: {what}"
            await deferLater(self.reactor, POLL_SECONDS)

    async def linked(self, *nodes: MeshService) -> None:
        """Wait until each of ``nodes`` has a link to each other one."""
        ids = {node.id for node in nodes}
        await self.until(
            lambda: all(ids - {node.id} <= set(node.routing_table) for node in nodes), "a link for each pair"
        )

    async def served(self, node: MeshService, peer: ManualPeer) -> None:
        """Check that an honest legacy peer is answered."""
        before = len(peer.heard(flags.PEERS))
        peer.say(flags.REQUEST, b"*")
        await self.until(lambda: len(peer.heard(flags.PEERS)) > before, "an answer")

    def logged(self, text: str) -> list[LogEvent]:
        """Events of the log that contain ``text``."""
        from twisted.logger import formatEvent

        return [event for event in self.log if text in formatEvent(event)]

    async def stop(self) -> None:
        """End everything."""
        for peer in self.peers:
            if peer.transport is not None:
                peer.end()
        for port in self.ports:
            await port.stopListening()
        await DeferredList([node.stopService() for node in self.nodes])
        globalLogPublisher.removeObserver(self.log.append)


def _factory_of(peer: ManualPeer) -> Any:
    factory = Factory.forProtocol(lambda: peer)
    factory.noisy = False
    return factory


def outcomes(deferred: Deferred[Any]) -> list[Any]:
    """A list that gets the result of ``deferred`` once it is there; its failure as the exception."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found
