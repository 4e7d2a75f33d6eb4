"""Messages and bytes: message and id, frames with limits, compression, flags. No I/O, no clock, no Twisted.

Data goes bytes -> frame -> message and back; :class:`Codec` holds the whole way for one connection.
"""

from __future__ import annotations

from chordtx.wire import flags
from chordtx.wire.codec import Codec, Light, must_fit
from chordtx.wire.compression import ExpandsTooMuch, compress, decompress, offered, preference
from chordtx.wire.frame import FrameReader, frame, light_frame
from chordtx.wire.identity import decode_id, encode_id, node_id, protocol_id
from chordtx.wire.message import Message
from chordtx.wire.packing import scan
from chordtx.wire.values import check_value, pack_value, unpack_value

__all__ = [
    "Codec",
    "ExpandsTooMuch",
    "FrameReader",
    "Light",
    "Message",
    "check_value",
    "compress",
    "decode_id",
    "decompress",
    "encode_id",
    "flags",
    "frame",
    "light_frame",
    "must_fit",
    "node_id",
    "offered",
    "pack_value",
    "preference",
    "protocol_id",
    "scan",
    "unpack_value",
]
