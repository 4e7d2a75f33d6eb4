"""The send buffer of one link: bounded, and counted exactly.

The transport takes data until it says that its buffer is full, and takes more when that is empty again; what
comes in between waits here. It is given a little at a time, so that it never holds much of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Connection
from zope.interface import implementer

from chordtx.mesh.pool import Pool

#: What the transport is given at once: its own buffer counts as full from there on.
_PIECE_BYTES = 128 * 1024


class OutboxLink(Protocol):
    """What the sending side needs of its link."""

    @property
    def is_member(self) -> bool:
        """Whether the peer is a member of our ring."""

    def overflowed(self) -> None:
        """More waits than may."""

    def sent_on(self) -> None:
        """The transport takes data again."""


@implementer(IPushProducer)
class SendBuffer:
    """Bytes on their way out.

    :param bytes_max: when more wait, the peer does not read. :param pool: of what waits on all links.
    :param seconds: the clock. :ivar waiting_bytes: what waits.
    """

    def __init__(self, bytes_max: int, pool: Pool, seconds: Callable[[], float], link: OutboxLink) -> None:
        self._bytes_max = bytes_max
        self._pool = pool
        self._seconds = seconds
        self._link: OutboxLink | None = link
        self._transport: Any = None
        self._waiting: deque[bytes | memoryview] = deque()
        self._paused = False
        self._send_some: Callable[[bytes], Any] | None = None
        self._moved_at = 0.0
        self._when_empty: Callable[[], None] | None = None
        self.waiting_bytes = 0

    @property
    def precedence(self) -> tuple[bool, float]:
        """See :class:`~chordtx.mesh.pool.Holder`: the peer that has read nothing for longest gives way
        first."""
        return (self._link is not None and self._link.is_member, self._moved_at)

    def give_way(self) -> None:
        """See :class:`~chordtx.mesh.pool.Holder`."""
        link = self._link
        self.discard()
        if link is not None:
            link.overflowed()

    def has_moved(self, since: float) -> bool:
        """Whether something waits, of which the peer has read some since then."""
        return self.waiting_bytes > 0 and self._moved_at >= since

    def attach(self, transport: Any) -> None:
        """The transport is up."""
        self._transport = transport
        # By its class: what wraps a socket, as TLS does, passes its methods on.
        if isinstance(transport, Connection) and not transport.TLS:
            self._send_some = transport.writeSomeData
        self._moved_at = self._seconds()
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data``, now or when the transport takes it."""
        if not self._paused and len(data) <= _PIECE_BYTES:
            self._give(data)
            return
        if not self._waiting:
            self._moved_at = self._seconds()
        # A view, for cutting pieces off it copies nothing.
        self._waiting.append(data if len(data) <= _PIECE_BYTES else memoryview(data))
        self.waiting_bytes += len(data)
        self._hand_on()
        if self.waiting_bytes > self._bytes_max:
            self.give_way()
        else:
            self._pool.hold(self, self.waiting_bytes)

    def _give(self, data: bytes) -> None:
        """Give ``data`` to the socket at once, where that can be. A turn of the reactor, and two calls of the
        system, are spared by that. Every piece has to go this way: a short one that was left to the transport
        would not make it pause us, and what comes next would reach the socket before it."""
        transport, send_some = self._transport, self._send_some
        if send_some is None:
            transport.write(data)
            return
        sent = send_some(data) if transport.connected else 0
        if sent == len(data):
            return
        if type(sent) is not int or sent < 0:
            sent = 0  # the connection is lost: the transport finds out when it is to write
        # From here on the transport sends by itself, and resumes us when it has.
        self._paused = transport.producerPaused = True
        transport.write(data[sent:])

    def finish(self, when_empty: Callable[[], None]) -> None:
        """Send what waits, and call ``when_empty`` after that."""
        self._when_empty = when_empty
        self._finish_if_empty()

    def discard(self) -> None:
        """Forget what waits: the link is dead."""
        self._link = self._when_empty = None
        self._waiting.clear()
        self.waiting_bytes = 0
        self._pool.release(self)

    def pauseProducing(self) -> None:
        """Twisted's: the peer reads more slowly than we write."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Twisted's: the transport's buffer is empty again."""
        self._paused = False
        self._moved_at = self._seconds()
        self._hand_on()
        self._pool.hold(self, self.waiting_bytes)
        if self._link is not None:
            self._link.sent_on()
        self._finish_if_empty()

    def stopProducing(self) -> None:
        """Twisted's: nothing more can be written."""
        self._paused = True
        self.discard()

    def _hand_on(self) -> None:
        waiting = self._waiting
        while waiting and not self._paused:
            data = waiting.popleft()
            if len(data) > _PIECE_BYTES:
                waiting.appendleft(data[_PIECE_BYTES:])
                data = data[:_PIECE_BYTES]
            self.waiting_bytes -= len(data)
            self._give(bytes(data))

    def _finish_if_empty(self) -> None:
        if self._when_empty is not None and not self._waiting:
            when_empty, self._when_empty = self._when_empty, None
            self._transport.unregisterProducer()
            when_empty()
