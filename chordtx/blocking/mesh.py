"""``MeshSocket``: a node of a mesh, as the old library had it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, NoReturn, Self

from attrs import define, field
from twisted.internet.defer import Deferred

from chordtx.blocking import bridge, stderr
from chordtx.errors import Stopped
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.message import ReceivedMessage
from chordtx.mesh.service import MeshService
from chordtx.wire import flags, protocol_id

_WILDCARDS = ("", "0.0.0.0", "::")
# An address for documentation (RFC 5737): nothing is sent there.
_ELSEWHERE = ("192.0.2.1", 9)


class Protocol(NamedTuple):
    """What network a socket belongs to.

    :ivar subnet: its name. :ivar encryption: ``Plaintext`` or ``SSL``.
    """

    subnet: str = "mesh"
    encryption: str = "Plaintext"

    @property
    def id(self) -> str:
        """The network's id on the wire."""
        return protocol_id(self.subnet, self.encryption)


class Message:
    """A message, as ``recv()`` and handlers give it.

    :ivar packets: ``(flag, *arguments)``. :ivar sender: id of the node that it comes from. :ivar time: whole
        seconds, UTC. :ivar id: SHA-256 of the message.
    """

    def __init__(self, received: ReceivedMessage) -> None:
        self._received = received
        self.packets, self.sender = received.packets, received.sender
        self.time, self.id = received.time, received.id

    def reply(self, *args: Any) -> None:
        """Send ``args`` to the sender, wherever it is.

        :raises chordtx.NotJoined: when nobody knows the sender.
        """
        bridge.start_only(self._received.reply, *args)

    def __repr__(self) -> str:
        return repr(self._received).replace("ReceivedMessage", "Message", 1)


class MeshSocket:
    """A node of a mesh.

    :param addr: what to listen on; ``0.0.0.0`` for all interfaces. :param port: TCP port.
    :param prot: the network. :param out_addr: ``(host, port)``, the outward address that peers are told.
        What is listened on when None; on all interfaces, the address of the one that leads out.
    :param debug_level: what this process logs on standard error while the socket is open: 1 warnings, 2 what
        happens, 3 everything. With 0 that is left to Python's ``logging`` (its logger is ``twisted``), which
        writes warnings unless it is set up in another way.
    :raises twisted.internet.error.CannotListenError: when the port is taken.
    :raises RuntimeError: in a process that was forked from one with sockets, and in the reactor's thread.
    :raises ValueError: for an address, port or encryption that makes no sense.
    :raises TypeError: for an argument of another kind.
    """

    _default = Protocol()

    def __init__(
        self,
        addr: str,
        port: int,
        prot: Protocol | None = None,
        out_addr: tuple[str, int] | None = None,
        debug_level: int = 0,
    ) -> None:
        self.protocol = self._default if prot is None else _protocol(prot)
        outward = _outward(addr, port) if out_addr is None else _host_and_port(out_addr)
        bridge.start()
        self._unlog = stderr.log.want(debug_level)
        try:
            self._service: Any = bridge.call(
                self._started, _endpoint(addr, port), outward and _text(*outward)
            )
            self._listeners = bridge.Listeners(self._service._limited_log)
            try:
                bridge.call(self._service.when_listening)
            except BaseException:
                bridge.call(self._stopped)
                raise
        except BaseException:
            self._unlog()
            raise

    def _started(self, listen: str, advertise: str | None) -> MeshService:
        service = self._make(bridge.reactor(), listen=listen, advertise=advertise, **self.protocol._asdict())
        service.recv(0)  # a socket is read from: what comes before the first time is kept, too
        service.startService()
        bridge.opened(service.stopService)
        return service

    def _stopped(self) -> Deferred[None]:
        bridge.closed(self._service.stopService)
        ended: Deferred[None] = self._service.stopService()
        return ended

    def _make(self, reactor: Any, **arguments: Any) -> MeshService:
        return MeshService(reactor, **arguments)

    # Peers

    @property
    def id(self) -> str:
        """This node's id, base58."""
        return str(self._service.id)

    @property
    def id_10(self) -> int:
        """The same as a number."""
        return int(self._service.id_10)

    @property
    def out_addr(self) -> tuple[str, int]:
        """The outward address that peers are told."""
        host, port = self._service.out_addr
        return (host, port)

    @property
    def status(self) -> dict[str, Any]:
        """This node's view of itself, fit for JSON: id, address, network, peers and so on."""
        return dict(bridge.call(lambda: self._service.status))

    @property
    def routing_table(self) -> dict[str, MeshConnection]:
        """Peer id -> the link to it, as it is just now."""
        return dict(bridge.call(lambda: dict(self._service.routing_table)))

    @property
    def awaiting_ids(self) -> list[MeshConnection]:
        """Links whose handshake is not through."""
        return list(bridge.call(lambda: list(self._service.awaiting_ids)))

    @property
    def outgoing(self) -> list[str]:
        """Ids of the peers that we connected to."""
        return list(bridge.call(lambda: list(self._service.outgoing)))

    @property
    def incoming(self) -> list[str]:
        """Ids of the peers that connected to us."""
        return list(bridge.call(lambda: list(self._service.incoming)))

    def connect(self, addr: str, port: int) -> None:
        """Connect to a node, and wait for its handshake.

        :raises chordtx.ChordError: when it is of another network.
        :raises twisted.internet.error.ConnectError: when nobody answers there.
        """
        bridge.call(self._service.connect, addr, port)

    def disconnect(self, peer: MeshConnection | str) -> None:
        """Close the link to a peer, given as the link or its id.

        :raises KeyError: when there is no link to a peer of that id.
        """
        bridge.call(self._service.disconnect, peer)

    def request_peers(self) -> None:
        """Ask every neighbour for its neighbours."""
        bridge.call(self._service.request_peers)

    # Messages

    def send(self, *args: Any, flag: int = flags.BROADCAST, type: int = flags.BROADCAST) -> None:
        """Send a message to the whole mesh, or with ``flag=flags.WHISPER`` to every neighbour.

        :raises TypeError: when msgpack cannot carry an argument.
        :raises chordtx.ValueTooLarge: when it would not fit into a frame.
        """
        bridge.call(self._service.send, *args, flag=flag, type=type)

    def recv(self, quantity: int = 1) -> Message | list[Message] | None:
        """The oldest message received, or None; with a ``quantity``, a list of up to that many."""
        received = bridge.call(self._service.recv, quantity)
        if isinstance(received, list):
            return [Message(each) for each in received]
        return None if received is None else Message(received)

    def register_handler(self, handler: Callable[[Message, MeshConnection], Any]) -> None:
        """Ask ``handler(message, link)`` about each message; one that returns a true value takes it.

        It is called in the reactor's thread, and must not wait: it may reply, and send.

        :raises ValueError: when it cannot be called with two arguments.
        """
        bridge.call(self._service.register_handler, _takes(handler))

    # Events

    def on(self, event: str, listener: Callable[..., Any] | None = None) -> Any:
        """Call ``listener`` with this socket, and what the event brings, at each ``event``; as a decorator
        too.

        :returns: the listener.
        :raises ValueError: when there is no such event. :raises TypeError: for what is no plain function.
        """
        return self._register("on", event, listener)

    def once(self, event: str, listener: Callable[..., Any] | None = None) -> Any:
        """As :meth:`on`, for the next ``event`` only."""
        return self._register("once", event, listener)

    def remove_listener(self, event: str, listener: Callable[..., Any]) -> None:
        """Forget a listener.

        :raises KeyError: when it was not registered for this event.
        :raises ValueError: when there is no such event.
        """
        bridge.call(self._service.remove_listener, event, _Listener(listener, self))

    def _register(self, method: str, event: str, listener: Callable[..., Any] | None) -> Any:
        register = getattr(self._service, method)
        if listener is None:
            bridge.call(register, event)  # only to hear whether there is such an event
            return lambda decorated: self._register(method, event, decorated)
        if not callable(listener) or iscoroutinefunction(listener):
            raise TypeError(f"a listener is called in a thread, with the event's arguments: {listener!r}")
        bridge.call(register, event, _Listener(listener, self))
        return listener

    # The end

    def close(self) -> None:
        """Leave politely, and stop. What is asked of the socket afterwards fails with
        :class:`chordtx.Stopped`.

        A socket that is open when the program ends is closed then. In a forked process this does nothing:
        the socket is open in the parent.
        """
        if bridge.is_forked():
            return
        with suppress(Stopped):  # the reactor was faster, and has closed it
            bridge.call(self._stopped)
        self._listeners.stop()
        self._unlog()

    def __repr__(self) -> str:
        host, port = self.out_addr
        return f"<{type(self).__name__} {_text(host, port)} subnet={self.protocol.subnet!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a socket cannot be copied or pickled: it is a node of a network, and each process makes its own"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@define(frozen=True)
