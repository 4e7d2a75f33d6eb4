"""What the same bytes cost without a ring: a client, a server in another process, a frame each way.

Our own framing (:class:`chordtx.wire.Codec`, one message a frame, with its checksum) over Twisted's TCP, and
nothing else: no routing, no replicas, no bundling. What a ring costs is told as a multiple of this. Run as a
program, it is the server, and writes its port to standard output.
"""

from __future__ import annotations

import sys
import time
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol

from chordtx.config import Limits
from chordtx.wire import Codec, Message, flags

HOST = "127.0.0.1"
SENDER = "Q" * 66  # as long as a node's id is


class Link(Protocol):
    """Frames in and out."""

    def __init__(self) -> None:
        self._codec = Codec(Limits())

    def connectionMade(self) -> None:
        """Twisted's."""
        cast(ITCPTransport, self.transport).setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Twisted's."""
        self._codec.receive_data(data)
        while (message := self._codec.next_message()) is not None:
            self.message_received(message)

    def send(self, *payload: Any) -> None:
        """One message in one frame."""
        message = Message.build(flags.WHISPER, SENDER, int(time.time()), payload)
        cast(ITCPTransport, self.transport).write(self._codec.encode(message))

    def message_received(self, message: Message) -> None:
        """One message came."""
        raise NotImplementedError


class Server(Link):
    """``[CALL, number, key]`` is answered with the value kept; ``[CALL, number, key, value]`` keeps one."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[bytes, bytes] = {}

    def message_received(self, message: Message) -> None:
        """See :class:`Link`."""
        _, number, key, *value = message.payload
        if value:
            self._values[key] = value[0]
            self.send(flags.REPLY, number)
        else:
            self.send(flags.REPLY, number, self._values.get(key))


class Client(Link):
    """Asks a :class:`Server`."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._waiting: dict[int, Deferred[Any]] = {}

    def get(self, key: bytes) -> Deferred[Any]:
        """:returns: fires with the value."""
        return self._ask(key)

    def set(self, key: bytes, value: bytes) -> Deferred[Any]:
        """:returns: fires with None once it is kept."""
        return self._ask(key, value)

    def _ask(self, *arguments: Any) -> Deferred[Any]:
        self._number += 1
        answer: Deferred[Any] = Deferred()
        self._waiting[self._number] = answer
        self.send(flags.CALL, self._number, *arguments)
        return answer

    def message_received(self, message: Message) -> None:
        """See :class:`Link`."""
        _, number, *value = message.payload
        self._waiting.pop(number).callback(value[0] if value else None)


class BarePair:
    """A server process, and a client of it in this one."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._process = _ServerProcess()
        self.client = Client()

    async def start(self) -> None:
        """Spawn the server and connect to it."""
        self._reactor.spawnProcess(self._process, sys.executable, [sys.executable, __file__], env=None)
        port = await self._process.port
        await connectProtocol(TCP4ClientEndpoint(self._reactor, HOST, port), self.client)

    async def stop(self) -> None:
        """End both."""
        if self.client.transport is not None:
            self.client.transport.loseConnection()
        transport = self._process.transport
        if transport is not None:
            transport.closeStdin()
            await self._process.ended


class _ServerProcess(ProcessProtocol):
    def __init__(self) -> None:
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self._said = b""

    def outReceived(self, data: bytes) -> None:
        self._said += data
        if self._said.endswith(b"\n") and not self.port.called:
            self.port.callback(int(self._said))

    def errReceived(self, data: bytes) -> None:
        sys.stderr.write(data.decode(errors="replace"))

    def processEnded(self, reason: Any) -> None:
        if not self.port.called:
            self.port.errback(reason)
        self.ended.callback(None)


class _UntilInputEnds(Protocol):
    def connectionLost(self, reason: Any = None) -> None:
        from twisted.internet import reactor

        cast(Any, reactor).stop()


def serve() -> None:
    """Serve on a free port until standard input ends."""
    from twisted.internet import reactor
    from twisted.internet.stdio import StandardIO

    def listening(port: Any) -> None:
        sys.stdout.write(f"{port.getHost().port}\n")
        sys.stdout.flush()
        StandardIO(_UntilInputEnds(), stdin=0, stdout=2)

    factory = Factory.forProtocol(Server)
    factory.noisy = False
    TCP4ServerEndpoint(reactor, 0, interface=HOST).listen(factory).addCallback(listening)
    cast(Any, reactor).run()


if __name__ == "__main__":
    serve()
