"""What waits to be sent over one link: bounded, and counted exactly.

The transport takes data until it says that its buffer is full, and takes more when that is empty again;
what comes in between waits here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Outbox:
    """Bytes on their way out.

    :param bytes_max: when more wait, the peer does not read.
    :param overflowed: called then. :param sent_on: called each time the transport takes data again.
    """

    def __init__(self, bytes_max: int, overflowed: Callable[[], None], sent_on: Callable[[], None]) -> None:
        self._bytes_max = bytes_max
        self._overflowed = overflowed
        self._sent_on = sent_on
        self._transport: Any = None
        self._waiting: deque[bytes] = deque()
        self._paused = False
        self.waiting_bytes = 0

    def attach(self, transport: Any) -> None:
        """The transport is up."""
        self._transport = transport
        transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data``, now or when the transport takes it."""
        if not self._paused:
            self._transport.write(data)
            return
        self._waiting.append(data)
        self.waiting_bytes += len(data)
        if self.waiting_bytes > self._bytes_max:
            self.discard()
            self._overflowed()

    def finish(self) -> None:
        """Hand everything to the transport, which is about to be closed."""
        self._transport.unregisterProducer()
        self._transport.writeSequence(self._waiting)
        self.discard()

    def discard(self) -> None:
        """Forget what waits: the link is dead."""
        self._waiting.clear()
        self.waiting_bytes = 0

    def pauseProducing(self) -> None:
        """Twisted's: the peer reads more slowly than we write."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Twisted's: the transport's buffer is empty again."""
        self._paused = False
        self._sent_on()
        while self._waiting and not self._paused:
            data = self._waiting.popleft()
            self.waiting_bytes -= len(data)
            self._transport.write(data)

    def stopProducing(self) -> None:
        """Twisted's: nothing more can be written."""
        self._paused = True
        self.discard()