class _Listener:
    """A listener as it is registered: has the thread of listeners call it. Two are equal when they stand for
    the same function, so that it can be removed again."""

    function: Callable[..., Any]
    sock: MeshSocket = field(eq=False, repr=False)

    def __call__(self, _: Any, *args: Any) -> None:
        self.sock._listeners.calls(self.function)(self.sock, *args)


def _takes(handler: Callable[[Message, MeshConnection], Any]) -> Callable[[ReceivedMessage, Any], Any]:
    @wraps(handler)  # so that it is known how many arguments it takes
    def takes(received: ReceivedMessage, link: MeshConnection) -> Any:
        return handler(Message(received), link)

    return takes


def _protocol(prot: Any) -> Protocol:
    if isinstance(prot, str) or not isinstance(prot, Sequence) or len(prot) != 2:
        raise TypeError(f"prot is Protocol(subnet, encryption), and not {prot!r}")
    return Protocol(*prot)


def _host_and_port(out_addr: Any) -> tuple[str, int]:
    if isinstance(out_addr, str) or not isinstance(out_addr, Sequence) or len(out_addr) != 2:
        raise TypeError(f"out_addr is (host, port), and not {out_addr!r}")
    host, port = out_addr
    return host, port


def _outward(addr: str, port: int) -> tuple[str, int] | None:
    """What peers are told where nothing is said; None for what is listened on."""
    return (_leading_out(), port) if addr in _WILDCARDS else None


def _endpoint(addr: str, port: int) -> str:
    host = addr or "0.0.0.0"
    kind = "tcp6" if ":" in host else "tcp"
    return f"{kind}:{int(port)}:interface={host.replace(':', chr(92) + ':')}"


def _text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _leading_out() -> str:
    """The address of the interface that leads out of this machine; the loopback's where none does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            host: str = probe.getsockname()[0]
        except OSError:
            host = "127.0.0.1"
    return host
