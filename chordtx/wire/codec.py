"""One connection's way between bytes and messages, without any I/O.

Give it what the peer sent with :meth:`Codec.receive_data`, and take messages with :meth:`Codec.next_message`
until there is none; send what :meth:`Codec.encode` returns. No Twisted, no clock.

A frame does not say whether it is compressed, or how: only the checksum shows it. Plain is tried first (our
own nodes mostly send plain, and a handshake always is), then every method that we offer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Any

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.wire.compression import compress, pieces, preference
from chordtx.wire.frame import FrameReader, frame
from chordtx.wire.message import ID_BYTES, Message, checksum_holds
from chordtx.wire.packing import scan_head

#: First bytes of an array of four entries or more, which a body is.
_BODY_HEADS = frozenset([*range(0x94, 0xA0), 0xDC, 0xDD])
#: Of compressed data, so much is kept before its checksum is known to be right.
HEAD_BYTES_MIN = 256 * 1024


class Codec:
    """Messages of one connection, in and out.

    :param methods: compression methods that we offer, the one to be used first in front.
    :param compress_bytes_min: shorter messages are sent plain: compressing them costs more than it saves.
    """

    def __init__(
        self, limits: Limits, methods: Iterable[int] | None = None, compress_bytes_min: int = 1024
    ) -> None:
        self._limits = limits
        self._methods = preference() if methods is None else tuple(methods)
        self._compress_bytes_min = compress_bytes_min
        self._reader = FrameReader(limits)
        self._send_method: int | None = None
        self._never_plain = False

    @property
    def pending_bytes(self) -> int:
        """Bytes received that no message has been made of yet."""
        return self._reader.pending_bytes

    def receive_data(self, data: bytes) -> None:
        """Take what came from the peer, torn anywhere. Read all messages before giving more."""
        self._reader.receive_data(data)

    def next_message(self) -> Message | None:
        """The next message, or ``None`` until more bytes come.

        :raises ProtocolError: when what came is none; the connection is then of no more use.
        """
        data = self._reader.next_frame()
        if data is None:
            return None
        return Message.from_checked(data if checksum_holds(data) else self._expand(data), self._limits)

    def peer_offers(self, methods: Iterable[Any], never_plain: bool = False) -> None:
        """The peer named, in its handshake or to renegotiate, what it takes; unknown numbers are ignored.

        :param never_plain: whatever its length, and whether it pays or not, what is sent to this peer is
            compressed. js2p expands what it gets before it looks at the checksum, and on one plain message in
            some thousands, whose first bytes look like a zlib stream, its zlib goes on for ever.
        """
        self._never_plain = never_plain
        offered = {method for method in methods if type(method) is int}
        self._send_method = next((method for method in self._methods if method in offered), None)

    def encode(self, message: Message, plain: bool = False) -> bytes:
        """The bytes to send, compressed when the peer can take it and it pays.

        :param plain: never compress; the first messages of a connection must not be.
        :raises ValueTooLarge: when it would pass the limits, which the peer's are taken to be too.
        """
        must_fit(message, self._limits)
        data = message.data
        if not plain and self._send_method is not None:
            if self._never_plain:
                data = compress(data, self._send_method)
            elif len(data) >= self._compress_bytes_min:
                data = min(compress(data, self._send_method), data, key=len)
        if len(data) > self._limits.frame_bytes_max:
            raise _too_large(len(data), self._limits.frame_bytes_max)
        return frame(data)

    def _expand(self, data: bytes) -> bytes:
        for method in self._methods:
            try:
                return self._expand_with(method, data)
            except ProtocolError:
                continue
        raise ProtocolError("a message whose checksum does not match in any compression")

    def _expand_with(self, method: int, data: bytes) -> bytes:
        """What is longer than its head is expanded twice: for its checksum, keeping nothing, then to be kept.

        So a bomb costs its head, whatever it expands to; and one with a right checksum still has to begin as
        a message within the limits does.
        """
        found = self._pieces(method, data)
        head, is_all = _head_of(found)
        if len(head) <= ID_BYTES or head[ID_BYTES] not in _BODY_HEADS:
            raise ProtocolError("compressed data that is no message")
        if not is_all:
            scan_head(head[ID_BYTES:], self._limits.expanded_bytes_max, self._limits)
        if _sha256(chain([head[ID_BYTES:]], found)) != head[:ID_BYTES]:
            raise ProtocolError("a message whose checksum does not match")
        return head if is_all else b"".join(self._pieces(method, data))

    def _pieces(self, method: int, data: bytes) -> Iterator[bytes]:
        return pieces(data, method, self._limits.expanded_bytes_max)


def _head_of(found: Iterator[bytes]) -> tuple[bytes, bool]:
    """A little over :data:`HEAD_BYTES_MIN`, or all when that is less; and whether it is all."""
    head = bytearray()
    for piece in found:
        head += piece
        if len(head) >= HEAD_BYTES_MIN:
            return bytes(head), False
    return bytes(head), True


def _sha256(found: Iterable[bytes]) -> bytes:
    digest = sha256()
    for piece in found:
        digest.update(piece)
    return digest.digest()


def must_fit(message: Message, limits: Limits) -> None:
    """:raises ValueTooLarge: when nobody with these limits takes the message, however it is compressed."""
    size_bytes = ID_BYTES + len(message.body)
    if size_bytes > limits.expanded_bytes_max:
        raise _too_large(size_bytes, limits.expanded_bytes_max)


def _too_large(size_bytes: int, limit_bytes: int) -> ValueTooLarge:
    return ValueTooLarge(f"the message takes {size_bytes} bytes, of {limit_bytes}", size_bytes, limit_bytes)
