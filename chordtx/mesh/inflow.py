"""What comes over one link: bytes, made into messages no faster than the peer may send them.

Past its rate the transport is paused, and what came already waits: so a flood costs the peer's time and
the kernel's buffers, and nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from chordtx.mesh.rate import Rate
from chordtx.wire import Codec, Message

_HELD_BYTES_MAX = 256 * 1024  # what a link may send while it is not known whether it is to stay


class Inflow:
    """The reading side of a link.

    :param deliver: called with each message. :param failed: called, within the ``except``, with whatever
        reading or delivering raised. :param floods: called when the peer is slowed down.
    :ivar unfinished_since: when the frame began whose rest has not come, None when there is none.
    """

    def __init__(
        self,
        reactor: Any,
        codec: Codec,
        rate: Rate,
        deliver: Callable[[Message], None],
        failed: Callable[[Exception], None],
        floods: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._codec = codec
        self._rate = rate
        self._deliver = deliver
        self._failed = failed
        self._floods = floods
        self._transport: Any = None
        self._resume_call: IDelayedCall | None = None
        self._stopped = False
        self._held = False
        self.unfinished_since: float | None = None

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read for now, because the peer sent too much or is to wait."""
        return self._resume_call is not None or self._held

    def attach(self, transport: Any) -> None:
        """The transport is up."""
        self._transport = transport

    def received(self, data: bytes) -> None:
        """Take what came."""
        self._codec.receive_data(data)
        if not self.is_paused:
            self._read()
        elif self._held and self._codec.pending_bytes > _HELD_BYTES_MAX:
            self._transport.pauseProducing()

    def hold(self) -> None:
        """Deliver nothing for now. The transport goes on: so the end of the link is noticed."""
        self._held = True

    def release(self) -> None:
        """Deliver what has come since :meth:`hold`, and go on."""
        was_held, self._held = self._held, False
        if was_held and self._resume_call is None and not self._stopped:
            self._resume_call = self._reactor.callLater(0, self._resume)

    def stop(self) -> None:
        """Deliver nothing more; but let the transport notice the peer's end of the link."""
        self._stopped = True
        if self._resume_call is not None:
            self._resume_call.cancel()
            self._resume_call = None
            self._transport.resumeProducing()

    def _read(self) -> None:
        try:
            self._deliver_all()
        except Exception as error:
            self._failed(error)

    def _deliver_all(self) -> None:
        now = self._reactor.seconds()
        is_progress = False
        while not self._stopped and not self.is_paused:
            message = self._codec.next_message()
            if message is None:
                break
            is_progress = True
            pause_seconds = self._rate.counted(now)
            if pause_seconds:
                self._pause(pause_seconds)
            self._deliver(message)
        if not self._codec.pending_bytes:
            self.unfinished_since = None
        elif is_progress or self.unfinished_since is None:
            self.unfinished_since = now

    def _pause(self, seconds: float) -> None:
        self._floods()
        self._transport.pauseProducing()
        self._resume_call = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._resume_call = None
        if not self._held:
            self._read()
        if not self.is_paused and not self._stopped:
            self._transport.resumeProducing()
