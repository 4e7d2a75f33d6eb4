"""``MeshService`` for asyncio: a node of a mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from random import Random
from typing import Any, Self
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamServerEndpoint

from chordtx.aio.bridge import awaited, call_soon, plain, result_of
from chordtx.aio.links import Link, Message
from chordtx.aio.listeners import Events, Listener, begun
from chordtx.aio.reactor import LoopReactor, attached
from chordtx.config import MeshSettings
from chordtx.mesh import service as twisted_mesh
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.message import ReceivedMessage

Handler = Callable[[Message, Link], Any]


class Base:
    """What the services have in common. To be made and used while a loop runs."""

    _service: twisted_mesh.MeshService

    def __init__(self, kind: Callable[..., twisted_mesh.MeshService], **arguments: Any) -> None:
        self._reactor: Any = attached()
        self._loop = asyncio.get_running_loop()
        self._service = kind(self._reactor, **arguments)
        self._iterators: WeakSet[Events] = WeakSet()

    # Its life

    def start(self) -> None:
        """Listen, and connect to the peers that were given. ``async with`` does this, and the rest.

        :raises RuntimeError: while nodes run on another loop of this process.
        """
        attached()
        self._loop = asyncio.get_running_loop()
        if isinstance(self._reactor, LoopReactor):
            self._reactor.begin(self)
        self._service.startService()

    async def stop(self) -> None:
        """Leave, close the port and every link. When the task is cancelled meanwhile, that goes on."""
        self._must_be_on_loop()
        stopped: Deferred[None] = Deferred()
        self._service.stopService().addBoth(self._stopped).addBoth(stopped.callback)
        await result_of(stopped)

    def _stopped(self, outcome: Any) -> Any:
        for iterator in tuple(self._iterators):
            iterator.close()
        is_over = self._service._life.refusal is not None  # else it is to start again at once
        if is_over and isinstance(self._reactor, LoopReactor):
            self._reactor.end(self)
        return outcome

    async def __aenter__(self) -> Self:
        """Start, and wait until it can be used. When that fails it is stopped, and the reason raised."""
        self.start()
        try:
            await self.when_joined()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.stop()

    def _must_be_on_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(f"{self!r} is of another event loop: use it there, or start it here")

    def _call_soon(self, work: Callable[[], object]) -> None:
        call_soon(self._loop, work)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._service.id[:8]}>"

    when_listening = awaited(twisted_mesh.MeshService.when_listening)
    when_joined = awaited(twisted_mesh.MeshService.when_joined)

    # What it is

    @property
    def id(self) -> str:
        """This node's id, base58. (One without a data folder has another one after each start.)"""
        return self._service.id

    @property
    def id_10(self) -> int:
        """The same as a number."""
        return self._service.id_10

    @property
    def subnet(self) -> str:
        """The network's name."""
        return self._service.subnet

    @property
    def encryption(self) -> str:
        """``Plaintext`` or ``SSL``."""
        return self._service.encryption

    @property
    def settings(self) -> MeshSettings:
        """Limits and times of its links."""
        return self._service.settings

    @property
    def protocol(self) -> tuple[str, str]:
        """``(subnet, encryption)``. (A synchronized dict's subnet ends with ``1`` where keys are leased, else
        with ``0``.)"""
        return self._service.protocol

    @property
    def out_addr(self) -> tuple[str, int]:
        """The outward address as ``(host, port)``."""
        return self._service.out_addr

    @property
    def status(self) -> dict[str, Any]:
        """This node's view, fit for JSON: id, address, network, peers and so on."""
        return self._service.status

    # Links

    @property
    def routing_table(self) -> dict[str, Link]:
        """Peer id -> the link to it, as it is just now."""
        return {peer: Link(link) for peer, link in self._service.routing_table.items()}

    @property
    def awaiting_ids(self) -> list[Link]:
        """Links whose handshake is not through."""
        return [Link(link) for link in self._service.awaiting_ids]

    @property
    def outgoing(self) -> Iterator[str]:
        """Ids of the peers that we connected to."""
        return self._service.outgoing

    @property
    def incoming(self) -> Iterator[str]:
        """Ids of the peers that connected to us."""
        return self._service.incoming

    async def connect(self, host: str, port: int) -> Link:
        """Connect to a node.

        :returns: the link when its handshake is through (at once when there is one already).
        :raises chordtx.ChordError: when nobody is reached there.
        :raises ValueError: for an address that makes no sense.
        """
        self._must_be_on_loop()
        return Link(await result_of(self._service.connect(host, port)))

    def disconnect(self, peer: Link | str) -> None:
        """Close the link to a peer, given as the link or its id.

        :raises KeyError: when there is no link to a peer of that id.
        """
        self._service.disconnect(peer._connection if isinstance(peer, Link) else peer)

    # Messages

    send = plain(twisted_mesh.MeshService.send)
    send_to = awaited(twisted_mesh.MeshService.send_to)
    request_peers = plain(twisted_mesh.MeshService.request_peers)

    def recv(self, quantity: int = 1) -> Message | list[Message] | None:
        """The oldest message received, or None; with a ``quantity``, a list of up to that many.

        A :class:`ChordService` and a :class:`SyncService` keep messages from the first call on, or from when
        somebody listens to ``message``: while nobody asks for messages, none are kept.
        """
        received = self._service.recv(quantity)
        if isinstance(received, list):
            return [Message(each) for each in received]
        return None if received is None else Message(received)

    def register_handler(self, handler: Handler) -> None:
        """Ask ``handler(message, link)`` about each message that is not the protocol's own.

        Handlers are asked in order until one returns a true value; what none takes goes to ``recv()``. A
        handler may be ``async def``: others are asked once it has answered.

        :raises ValueError: when it cannot be called with two arguments.
        """

        @wraps(handler)  # so that it is known how many arguments it takes
        def takes(received: ReceivedMessage, link: MeshConnection) -> Any:
            return begun(handler(Message(received), Link(link)))

        self._service.register_handler(takes)

    # Events

    def on(self, event: str, listener: Callable[..., Any] | None = None) -> Any:
        """Call ``listener`` with this node, and what the event tells, at each ``event``; without a
        listener, a decorator that does.

        A listener may be ``async def``: it runs as a task of the loop, for one event at a time, in their
        order. Its failure is logged, and it is cancelled when the node stops.

        :returns: the listener, so that it can be removed later.
        :raises ValueError: when there is no such event. :raises TypeError: when it cannot be called.
        """
        return self._register(self._service.on, event, listener)

    def once(self, event: str, listener: Callable[..., Any] | None = None) -> Any:
        """As :meth:`on`, for the next ``event`` only."""
        return self._register(self._service.once, event, listener)

    def remove_listener(self, event: str, listener: Callable[..., Any]) -> None:
        """Forget a listener; what it is busy with goes on.

        :raises KeyError: when it was not registered for this event.
        :raises ValueError: when there is no such event.
        """
        self._service.remove_listener(event, Listener(listener, self))

    def events(self, *names: str) -> Events:
        """Events from now on, as ``async for name, *told in node.events("connect"):`` gives them.

        :param names: of those that are wanted; see :meth:`on`. :raises ValueError: when there is no such
            event.
        """
        iterator = Events(self._service, names, self._service._limited_log)
        self._iterators.add(iterator)
        return iterator

    def _register(self, register: Callable[..., Any], event: str, listener: Callable[..., Any] | None) -> Any:
        if listener is None:
            register(event)  # only to hear whether there is such an event
            return lambda decorated: self._register(register, event, decorated)
        register(event, Listener(listener, self) if callable(listener) else listener)
        return listener


class MeshService(Base):
    """A node of a mesh network.

    ``async with MeshService(...) as node:`` starts it, waits until it can be used, and stops it at the end.
    To be made while a loop runs. The parameters are those of :class:`chordtx.MeshService`, but for the
    reactor.

    :raises RuntimeError: when no loop runs, or when something else has installed a reactor of Twisted's
        that is not on the loop; the text says what to do.
    """

    def __init__(
        self,
        listen: str | IStreamServerEndpoint | None = None,
        advertise: str | None = None,
        peers: Iterable[str] = (),
        subnet: str = "mesh",
        encryption: str = "Plaintext",
        settings: MeshSettings | None = None,
        rng: Random | None = None,
        wall_clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(
            twisted_mesh.MeshService,
            listen=listen,
            advertise=advertise,
            peers=peers,
            subnet=subnet,
            encryption=encryption,
            settings=settings,
            rng=rng,
            wall_clock=wall_clock,
        )
