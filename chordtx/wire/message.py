"""A message: the msgpack array ``[type, sender, time, *payload]``, known by the SHA-256 of its bytes.

A message keeps the bytes that it came in: a relayed broadcast must go on byte for byte, and packing it anew
need not give the same ones. Pure values; the time is given.

Source: the p2p-project 0.7 protocol, "Message and frame".
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from attrs import field, frozen

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.wire.packing import pack, unpack_message

#: Length of an id, which is the checksum too.
ID_BYTES = 32
#: Entries before the payload: type, sender, time.
_HEAD_ENTRIES = 3


@frozen
class Message:
    """Two are equal when their bytes are.

    :ivar type: 0 broadcast, 1 renegotiate, 2 whisper; a peer may send any other integer.
    :ivar sender: base58 text of the origin's id, in the type that it came in (the two dialects differ).
    :ivar time: whole seconds, UTC Unix time, by the origin's clock.
    :ivar payload: sub-flag and its arguments, at least one entry; a peer may send anything in each.
    :ivar body: the msgpack array.
    :ivar id: SHA-256 of the body, 32 bytes.
    :ivar decoded_bytes: about what it takes in memory. (Of a message of our own: the length of its body.)
    """

    type: int = field(eq=False)
    sender: bytes | str = field(eq=False)
    time: int = field(eq=False)
    payload: tuple[object, ...] = field(eq=False)
    body: bytes = field(eq=False, repr=False)
    id: bytes = field(repr=False)
    decoded_bytes: int = field(eq=False, repr=False)

    @classmethod
    def build(cls, type: int, sender: bytes | str, time: int, payload: Iterable[object]) -> Message:
        """A message of our own.

        :raises TypeError: when msgpack cannot carry the payload.
        """
        payload = tuple(payload)
        body = pack((type, sender, time, *payload))
        return cls(type, sender, time, payload, body, sha256(body).digest(), len(body))

    @classmethod
    def parse(cls, data: bytes, limits: Limits) -> Message:
        """The message in ``data``, id and body.

        :raises ProtocolError: when the checksum is wrong, the body is no message, or it passes a limit.
        """
        body = data[ID_BYTES:]
        if sha256(body).digest() != data[:ID_BYTES]:
            raise ProtocolError("a message whose checksum does not match")
        return cls.from_checked(data[:ID_BYTES], body, limits)

    @classmethod
    def from_checked(cls, id: bytes, body: bytes, limits: Limits, sent_bytes: int | None = None) -> Message:
        """As :meth:`parse`, for who has compared the checksum.

        :param sent_bytes: what the peer sent for it, when it came compressed.
        """
        entries, decoded_bytes = unpack_message(body, limits, sent_bytes)
        # The exact type, because a bool is an int too.
        if type(entries) is not list or len(entries) <= _HEAD_ENTRIES:
            raise ProtocolError("a message that is no array of four entries or more")
        kind, sender, time = entries[:_HEAD_ENTRIES]
        if type(kind) is not int or type(sender) not in (bytes, str) or type(time) is not int:
            raise ProtocolError("a message whose type, sender or time is of the wrong kind")
        return cls(kind, sender, time, tuple(entries[_HEAD_ENTRIES:]), body, id, decoded_bytes)

    @property
    def data(self) -> bytes:
        """Id and body: what a frame holds."""
        return self.id + self.body

    @property
    def sender_text(self) -> str:
        """The sender's id as text, whichever type it came in; bytes that are no text come escaped."""
        return (
            self.sender if isinstance(self.sender, str) else self.sender.decode("utf-8", "backslashreplace")
        )
