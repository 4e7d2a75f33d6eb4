"""Messages for everyone: each is handled once and passed on once, to all neighbours but its origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.deduplication import SeenBroadcasts
from chordtx.mesh.translation import broadcast_id, in_dialect
from chordtx.wire import Message, flags, must_fit


class Broadcasts:
    """One node's part in spreading them.

    :param mesh: the service: ``id``, ``routing_table``, ``_may_relay``, ``reactor``, ``_limited_log``.
    :param seen: which were met before. :param wall_seconds: what the neighbourhood takes for the time, UTC.
    :param handle: called with each that is new, and the link that it came by.
    :param passed_on: called with each that is passed on.
    """

    def __init__(
        self,
        mesh: Any,
        seen: SeenBroadcasts,
        wall_seconds: Callable[[], float],
        handle: Callable[[MeshConnection, Message], None],
        passed_on: Callable[[Message], None],
    ) -> None:
        self._mesh = mesh
        self._seen = seen
        self._wall_seconds = wall_seconds
        self._handle = handle
        self._passed_on = passed_on

    def begin(self, *payload: Any) -> Message:
        """Make a message of our own, and send it to everyone.

        :raises ValueTooLarge: when it is past the limits.
        """
        mesh = self._mesh
        sender = mesh.id.encode("ascii")
        message = Message.build(flags.BROADCAST, sender, int(self._wall_seconds()), payload)
        self.send(message)
        return message

    def send(self, message: Message) -> None:
        """Send a message of our own to everyone. :raises ValueTooLarge: when it is past the limits."""
        must_fit(message, self._mesh.settings.limits)  # also while there is nobody to send it to
        self._is_new(message)
        self._pass_on(message, None)

    def received(self, link: MeshConnection, message: Message) -> None:
        """A broadcast came. It is passed on after it was handled, when it is fit for that.

        :raises ProtocolError: when it makes no sense, and the peer made it itself.
        """
        if not self._is_new(message) or message.sender_text == self._mesh.id:
            return
        if message.sender_text == link.id:
            self._handle(link, message)
        elif not self._is_handled(link, message):
            return
        try:
            self._pass_on(message, link)
        except ValueTooLarge as error:
            self._mesh._limited_log.info("a broadcast is not passed on: {error}", error=str(error))

    def _is_handled(self, link: MeshConnection, message: Message) -> bool:
        """Handle what came over ``link``. A mistake in it is its origin's, and not the link's.

        Else one bad broadcast would cut every link that it goes over.
        """
        try:
            self._handle(link, message)
        except ProtocolError as error:
            text = "a broadcast is dropped that came by {link}: {error}"
            self._mesh._limited_log.info(text, link=link, error=str(error))
            return False
        except Exception:
            text = "a broadcast could not be handled that came by {link}"
            self._mesh._limited_log.failure(text, link=link)
            return False
        return True

    def first_time(self, message: Message, id: bytes) -> bool:
        """Note a broadcast by this id; whether it is new and not too old."""
        return self._seen.first_time(id, message.time, self._mesh.reactor.seconds(), self._wall_seconds())

    def _is_new(self, message: Message) -> bool:
        return self.first_time(message, broadcast_id(message))

    def _pass_on(self, message: Message, source: MeshConnection | None) -> None:
        self._passed_on(message)
        origin = message.sender_text
        for peer, link in tuple(self._mesh.routing_table.items()):
            if link is not source and peer != origin and self._mesh._may_relay(link, message):
                link.send_message(message if link.ours else in_dialect(message, link.dialect))
