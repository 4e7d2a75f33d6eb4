"""Strangers without sockets: links of a live service whose peer says whatever a seed makes it say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import msgpack
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.mesh import Dialect, MeshConnection, MeshService
from chordtx.wire import Message, compression, encode_id, flags, preference
from chordtx.wire.frame import FrameReader, frame

KINDS = ("bin", "str", "ours")
#: What stands where something else should. Each is something that msgpack carries.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 255, 2**31, 2**63 - 1, 2**64 - 1, -(2**63)),
    *(0.5, float("nan"), float("inf")),
    *("", "*", "0", "1", "x", "é", "\0", "z" * 300, "1" * 65, "sha1", "sha512", "ping", "write", "del"),
    *(b"", b"*", b"0", b"1", b"\xff\xfe", b"z" * 300, b"x" * 47, b"x" * 48, b"x" * 49, b"sha1", b"del"),
    bytes(70_000),
    *([], [[]], [None], [[], []], ["127.0.0.1", 0], ["127.0.0.1", 1], [b"127.0.0.1", "1"], [0] * 500),
    *([[["127.0.0.1", 1], b"2"]], [1, "ping"], [[1, "ping"]]),
    *({}, {"a": 1}, {b"a": {"b": []}}, {1: 2}, {None: None}, {"type": "ping"}),
    *(msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"), msgpack.ExtType(127, b"")),
)


class Stranger:
    """A peer of a service on a transport that goes nowhere.

    :ivar link: the service's end. :ivar gone: whether the service has ended the link.
    """

    def __init__(self, node: MeshService, kind: str, rng: Random) -> None:
        self.node = node
        self.kind = kind
        self.dialect = Dialect.STR if kind == "str" else Dialect.BIN
        self.id = encode_id(rng.getrandbits(384))
        self.transport = _Transport()
        link = node._factory.buildProtocol(None)
        assert link is not None
        self.link: MeshConnection = link
        self.transport.protocol = link
        link.makeConnection(self.transport)
        self._frames = FrameReader(Limits().frame_bytes_max)

    @property
    def gone(self) -> bool:
        """Whether the service has ended the link."""
        return self.link.closed

    def data(self, *payload: Any, type: int = flags.WHISPER) -> bytes:
        """The bytes of a message."""
        sender = self.dialect.text(self.id)
        now = self.node._now_whole_seconds()
        return frame(Message.build(type, sender, now, payload).data)

    def say(self, *payload: Any, type: int = flags.WHISPER) -> None:
        """Say something well formed as a message."""
        self.write(self.data(*payload, type=type))

    def write(self, data: bytes) -> None:
        """Say some bytes."""
        if not self.gone:
            self.link.dataReceived(data)
        if self.gone:
            self.end()

    def greet(self) -> None:
        """Shake hands."""
        text = self.dialect.text
        if self.kind == "ours":
            self.say(flags.HELLO, 1)
        self.say(flags.HANDSHAKE, text(self.id), text(self.node._protocol_id), ["127.0.0.1", 0], [])
        assert not self.gone

    def heard(self) -> list[Message]:
        """What the service said since. (As legacy peers do: whatever it was expanded from.)"""
        self._frames.receive_data(self.transport.value())
        self.transport.clear()
        return [_read(data) for data in iter(self._frames.next_frame, None)]

    def end(self) -> None:
        """The link is gone."""
        self.transport.end()


def _read(data: bytes) -> Message:
    for expand in (_as_it_is, *(partial(_expand, method) for method in preference())):
        with suppress(ProtocolError):
            return Message.parse(expand(data), Limits())
    raise AssertionError("the service said something that nobody can read")


def _as_it_is(data: bytes) -> bytes:
    return data


def _expand(method: int, data: bytes) -> bytes:
    return compression.decompress(data, method, Limits().expanded_bytes_max)


class _Transport(StringTransport):
    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None

    def setTcpNoDelay(self, enabled: bool) -> None:
        """As that of a socket."""

    def abortConnection(self) -> None:
        super().abortConnection()
        self.end()

    def end(self) -> None:
        """Tell the protocol, once."""
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionLost()))


def odd_value(rng: Random, depth: int = 2) -> Any:
    """Something, now and then with something in it."""
    if depth and rng.random() < 0.3:
        return [odd_value(rng, depth - 1) for _ in range(rng.randrange(5))]
    return rng.choice(ODD)


def odd_payloads(rng: Random, known: list[int], count: int) -> Iterator[tuple[Any, ...]]:
    """Payloads of the known sub-flags and of others, with anything as arguments."""
    for _ in range(count):
        flag = rng.choice(known) if rng.random() < 0.9 else odd_value(rng)
        yield (flag, *(odd_value(rng) for _ in range(rng.randrange(6))))


def mutated(payload: tuple[Any, ...], rng: Random) -> tuple[Any, ...]:
    """A payload with one thing in it changed, dropped or doubled."""
    entries: list[Any] = list(payload)
    place = rng.randrange(1, len(entries)) if len(entries) > 1 else 0
    what = rng.randrange(4)
    if what == 0 and place:
        del entries[place]
    elif what == 1:
        entries.insert(place, entries[place])
    elif what == 2 and isinstance(entries[place], list) and entries[place]:
        entries[place] = [*mutated((None, *entries[place]), rng)[1:]]
    elif place:
        entries[place] = odd_value(rng)
    return tuple(entries)


def broken_bytes(data: bytes, rng: Random) -> bytes:
    """A frame with some of its bytes changed, cut out or put in."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(changed)) if changed else 0
        what = rng.randrange(4)
        if what == 0 and changed:
            changed[place] = rng.randrange(256)
        elif what == 1:
            del changed[place : place + rng.randrange(1, 9)]
        elif what == 2:
            changed[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            del changed[place:]
    return bytes(changed)


def broken_body(data: bytes, rng: Random) -> bytes:
    """A frame whose message is broken, and whose length and checksum are right."""
    from hashlib import sha256

    body = broken_bytes(data[36:], rng)
    return frame(sha256(body).digest() + body)
