"""The handshake of one link, as a machine without I/O.

Why it is more than two messages: py2p writes ids as msgpack bin and drops a peer that sends str;
js2p writes str and files a link under the very object it got. Each must be spoken to in its own
dialect from the first byte on, and both speak first, whichever side connected. So our node says
nothing in either dialect before it knows to whom:

1. The accepting side sends ``hello`` at once: a sub-flag that legacy peers ignore, so it binds to nothing.
2. The connecting side waits for the first message. ``hello``: a node of ours; it answers with its own
   ``hello`` and its handshake in bin. A handshake: a legacy peer, which is answered in its dialect.
3. The accepting side likewise: a handshake as the first message comes from a legacy peer, and is answered in
   its dialect; after a ``hello`` comes the handshake of a node of ours, answered in bin.

So between our own nodes a link is up after two round trips, and with a legacy peer after one. This module
must not know Twisted, clocks or sockets.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, frozen
from automat import TypeMachineBuilder

from chordtx.errors import ProtocolError, WrongSubnet
from chordtx.mesh.address import Address
from chordtx.wire import Message, decode_id, encode_id, flags

#: 2: we read light frames. A peer with another number is a node of ours too, and gets what it reads.
EXTENSION_VERSION = 2
_READS_LIGHT_FRAMES = 2
_METHODS_MAX = 64
_PROTOCOL_ID_CHARACTERS_MAX = 64


class Dialect(enum.Enum):
    """How a peer writes ids, protocol ids and method names."""

    BIN = "bin"  # py2p, and our own nodes
    STR = "str"  # js2p

    def text(self, value: str) -> bytes | str:
        """``value`` as this dialect writes it."""
        return value.encode("ascii") if self is Dialect.BIN else value


@frozen
class Greeting:
    """What a handshake says.

    :ivar id: base58 node id. :ivar protocol_id: base58 id of the subnet. :ivar address: outward address.
    :ivar methods: compression methods that the sender reads. :ivar dialect: how it wrote them.
    """

    id: str
    id_10: int
    protocol_id: str
    address: Address
    methods: tuple[int, ...]
    dialect: Dialect

    @classmethod
    def from_message(cls, message: Message) -> Greeting:
        """Read the payload ``[5, id, protocol id, [addr, port], [methods]]``.

        :raises ProtocolError: when any field is not what it should be.
        """
        _, node_id, protocol_id, address, methods = message.payload
        dialect = Dialect.BIN if isinstance(node_id, bytes) else Dialect.STR
        text = as_text(node_id)
        subnet = as_text(protocol_id)
        if len(subnet) > _PROTOCOL_ID_CHARACTERS_MAX:
            raise ProtocolError("a protocol id is too long")
        number = number_of_id(text)
        return cls(text, number, subnet, Address.from_wire(address), methods_from_wire(methods), dialect)


def number_of_id(text: str) -> int:
    """The number of a node id, which there is but one way to write.

    :raises ProtocolError: when it is none, or is written in another way: one node would count as two.
    """
    number = decode_id(text, bits_max=384)
    if encode_id(number) != text:
        raise ProtocolError("a node id that is padded")
    return number


def methods_from_wire(value: Any) -> tuple[int, ...]:
    """A list of compression methods as a peer sent it, known or not.

    :raises ProtocolError: when it is no such list.
    """
    if not isinstance(value, list) or len(value) > _METHODS_MAX:
        raise ProtocolError("compression methods come as a list")
    if not all(type(method) is int for method in value):
        raise ProtocolError("a compression method is a number")
    return tuple(value)


def as_text(value: Any) -> str:
    """An id, which either dialect may have written, as str.

    :raises ProtocolError: when it is neither bytes nor str, or not ASCII.
    """
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if not isinstance(value, str) or not value.isascii():
        raise ProtocolError("an id is neither bytes nor text")
    return value


class SameId(ProtocolError):
    """Somebody else says that it has our id: a copy of what makes us who we are, if it does not lie."""


class _Inputs(Protocol):
    def connected(self) -> None:
        """The transport is up."""

    def hello_received(self, version: int) -> None:
        """The peer is one of our own nodes."""

    def greeting_received(self, greeting: Greeting) -> None:
        """The peer's handshake came."""


