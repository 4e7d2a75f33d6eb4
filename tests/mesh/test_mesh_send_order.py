"""What a link sends reaches the socket in the order in which it was sent, long and short."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

from chordtx.mesh.pool import Pool
from chordtx.mesh.send_buffer import SendBuffer

PIECE_BYTES = 128 * 1024


class Writers:
    """A reactor, as far as a connection that only writes needs one."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)


class Eager:
    """A link that sends something short as soon as the transport takes data again, as answers may be."""

    is_member = False

    def __init__(self, ours: socket.socket) -> None:
        self.reactor = Writers()
        self.connection = Connection(ours, Protocol(), self.reactor)
        self.connection.connected = 1
        self.buffer = SendBuffer(1 << 30, Pool(1 << 30), lambda: 0.0, self)
        self.buffer.attach(self.connection)
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.buffer.write(data)

    def sent_on(self) -> None:
        if len(self.sent) < 200:
            self.send(b"short %d;" % len(self.sent))

    def overflowed(self) -> None:
        raise AssertionError("nothing is that large")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection that takes little at a time."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("size_bytes", [10, PIECE_BYTES, PIECE_BYTES + 10, 3 * PIECE_BYTES + 40_000])
def test_what_is_short_never_overtakes_the_end_of_what_is_long(
    pair: tuple[socket.socket, socket.socket], size_bytes: int
) -> None:
    ours, theirs = pair
    link = Eager(ours)
    for number in range(5):
        link.send(bytes([number]) * size_bytes)
        link.send(b"between;")
    received = bytearray()
    while link.reactor.writers:
        link.connection.doWrite()
        with suppress(BlockingIOError):
            received += theirs.recv(1 << 20)
    with suppress(BlockingIOError):
        while True:
            received += theirs.recv(1 << 20)
    assert received == b"".join(link.sent)
    assert link.buffer.waiting_bytes == 0
