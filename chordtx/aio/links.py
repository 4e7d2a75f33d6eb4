"""Links and messages, as asyncio programs get them."""

from __future__ import annotations

from typing import Any

from chordtx.aio.bridge import result_of
from chordtx.mesh.address import Address
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.message import ReceivedMessage
from chordtx.wire import flags


class Link:
    """A link to a peer. Two are equal when they stand for the same one."""

    def __init__(self, connection: MeshConnection) -> None:
        self._connection = connection

    @property
    def id(self) -> str | None:
        """The peer's node id (base58), None until the handshake is through."""
        return self._connection.id

    @property
    def address(self) -> Address | None:
        """The peer's outward address."""
        return self._connection.address

    @property
    def outgoing(self) -> bool:
        """Whether our side has connected."""
        return self._connection.outgoing

    @property
    def closed(self) -> bool:
        """Whether nothing is sent or read any more."""
        return self._connection.closed

    def send(self, *payload: Any, type: int = flags.WHISPER) -> None:
        """Send the peer a message; nothing, once the link is closed.

        :param payload: what ``packets`` is at the peer: a sub-flag, ``flags.WHISPER`` for a user's message,
            and its arguments. :param type: how it travels.
        :raises TypeError: when msgpack cannot carry an argument.
        :raises chordtx.ValueTooLarge: when it would not fit into a frame.
        """
        self._connection.send(*payload, type=type)

    def close(self, reason: Exception | None = None) -> None:
        """End the link once what is queued has left."""
        self._connection.close(reason)

    async def when_open(self) -> Link:
        """The link to the peer once the handshake is through: this one, or a better one that there is.

        Cancelling it ends the link. :raises Exception: the reason when the link ends before that.
        """
        return Link(await result_of(self._connection.when_open()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and other._connection is self._connection

    def __hash__(self) -> int:
        return hash(self._connection)

    def __repr__(self) -> str:
        return repr(self._connection)


class Message:
    """A user's message, as ``recv()`` and registered handlers give it.

    :ivar packets: ``(flag, *arguments)``; flag 0 for a broadcast, 2 for a reply.
    :ivar sender: base58 id of the node that it comes from, escaped. :ivar time: whole seconds, UTC.
    :ivar id: SHA-256 of the message, 32 bytes.
    """

    __slots__ = ("_received", "id", "packets", "sender", "time")

    def __init__(self, received: ReceivedMessage) -> None:
        self._received = received
        self.packets, self.sender = received.packets, received.sender
        self.time, self.id = received.time, received.id

    async def reply(self, *args: Any) -> None:
        """Whisper ``args`` to the sender; when it is no neighbour, ask the mesh where it is, and connect.

        Returns when the reply is on its way. :raises chordtx.NotJoined: when nobody knows the sender.
        """
        await result_of(self._received.reply(*args))

    def __repr__(self) -> str:
        return repr(self._received).replace("ReceivedMessage", "Message", 1)
