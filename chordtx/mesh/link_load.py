"""A link that carries large values: whether there is room for one more, and whether a call is late or only
waits behind others.

A large answer is sent only when the peer reads, and all links together have room for it. Else peers that
read well, and ask for much, would cause each other to be cut. A large call is served only when there is room
as well: what a client stores goes on to the other members of its group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chordtx.mesh.calls import LARGE_BYTES
from chordtx.mesh.pool import Pool, Waiter
from chordtx.mesh.send_buffer import SendBuffer

#: A peer that leaves more than this unread is not served until it has read on.
_UNREAD_BYTES_MAX = 256 * 1024
#: A peer whose answers are large waits for room for them this long while somebody else does not read, or
#: that long in any case. Then it is served, and who has read nothing for longest is cut.
_ROOM_SECONDS = 1.0
_ROOM_SECONDS_MAX = 5.0
_STUCK_SECONDS = 0.5
#: Calls are not late while something large has moved within this time, for they wait behind it.
_CARRYING_SECONDS = 1.0


class LoadedLink(Waiter, Protocol):
    """What this part needs of its link."""

    @property
    def is_member(self) -> bool:
        """Whether the peer is a member of our ring."""


class LinkLoad:
    """See the module. One for each link.

    :param unsent: what all links hold. :param seconds: the clock.
    """

    def __init__(
        self, buffer: SendBuffer, unsent: Pool, seconds: Callable[[], float], link: LoadedLink
    ) -> None:
        self._buffer = buffer
        self._unsent = unsent
        self._seconds = seconds
        self._link: LoadedLink | None = link
        self._waits_since: float | None = None
        self._carried_at = float("-inf")

    @property
    def is_waiting(self) -> bool:
        """Whether the link waits for room."""
        return self._waits_since is not None

    @property
    def is_read(self) -> bool:
        """Whether the peer reads what it is sent."""
        return self._buffer.waiting_bytes <= _UNREAD_BYTES_MAX

    def may_serve(self, call_bytes: int) -> bool:
        """Whether one more call is to be served. If not, the link is told when there may be room.

        :param call_bytes: about what the call holds.
        """
        if self._buffer.waiting_bytes > _UNREAD_BYTES_MAX:
            return False
        return call_bytes <= LARGE_BYTES or self._has_room(call_bytes)

    def may_answer(self, answer_bytes: int) -> bool:
        """Whether one more answer is to be sent; as :meth:`may_serve`. Members do not wait for others."""
        if self._buffer.waiting_bytes > _UNREAD_BYTES_MAX:
            return False
        if answer_bytes <= LARGE_BYTES or self._link is None or self._link.is_member:
            return True
        return self._has_room(answer_bytes)

    def _has_room(self, count: int) -> bool:
        if self._unsent.has_room(count):
            self._waits_since = None
            return True
        now = self._seconds()
        since = self._waits_since = self._waits_since or now
        if now - since > _ROOM_SECONDS_MAX or (
            now - since > _ROOM_SECONDS and self._unsent.has_stuck(now - _STUCK_SECONDS)
        ):
            self._waits_since = None
            return True
        if self._link is not None:
            self._unsent.wait(self._link, count)
        return False

    def received(self, size_bytes: int, now: float) -> None:
        """Answers came."""
        if size_bytes > LARGE_BYTES:
            self._carried_at = now

    def is_carrying(self, now: float, comes_in: bool) -> bool:
        """Whether calls that have no answer may only wait behind something large.

        :param comes_in: whether part of a frame has come a moment ago.
        """
        if comes_in or self._buffer.has_moved(now - _CARRYING_SECONDS):
            self._carried_at = now
        return now - self._carried_at <= _CARRYING_SECONDS

    def stop(self) -> None:
        """The link has ended: it waits for nothing, and is held by nobody."""
        if self._link is not None:
            self._unsent.forget(self._link)
            self._link = None
