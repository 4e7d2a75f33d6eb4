"""The receive buffer of one link: bytes become messages and calls, in turns shared with other links.

What there is to do is done at once while the node's turn lasts, and piece by piece in later turns after that
(:class:`~chordtx.mesh.turns.Turns`). A peer that costs more than its quota waits until the quota is filled up
again. Meanwhile a little of what comes is read ahead, so that the end of the link is noticed. Past that the
transport is paused: so a flood costs the peer's time and the kernel's buffers, and nothing of ours.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall

from chordtx.mesh.pool import Pool
from chordtx.mesh.quota import Quota
from chordtx.mesh.turns import Turns
from chordtx.wire import Codec, ExpandsTooMuch, Light, Message

_READ_AHEAD_BYTES = 128 * 1024
#: An unfinished frame counts among those of all links from here on: 1,000 links with less hold little.
_COUNTED_BYTES_MIN = 16 * 1024


class ReceivingLink(Protocol):
    """What the reading side needs of its link."""

    @property
    def is_member(self) -> bool:
        """Whether the peer is a member of our ring, which no quota slows down."""

    def serve(self, until_turn_is_over: bool) -> bool:
        """Serve calls that wait: one, or as many as the turn lasts.

        :returns: whether there are more that may be served now.
        """

    def deliver(self, message: Message | Light) -> None:
        """A message came. May raise anything."""

    def expands_too_much(self, error: ExpandsTooMuch) -> None:
        """A message was left out that costs more than its sender paid for."""

    def worked(self) -> None:
        """What came was worked on at once, as far as it could be."""

    def reading_failed(self, error: Exception) -> None:
        """Reading, serving or delivering raised this (it is called within the ``except``)."""

    def floods(self) -> None:
        """The peer is slowed down."""

    def takes_too_much(self) -> None:
        """An unfinished frame must go: those of all links take too much together."""


class ReceiveBuffer:
    """The reading side of a link.

    :param pool: of the bytes in unfinished frames of all links.
    :ivar unfinished_since: when the frame began whose rest has not come, None when there is none.
    """

    def __init__(
        self, reactor: Any, codec: Codec, turns: Turns, quota: Quota, pool: Pool, link: ReceivingLink
    ) -> None:
        self._reactor = reactor
        self._codec = codec
        self._turns = turns
        self._quota = quota
        self._pool = pool
        self._link: ReceivingLink | None = link
        self._transport: Any = None
        self._resume_call: IDelayedCall | None = None
        self._is_transport_paused = False
        self._is_counted = False
        self._is_on_hold = False
        self._has_read = False
        self.unfinished_since: float | None = None
        self.is_waiting = False

    @property
    def precedence(self) -> tuple[bool, float]:
        """See :class:`~chordtx.mesh.pool.Holder`: the frame begun first gives way first."""
        return (self._link is not None and self._link.is_member, self.unfinished_since or 0.0)

    def give_way(self) -> None:
        """See :class:`~chordtx.mesh.pool.Holder`."""
        self._is_counted = False
        if self._link is not None:
            self._link.takes_too_much()

    def attach(self, transport: Any) -> None:
        """The transport is up."""
        self._transport = transport

    def received(self, data: bytes) -> None:
        """Take what came, and do what can be done in this turn."""
        self._codec.receive_data(data)
        if self.is_waiting:
            if self._codec.pending_bytes > _READ_AHEAD_BYTES:
                self._pause_transport()
        elif self._turns.begin():
            while self.work(at_once=True):
                if self._turns.is_over:
                    self._wait()
                    break
            self._turns.end()
            if self._link is not None:
                self._link.worked()
        else:
            self._wait()

    def go_on(self) -> None:
        """There is something to do that could not be done before."""
        if not self.is_waiting and self._link is not None:
            self._wait()

    def hold(self) -> None:
        """Deliver nothing for now, beyond what is being delivered."""
        self._is_on_hold = self.is_waiting = True
        self._turns.forget(self)

    def release(self) -> None:
        """Deliver what has come since :meth:`hold`, and go on."""
        if self._is_on_hold and self._link is not None:
            self._is_on_hold = False
            if self._resume_call is None:
                self._wait()

    def stop(self) -> None:
        """Deliver nothing more, and hold nothing; but let the transport notice the peer's end of the link."""
        self._link = None
        self._codec.discard()
        self._turns.forget(self)
        self._pool.release(self)
        if self._resume_call is not None:
            self._resume_call.cancel()
            self._resume_call = None
        self._resume_transport()

    def work(self, at_once: bool = False) -> bool:
        """See :class:`~chordtx.mesh.turns.Worker`: serve a call, or read a message and serve its first.

        :param at_once: serve as many as the turn lasts: so, what comes is for the most part done right away.
        """
        self.is_waiting = False
        link = self._link
        if link is None:
            return False
        try:
            # What there is more often than not: one message, and all that it asks is done at once.
            is_more = link.serve(at_once)
            if not is_more and self._read_one(link):
                is_more = link.serve(at_once) or self._codec.pending_bytes > 0
        except Exception as error:
            link.reading_failed(error)
            return False
        if self._resume_call is not None or self._is_on_hold:
            self.is_waiting = True
            return False
        if not is_more:
            pending_bytes = self._codec.pending_bytes
            if pending_bytes or self.unfinished_since is not None:
                self._note_rest(pending_bytes)
            if self._is_transport_paused:
                self._resume_transport()
        return is_more

    def _wait(self) -> None:
        self.is_waiting = True
        self._turns.wait(self)

    def _read_one(self, link: ReceivingLink) -> bool:
        try:
            message = self._codec.next_received()
        except ExpandsTooMuch as error:
            self._spend(error.bytes_max, link)
            link.expands_too_much(error)
            return True
        if message is None:
            return False
        self._has_read = True
        if not link.is_member:
            self._spend(message.decoded_bytes, link)
        link.deliver(message)
        return True

    def _spend(self, count: int, link: ReceivingLink) -> None:
        if link.is_member:
            return
        seconds = self._quota.spend(count, self._reactor.seconds())
        if seconds:
            link.floods()
            self._resume_call = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._resume_call = None
        if not self._is_on_hold:
            self._wait()

    def _note_rest(self, pending_bytes: int) -> None:
        """All that can be done is done: a frame whose rest has not come is looked after, and counted."""
        if not pending_bytes:
            self.unfinished_since = None
        elif self._has_read or self.unfinished_since is None:
            self.unfinished_since = self._reactor.seconds()
        self._has_read = False
        if self._is_counted or pending_bytes >= _COUNTED_BYTES_MIN:
            self._is_counted = pending_bytes > 0
            self._pool.hold(self, pending_bytes)

    def _pause_transport(self) -> None:
        if not self._is_transport_paused:
            self._is_transport_paused = True
            self._transport.pauseProducing()

    def _resume_transport(self) -> None:
        if self._is_transport_paused:
            self._is_transport_paused = False
            self._transport.resumeProducing()
