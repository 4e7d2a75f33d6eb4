"""Messages of a mesh, out and in: to everyone, to a neighbour, to a node of which only the id is known.

What comes is handed to the handler of its sub-flag. What no part of the protocol takes is a user's, see
:class:`~chordtx.mesh.inbox.Inbox`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from chordtx.errors import ProtocolError
from chordtx.mesh.broadcasts import Broadcasts
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.events import EventEmitter, Listener
from chordtx.mesh.finding import Finding
from chordtx.mesh.handshake import Dialect
from chordtx.mesh.inbox import Inbox, UserHandler
from chordtx.mesh.message import ReceivedMessage
from chordtx.mesh.owner import ConnectionOwner
from chordtx.mesh.peer_exchange import PeerExchange
from chordtx.wire import Message, flags

T = TypeVar("T")
FlagHandler = Callable[[MeshConnection, Message], None]


class Messaging(ConnectionOwner[MeshConnection], EventEmitter):
    """The methods of :class:`~chordtx.MeshService` for messages."""

    #: Whether messages are kept before anybody has asked for any: a mesh is there for them.
    _keeps_messages = True

    if TYPE_CHECKING:
        routing_table: dict[str, MeshConnection]
        _broadcasts: Broadcasts
        _exchange: PeerExchange
        _finding: Finding
        _inbox: Inbox
        _flag_handlers: dict[int, FlagHandler]

        def _run(self, work: Coroutine[Any, Any, T]) -> Deferred[T]: ...

    # Messages out

    def send(self, *args: Any, flag: int = flags.BROADCAST, type: int = flags.BROADCAST) -> None:
        """Send a message to the whole mesh, or with ``flag=WHISPER`` to every neighbour.

        :param flag: how the message travels (its type on the wire). :param type: its sub-flag.
        :raises TypeError: when msgpack cannot carry an argument.
        :raises ValueTooLarge: when it would not fit into a frame.
        """
        if flag == flags.BROADCAST:
            self._broadcast(type, *args)
            return
        for link in tuple(self.routing_table.values()):
            link.send(type, *args, type=flag)

    def _broadcast(self, *payload: Any) -> Message:
        """Send ``payload`` to everyone in the mesh, once."""
        return self._broadcasts.begin(*payload)

    def send_to(self, peer: str, *args: Any) -> Deferred[None]:
        """Whisper ``args`` to a node of which only the id is known; see :meth:`ReceivedMessage.reply`."""
        return self._run(self._send_to(peer, args))

    async def _send_to(self, peer: str, args: Sequence[Any]) -> None:
        link = self.routing_table.get(peer)
        if link is None or link.closed:
            link = await self._finding.find(peer)
        link.send(flags.WHISPER, *args)

    def request_peers(self) -> None:
        """Ask every neighbour for its neighbours."""
        for link in tuple(self.routing_table.values()):
            link.ask_for_peers()

    def _may_relay(self, link: MeshConnection, message: Message) -> bool:
        """Whether this broadcast is for that peer."""
        flag = message.payload[0]
        if not link.ours and type(flag) is int and flags.HELLO <= flag <= flags.LEGACY:
            return False  # what only nodes of ours understand
        # js2p connects to whoever a response names and then uses that link without having looked whether it
        # is there, which throws and closes OUR link when it is not: it gets no responses but about ourselves.
        return link.dialect is not Dialect.STR or flag != flags.RESPONSE

    # Messages in

    def recv(self, quantity: int = 1) -> ReceivedMessage | list[ReceivedMessage] | None:
        """The oldest message received, or None; with a ``quantity``, a list of up to that many.

        A :class:`~chordtx.ChordService` and a :class:`~chordtx.SyncService` keep messages from the first call
        on, or from when somebody listens to ``message``: while nobody asks for messages, none are kept.
        """
        messages = self._inbox.read(quantity)
        if quantity == 1:
            return messages[0] if messages else None
        return messages

    def _register(self, event: str, listener: Listener | None, once: bool) -> Any:
        if event == "message":
            self._inbox.want()
        return super()._register(event, listener, once)

    def register_handler(self, handler: UserHandler) -> None:
        """Ask ``handler(message, link)`` about each message that is not the protocol's own.

        Handlers are asked in order until one returns a true value; what none takes goes to ``recv()``. A
        handler may be ``async def``: those after it are asked about this message once it has returned, and
        other messages do not wait for that. A handler that fails is logged, and has not taken the message; it
        is cancelled when the service stops.

        :raises ValueError: when it cannot be called with two arguments.
        """
        self._inbox.register(handler)

    def _message_received(self, connection: MeshConnection, message: Message) -> None:
        """A message came over an open link: handle it, and relay it if it is for everyone."""
        if message.type == flags.BROADCAST:
            self._broadcasts.received(connection, message)
        else:
            self._handle(connection, message)

    def _handle(self, connection: MeshConnection, message: Message) -> None:
        flag = message.payload[0]
        handler = self._flag_handlers.get(flag) if type(flag) is int else None
        if handler is not None:
            handler(connection, message)
            return
        received = ReceivedMessage(message, self)
        taken = self._inbox.is_taken(received, connection, message.decoded_bytes)
        if isinstance(taken, Deferred):
            taken.addCallback(self._handlers_asked, received, message.decoded_bytes)
        else:
            self._handlers_asked(taken, received, message.decoded_bytes)

    def _handlers_asked(self, is_taken: bool, received: ReceivedMessage, size_bytes: int) -> None:
        if not is_taken and received.packets[0] in (flags.BROADCAST, flags.WHISPER):
            self._inbox.keep(received, size_bytes)
            self._emit("message", self)

    def _request_received(self, connection: MeshConnection, message: Message) -> None:
        payload = message.payload
        if len(payload) == 2 and payload[1] in ("*", b"*"):
            self._exchange.asked(connection)
        elif len(payload) == 3:
            self._finding.request_received(connection, payload[1], payload[2])
        else:
            raise ProtocolError("a request is for '*', or has an id of its own and a node's")
