"""What is stored as bytes on the disk: with a checksum over itself and what it is stored under."""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgpack

from chordtx.errors import ChordError, ProtocolError
from chordtx.records import Record

_CHECKSUM = Struct(">I")


class Damaged(ChordError):
    """These bytes are not what was written for this key."""


def packed_of(record: Record) -> bytes:
    """The record's wire form in msgpack."""
    packed: bytes = msgpack.packb(record.to_wire())
    return packed


def packed_in(stored: bytes) -> bytes:
    """The same, out of what :func:`to_stored` gave; nothing is checked."""
    return stored[_CHECKSUM.size :]


def with_checksum(packed: bytes, seed: int) -> bytes:
    """These bytes as :func:`checked` reads them. :param seed: a checksum of what they are stored under."""
    return _CHECKSUM.pack(crc32(packed, seed)) + packed


def checked(stored: object, seed: int) -> bytes:
    """What was given to :func:`with_checksum`, with the same ``seed``.

    :raises Damaged: when a bit of it has changed since.
    """
    if not isinstance(stored, bytes) or len(stored) < _CHECKSUM.size:
        raise Damaged("what is stored is cut short")
    packed = stored[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(stored)[0] != crc32(packed, seed):
        raise Damaged("what is stored does not match its checksum")
    return packed


def to_stored(key: bytes, record: Record) -> bytes:
    """The record as :func:`from_stored` reads it."""
    return with_checksum(packed_of(record), crc32(key))


def from_stored(key: bytes, stored: object) -> Record:
    """The record that was stored under ``key``.

    :raises Damaged: when a bit of it, or of the key, has changed since.
    """
    packed = checked(stored, crc32(key))
    try:
        return Record.from_wire(msgpack.unpackb(packed))
    except (ProtocolError, ValueError, msgpack.UnpackException) as error:
        raise Damaged(f"a stored record is no record: {error}") from error