@define
class _Core:
    our_id: str
    our_address: Address
    protocol_id: str
    outgoing: bool
    send_hello: Callable[[], None]
    send_handshake: Callable[[Dialect], None]
    opened: Callable[[Greeting, bool], None]
    refused: Callable[[Exception], None]


def _build() -> Callable[[_Core], _Inputs]:
    machine = TypeMachineBuilder(_Inputs, _Core)

    # The transport is not up yet.
    idle = machine.state("idle")
    # We have sent no handshake, and received nothing.
    listening = machine.state("listening")
    # The peer is one of our own nodes, and its handshake is on its way.
    greeting_ours = machine.state("greeting_ours")
    # Both handshakes are through, or one side was refused.
    done = machine.state("done")

    @_upon(idle, _Inputs.connected, listening)
    def connected(_: _Inputs, core: _Core) -> None:
        if not core.outgoing:
            core.send_hello()

    @_upon(listening, _Inputs.hello_received, greeting_ours)
    def hello_received(_: _Inputs, core: _Core, version: int) -> None:
        if core.outgoing:
            core.send_hello()
            core.send_handshake(Dialect.BIN)

    @_upon(listening, _Inputs.greeting_received, done)
    def legacy_peer_greeted(_: _Inputs, core: _Core, greeting: Greeting) -> None:
        core.send_handshake(greeting.dialect)
        _finish(core, greeting, ours=False)

    @_upon(greeting_ours, _Inputs.greeting_received, done)
    def our_node_greeted(_: _Inputs, core: _Core, greeting: Greeting) -> None:
        if not core.outgoing:
            core.send_handshake(Dialect.BIN)
        _finish(core, greeting, ours=True)

    return machine.build()


def _upon(state: Any, trigger: Any, then: Any) -> Callable[[Callable[..., None]], Any]:
    """A transition from ``state`` upon ``trigger`` to ``then``, with the decorated function as its output."""
    decorator: Callable[[Callable[..., None]], Any] = state.upon(trigger).to(then)
    return decorator


def _finish(core: _Core, greeting: Greeting, ours: bool) -> None:
    if greeting.protocol_id != core.protocol_id:
        core.refused(
            WrongSubnet(
                f"the peer is of another network: its protocol id is {greeting.protocol_id},"
                f" ours {core.protocol_id} (subnet and encryption must be the same)",
                ours=core.protocol_id,
                theirs=greeting.protocol_id,
            )
        )
    elif greeting.id == core.our_id and greeting.address == core.our_address:
        core.refused(ProtocolError("this is a connection to ourselves"))
    elif greeting.id == core.our_id:
        core.refused(SameId(f"another process with this node's id runs at {greeting.address}"))
    else:
        core.opened(greeting, ours)


_machine = _build()


class Handshake:
    """The handshake of one link; see the module's text for its course.

    :param our_address: what we tell others. :param outgoing: whether our side connected.
    :param send_hello: sends ``hello``. :param send_handshake: sends our handshake in the given dialect.
    :param opened: called once with the peer's greeting and whether it is one of our own nodes.
    :param refused: called once with the reason, when the peer must go.
    :ivar peer_reads_light: whether the peer is a node of ours that reads light frames.
    """

    def __init__(
        self,
        our_id: str,
        our_address: Address,
        protocol_id: str,
        outgoing: bool,
        send_hello: Callable[[], None],
        send_handshake: Callable[[Dialect], None],
        opened: Callable[[Greeting, bool], None],
        refused: Callable[[Exception], None],
    ) -> None:
        core = _Core(our_id, our_address, protocol_id, outgoing, send_hello, send_handshake, opened, refused)
        self._inputs = _machine(core)
        self._ours = False
        self.peer_reads_light = False

    def connected(self) -> None:
        """The transport is up."""
        self._inputs.connected()

    def message_received(self, message: Message) -> None:
        """Take one message in, before the link is open.

        :raises ProtocolError: when it is none of the handshake.
        """
        payload = message.payload
        if payload[0] == flags.HELLO and len(payload) >= 2 and type(payload[1]) is int and not self._ours:
            self._ours = True
            self.peer_reads_light = payload[1] >= _READS_LIGHT_FRAMES
            self._inputs.hello_received(payload[1])
        elif payload[0] == flags.HANDSHAKE and len(payload) == 5:
            self._inputs.greeting_received(Greeting.from_message(message))
        else:
            raise ProtocolError("a link must begin with a handshake")
