"""What is stored under a key."""

from __future__ import annotations

from typing import NamedTuple

from chordtx.errors import ProtocolError
from chordtx.group.rank import ARRAYS, COUNT_MAX, Rank, rank_from_wire

#: What a record takes in memory beside its key and value: tuple, rank, numbers, its place in a dict.
RECORD_OVERHEAD_BYTES = 320


class Record(NamedTuple):
    """A value and where it came from. It is replaced, never changed.

    :ivar value: in msgpack.
    :ivar expires_ms: when it is gone, in the partition's time (milliseconds since 1970); 0 for never.
    :ivar rank: of the change that wrote it: its version.
    :ivar written_ms: the partition's time then.
    """

    value: bytes
    expires_ms: int
    rank: Rank
    written_ms: int


def is_expired(record: Record | None, now_ms: int) -> bool:
    """Whether its time is over."""
    return record is not None and 0 < record.expires_ms <= now_ms


def cost_bytes(key: bytes, record: Record) -> int:
    """About what a record takes in memory."""
    return len(key) + len(record.value) + RECORD_OVERHEAD_BYTES


def record_from_wire(obj: object) -> Record:
    """:raises ProtocolError: when ``obj`` is no record."""
    if isinstance(obj, ARRAYS) and len(obj) == 4:
        value, expires, rank, written = obj
        is_typed = type(value) is bytes and type(expires) is int and type(written) is int
        if is_typed and 0 <= expires <= COUNT_MAX and 0 <= written <= COUNT_MAX:
            return Record(value, expires, rank_from_wire(rank), written)
    raise ProtocolError("a record is [value, expiry, rank, written]")
