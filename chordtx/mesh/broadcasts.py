"""Messages for everyone: each is handled once and passed on once, to all neighbours but its origin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.seen import SeenBroadcasts
from chordtx.mesh.translation import broadcast_id, in_dialect
from chordtx.wire import Message, flags, must_fit


class Broadcasts:
    """One node's part in spreading them.

    :param mesh: the service: ``id``, ``routing_table``, ``may_relay``, ``reactor``, ``now_whole_seconds``.
    :param seen: which were met before.
    :param handle: called with each that is new, and the link that it came by.
    :param passed_on: called with each that is passed on.
    """

    _log = Logger()

    def __init__(
        self,
        mesh: Any,
        seen: SeenBroadcasts,
        handle: Callable[[MeshConnection, Message], None],
        passed_on: Callable[[Message], None],
    ) -> None:
        self._mesh = mesh
        self._seen = seen
        self._handle = handle
        self._passed_on = passed_on

    def begin(self, *payload: Any) -> Message:
        """Make a message of our own, and send it to everyone.

        :raises ValueTooLarge: when it is past the limits.
        """
        mesh = self._mesh
        sender = mesh.id.encode("ascii")
        message = Message.build(flags.BROADCAST, sender, mesh.now_whole_seconds(), payload)
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
            self._log.info("a broadcast is not passed on: {error}", error=str(error))

    def _is_handled(self, link: MeshConnection, message: Message) -> bool:
        """Handle what came by way of ``link``; what is wrong with it is its origin's doing.

        Else one bad broadcast would cut every link that it travels by.
        """
        try:
            self._handle(link, message)
        except ProtocolError as error:
            self._log.info("a broadcast is dropped that came by {link}: {error}", link=link, error=str(error))
            return False
        except Exception:
            self._log.failure("a broadcast could not be handled that came by {link}", link=link)
            return False
        return True

    def _is_new(self, message: Message) -> bool:
        return self._seen.first_time(broadcast_id(message), message.time, self._mesh.wall_seconds())

    def _pass_on(self, message: Message, source: MeshConnection | None) -> None:
        self._passed_on(message)
        origin = message.sender_text
        for peer, link in tuple(self._mesh.routing_table.items()):
            if link is not source and peer != origin and self._mesh.may_relay(link, message):
                link.send_message(message if link.ours else in_dialect(message, link.dialect))
