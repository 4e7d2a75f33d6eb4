"""A message as users get it."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.escaping import escaped
from chordtx.wire import Message

_SENDER_CHARACTERS_MAX = 100  # an id has 66 at most


class Replier(Protocol):
    """Who sends replies: the service that a message came to."""

    def send_to(self, peer: str, *args: Any) -> Deferred[None]:
        """Whisper to a node. Fires when it is on its way."""


class ReceivedMessage:
    """A user's message, as ``recv()`` and registered handlers give it.

    :ivar packets: ``(flag, *arguments)``; flag 0 for a broadcast, 2 for a reply.
    :ivar sender: base58 id of the node that it comes from; a peer may
        send any other text, which comes escaped. :ivar time: whole seconds, UTC.
    :ivar id: SHA-256 of the message, 32 bytes.
    """

    __slots__ = ("_mesh", "id", "packets", "sender", "time")

    def __init__(self, message: Message, mesh: Replier) -> None:
        self.packets: tuple[Any, ...] = message.payload
        self.sender = escaped(message.sender_text, _SENDER_CHARACTERS_MAX)
        self.time = message.time
        self.id = message.id
        self._mesh = mesh

    def __repr__(self) -> str:
        flag, *arguments = self.packets
        return f"ReceivedMessage(type={flag!r}, packets={arguments!r}, sender={self.sender!r})"

    def reply(self, *args: Any) -> Deferred[None]:
        """Whisper ``args`` to the sender; when it is no neighbour, ask the mesh where it is, and connect.

        :returns: fires when the reply is on its way; fails with
            :class:`~chordtx.errors.NotJoined` when nobody knows the sender.
        """
        return self._mesh.send_to(self.sender, *args)
