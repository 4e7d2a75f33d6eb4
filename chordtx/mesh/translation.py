"""One broadcast in both dialects.

A message's sender is part of it, and py2p writes it as bin, js2p as str. js2p can reply only to a sender in
its own dialect, so a broadcast reaches each legacy peer in that peer's. Both forms are one message: what it
is known by, here, is the id of the form in bin.
"""

from __future__ import annotations

from chordtx.mesh.handshake import Dialect
from chordtx.wire import Message


def in_dialect(message: Message, dialect: Dialect) -> Message:
    """The message with its sender as ``dialect`` writes it: itself, byte for byte, where that is so already.

    A sender that no dialect can write stays as it is.
    """
    if isinstance(message.sender, bytes) == (dialect is Dialect.BIN) or not message.sender.isascii():
        return message
    return Message.build(message.type, dialect.text(message.sender_text), message.time, message.payload)


def broadcast_id(message: Message) -> bytes:
    """What a broadcast is known by, whichever dialect it came in."""
    return message.id if isinstance(message.sender, bytes) else in_dialect(message, Dialect.BIN).id
