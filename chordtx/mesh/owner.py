"""What a link needs of the service that it belongs to."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from chordtx.config import MeshSettings
from chordtx.mesh.address import Address
from chordtx.mesh.bounds import LinkBounds
from chordtx.mesh.calls import Method
from chordtx.mesh.limited_log import LimitedLog
from chordtx.wire import Message

#: A link, of which nothing need be known here.
Link = TypeVar("Link")


class ConnectionOwner(Generic[Link]):
    """The links' side of a service (see :class:`~chordtx.MeshService`).

    :ivar _limited_log: for the lines that peers can cause.
    """

    reactor: Any
    settings: MeshSettings
    id: str
    _protocol_id: str
    _methods_offered: tuple[int, ...]
    _methods: dict[str, Method]
    _bounds: LinkBounds
    _limited_log: LimitedLog

    def _own_arc_start(self) -> bytes | None:
        """Where our own arc starts (48 bytes), None when we are in no ring: goes with every answer."""
        return None

    def _arc_told(self, connection: Link) -> None:
        """An answer named the start of the peer's arc: more certain than what other nodes say of it."""

    def _ping_interval_seconds(self, connection: Link) -> float:
        """How long a peer may be silent before it is asked whether it lives."""
        return self.settings.ping_interval_seconds

    def _now_whole_seconds(self) -> int:
        """UTC, whole seconds since 1970, as messages carry it."""
        raise NotImplementedError

    def _own_address(self) -> Address:
        """The outward address that peers are told."""
        raise NotImplementedError

    def _connection_made(self, connection: Link) -> None:
        """The transport is up; the handshake begins."""

    def _connection_opened(self, connection: Link) -> None:
        """The handshake is through."""
        raise NotImplementedError

    def _connection_closed(self, connection: Link, reason: Exception) -> None:
        """The link is gone; also told of one that never opened."""
        raise NotImplementedError

    def _message_received(self, connection: Link, message: Message) -> None:
        """A message came over an open link."""
        raise NotImplementedError

    def _groups_received(self, connection: Link, frame: Any) -> None:
        """A frame of members of groups came over an open link, from one of our own nodes."""

    def _flush_calls(self) -> None:
        """Flush the calls of all links that have asked for it, at once."""

    def _wants_flush(self, connection: Link) -> None:
        """Call ``connection.calls.flush()`` at the end of this turn of the reactor."""
        raise NotImplementedError
