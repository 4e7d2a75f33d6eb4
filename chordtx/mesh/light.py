"""Light frames: sends calls, answers and groups' messages between our own nodes, in few bytes.

A message of the old protocol carries its sender, the time and a checksum, and becomes an object with all of
that. Between two of our own nodes the link itself tells who speaks, and TCP detects damage; so calls, answers
and what groups tell go in *light* frames (:class:`~chordtx.wire.Light`), of a peer that reads them. A message
goes where a light frame would not do: when it is long, so that it may be compressed and sent again; and now
and then, for messages tell the peer our time, and answers where our arc starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from chordtx.wire import flags, light_frame
from chordtx.wire.packing import pack

#: What is longer goes in a message.
LIGHT_BYTES_MAX = 32 * 1024
#: At least this often calls or answers go in a message, if there are any.
_TOLD_SECONDS = 5.0


class LightLink(Protocol):
    """What is needed of the link."""

    @property
    def heard_at(self) -> float:
        """When something last came, by the reactor's clock."""

    def send(self, *payload: Any) -> Any:
        """Send a message."""

    def write(self, data: bytes) -> None:
        """Send bytes; nothing, once the link is closed."""


class LightSender:
    """See the module. One for each link.

    :param own_arc_start: gives where our arc starts (48 bytes), None when we are in no ring.
    :ivar peer_reads_light: whether the peer reads light frames: not before the handshake is through.
    """

    def __init__(self, link: LightLink, own_arc_start: Callable[[], bytes | None]) -> None:
        self._link: LightLink | None = link
        self._own_arc_start = own_arc_start
        self._time_told_at = float("-inf")
        self._arc_told: bytes | None = None
        self.peer_reads_light = False

    def stop(self) -> None:
        """The link is gone, and not held by this any more."""
        self._link = None

    def send_calls(self, calls: list[Any]) -> None:
        """Send one frame of calls.

        :raises TypeError: when msgpack cannot carry an argument.
        :raises ValueTooLarge: when it would not fit into a frame.
        """
        link = self._link
        if link is not None and not (self._may_be_light(link) and self._went_light(link, flags.CALL, calls)):
            link.send(flags.CALL, calls)
            self._time_told_at = link.heard_at

    def send_replies(self, replies: list[Any]) -> None:
        """Send one frame of replies.

        :raises TypeError: as :meth:`send_calls`. :raises ValueTooLarge: as there.
        """
        link, arc_start = self._link, self._own_arc_start()
        if link is None:
            return
        is_told = arc_start == self._arc_told and self._may_be_light(link)
        if not (is_told and self._went_light(link, flags.REPLY, replies)):
            link.send(flags.REPLY, arc_start, replies)
            self._time_told_at, self._arc_told = link.heard_at, arc_start

    def send_groups(self, frame: bytes) -> None:
        """Send what members of groups tell one another.

        :raises ValueTooLarge: as :meth:`send_calls`.
        """
        link = self._link
        if link is None:
            return
        if self.peer_reads_light and len(frame) <= LIGHT_BYTES_MAX:
            link.write(light_frame(flags.GROUPS, frame))
        else:
            link.send(flags.GROUPS, frame)

    def _may_be_light(self, link: LightLink) -> bool:
        return self.peer_reads_light and link.heard_at - self._time_told_at < _TOLD_SECONDS

    @staticmethod
    def _went_light(link: LightLink, flag: int, entries: list[Any]) -> bool:
        body = pack(entries)
        if len(body) > LIGHT_BYTES_MAX:
            return False
        link.write(light_frame(flag, body))
        return True
