"""One connection's way between bytes and messages, without any I/O.

Give it what the peer sent with :meth:`Codec.receive_data`, and take messages with :meth:`Codec.next_message`
until there is none; send what :meth:`Codec.encode` returns. No Twisted, no clock.

A frame does not say whether it is compressed, or how: only the checksum shows it. Plain is tried first (our
own nodes mostly send plain, and a handshake always is), then every method that we offer.

Before the handshake is through (:meth:`Codec.greeted`) frames are short and plain, for a stranger's bytes
must cost next to nothing. After it a compressed frame may expand to a multiple of its length only: a message
that compresses better is cheap for its sender and expensive for its reader, so it has to be sent plain.
:meth:`Codec.encode` does so; a peer that does not is told by :class:`ExpandsTooMuch`.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.wire import flags
from chordtx.wire.compression import ExpandsTooMuch, compress, decompress, preference
from chordtx.wire.frame import FrameReader, frame, frame_header
from chordtx.wire.message import ID_BYTES, Message
from chordtx.wire.packing import TooMany, costs_little, scan, unpack_message

#: Of what is longer than this, a sample is compressed first: to see whether the whole is worth the time.
_SAMPLED_BYTES_MIN = 128 * 1024
_SAMPLE_BYTES = 16 * 1024
#: A sample that stays longer than this share of itself does not pay.
_WORTH_SHARE_MAX = 0.9


class Light(NamedTuple):
    """What a light frame holds: a message between two of our own nodes, without sender, time and checksum.

    :ivar flag: CALL, REPLY or GROUPS. :ivar content: a list of calls or replies; of GROUPS, bytes.
    :ivar decoded_bytes: about what it takes in memory.
    """

    flag: int
    content: object
    decoded_bytes: int


class Codec:
    """Messages of one connection, in and out.

    :param methods: compression methods that we offer, the one to be used first in front.
    :param compress_bytes_min: shorter messages are sent plain: compressing them costs more than it saves.
    :param has_greeted: False when a handshake is to come first, see :meth:`greeted`.
    """

    def __init__(
        self,
        limits: Limits,
        methods: Iterable[int] | None = None,
        compress_bytes_min: int = 1024,
        has_greeted: bool = True,
    ) -> None:
        self._limits = limits
        self._methods = preference() if methods is None else tuple(methods)
        self._compress_bytes_min = compress_bytes_min
        self._reader = FrameReader(limits.frame_bytes_max if has_greeted else limits.greeting_bytes_max)
        self._has_greeted = has_greeted
        self._send_method: int | None = None
        self._never_plain = False

    @property
    def pending_bytes(self) -> int:
        """Bytes received that no message has been made of yet."""
        return self._reader.pending_bytes

    def greeted(self, *, ours: bool = False) -> None:
        """The handshake is through: frames may be long, and compressed, from now on.

        :param ours: whether the peer is one of our own nodes, which may send light ones.
        """
        self._has_greeted = True
        self._reader.allow(self._limits.frame_bytes_max, light=ours)

    def receive_data(self, data: bytes) -> None:
        """Take what came from the peer, torn anywhere. Read all messages before giving more."""
        self._reader.receive_data(data)

    def discard(self) -> None:
        """Forget what was received: nothing more is read."""
        self._reader.discard()

    def next_received(self) -> Message | Light | None:
        """What came next, or ``None`` until more bytes come.

        :raises ExpandsTooMuch: as :meth:`next_message`. :raises ProtocolError: as there.
        """
        data = self._reader.next_frame()
        if data is None:
            return None
        return self._light(data) if self._reader.is_light else self._message(data)

    def next_message(self) -> Message | None:
        """The next message of a peer that sends no light frames, or ``None`` until more bytes come.

        :raises ExpandsTooMuch: when a compressed message costs too much for its length. The next ones can be
            read all the same.
        :raises ProtocolError: when what came is none; the connection is then of no more use.
        """
        data = self._reader.next_frame()
        return None if data is None else self._message(data)

    def _message(self, data: bytes) -> Message:
        id, body = data[:ID_BYTES], data[ID_BYTES:]
        if sha256(body).digest() == id:
            return Message.from_checked(id, body, self._limits)
        if not self._has_greeted:
            raise ProtocolError("a first message whose checksum does not match: it has to be plain")
        del body
        return self._expanded(data)

    def _light(self, data: bytes) -> Light:
        flag, body = (data[0] if data else None), data[1:]
        if flag == flags.GROUPS:
            return Light(flag, body, len(body))
        if flag == flags.CALL or flag == flags.REPLY:
            content, decoded_bytes = unpack_message(body, self._limits)
            return Light(flag, content, decoded_bytes)
        raise ProtocolError("a light frame holds calls, replies, or what groups tell")

    def peer_offers(self, methods: Iterable[object], never_plain: bool = False) -> None:
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
        return b"".join(self.encode_parts(message, plain))

    def encode_parts(self, message: Message, plain: bool = False) -> tuple[bytes, ...]:
        """As :meth:`encode`, in pieces: what is long and goes plain is not copied.

        :raises ValueTooLarge: as there.
        """
        must_fit(message, self._limits)
        body = message.body
        size_bytes = ID_BYTES + len(body)
        method = None if plain else self._send_method
        if method is not None and size_bytes < self._compress_bytes_min and not self._never_plain:
            method = None
        is_long = len(body) > _SAMPLED_BYTES_MIN and not self._never_plain
        if is_long and (method is None or not self._is_worth_it(body, method)):
            self._must_be_a_frame(size_bytes)
            return frame_header(size_bytes) + message.id, body
        if method is None:
            self._must_be_a_frame(size_bytes)
            return (frame_header(size_bytes) + message.id + body,)
        data = message.data
        data = compress(data, method) if self._never_plain else self._compressed(data, method)
        self._must_be_a_frame(len(data))
        return (frame(data),)

    def _must_be_a_frame(self, size_bytes: int) -> None:
        if size_bytes > self._limits.frame_bytes_max:
            raise _too_large(size_bytes, self._limits.frame_bytes_max)

    def _is_worth_it(self, body: bytes, method: int) -> bool:
        """Whether a sample of what is long shrinks, and not by more than the peer takes."""
        middle = len(body) // 2
        sample_bytes = len(compress(body[middle : middle + _SAMPLE_BYTES], method))
        least_bytes = _SAMPLE_BYTES // self._limits.expansion_max
        return least_bytes < sample_bytes < _SAMPLE_BYTES * _WORTH_SHARE_MAX

    def _compressed(self, data: bytes, method: int) -> bytes:
        """``data`` compressed, if that pays and the peer takes it so."""
        packed = compress(data, method)
        return packed if len(packed) < len(data) and self._may_expand(data, len(packed)) else data

    def _may_expand(self, data: bytes, sent_bytes: int) -> bool:
        """Whether the peer, whose limits are taken to be ours, would read this when it came compressed."""
        if len(data) > self._expanded_bytes_max(sent_bytes):
            return False
        body = data[ID_BYTES:]
        if costs_little(body):
            return True
        try:
            scan(body, self._limits, envelope=True, sent_bytes=sent_bytes)
        except TooMany:
            return False
        return True

    def _expanded_bytes_max(self, sent_bytes: int) -> int:
        limits = self._limits
        return min(limits.expanded_bytes_max, limits.expansion_bytes_free + limits.expansion_max * sent_bytes)

    def _expanded(self, data: bytes) -> Message:
        too_much: ExpandsTooMuch | None = None
        for method in self._methods:
            try:
                id, body = self._expanded_with(method, data)
            except ExpandsTooMuch as error:
                too_much = error
            except ProtocolError:
                continue
            else:
                return self._checked(id, body, len(data))
        raise too_much or ProtocolError("a message whose checksum does not match in any compression")

    def _expanded_with(self, method: int, data: bytes) -> tuple[bytes, bytes]:
        """Id and body. (A function of its own, so that what both were cut from is gone when it returns.)"""
        expanded = decompress(data, method, self._expanded_bytes_max(len(data)))
        body = expanded[ID_BYTES:]
        if sha256(body).digest() != expanded[:ID_BYTES]:
            raise ProtocolError("a message whose checksum does not match")
        return expanded[:ID_BYTES], body

    def _checked(self, id: bytes, body: bytes, sent_bytes: int) -> Message:
        try:
            return Message.from_checked(id, body, self._limits, sent_bytes)
        except TooMany as error:
            text = f"a message of {sent_bytes} bytes that holds {error}"
            raise ExpandsTooMuch(text, self._expanded_bytes_max(sent_bytes)) from error


def must_fit(message: Message, limits: Limits) -> None:
    """:raises ValueTooLarge: when nobody with these limits takes the message, however it is compressed."""
    size_bytes = ID_BYTES + len(message.body)
    if size_bytes > limits.expanded_bytes_max:
        raise _too_large(size_bytes, limits.expanded_bytes_max)


def _too_large(size_bytes: int, limit_bytes: int) -> ValueTooLarge:
    return ValueTooLarge(f"the message takes {size_bytes} bytes, of {limit_bytes}", size_bytes, limit_bytes)
