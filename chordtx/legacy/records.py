"""Records, read and written on behalf of legacy peers."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group import operations
from chordtx.group.messages import Answer
from chordtx.group.rank import Rank
from chordtx.wire import pack_value, scan, unpack_value


class Node(Protocol):
    """What this part needs of a node."""

    def do_for_legacy(self, kind: int, key: bytes, *arguments: Any) -> Deferred[Answer]:
        """An operation, at the leader of the key's group, by the client that asks for legacy peers."""


@frozen
class Seen:
    """A record as it was read: its rank, None where there was none, and its value."""

    rank: Rank | None
    value: Any


_NOTHING = Seen(None, None)


class Records:
    """See the module."""

    def __init__(self, node: Node, value_bytes_max: int, limits: Limits) -> None:
        self._node = node
        self._value_bytes_max = value_bytes_max
        self._limits = limits
        self._read_limits = limits.of_reading

    async def read(self, key: bytes) -> Seen:
        """:raises ChordError: when nobody answers in time."""
        answer = await self._node.do_for_legacy(operations.GET, key)
        if answer.status != operations.DONE:
            return _NOTHING
        if not isinstance(answer.detail, tuple) or len(answer.detail) != 3:
            raise ProtocolError("a record was expected")
        packed, _, rank = answer.detail
        return Seen(rank, self.unpack(packed))

    async def write(self, key: bytes, seen: Seen, value: Any) -> bool:
        """Write a value in the place of the record that was seen; None deletes it.

        :returns: whether that was still the record. :raises ChordError: when nobody answers in time.
        """
        if value is None:
            if seen.rank is None:
                return True
            answer = await self._node.do_for_legacy(operations.DELETE, key, seen.rank)
        else:
            kind = operations.COMPARE_AND_SET
            answer = await self._node.do_for_legacy(kind, key, seen.rank, self.pack(value), None)
        return answer.status != operations.CONFLICT

    async def merge(self, key: bytes, delta: dict[Any, Any]) -> None:
        """Write fields into a map. :raises ChordError: when nobody answers in time."""
        fields = b"".join(self.pack(name) + self.pack(field) for name, field in delta.items())
        answer = await self._node.do_for_legacy(
            operations.DELTA, key, operations.map_header(len(delta)) + fields
        )
        if answer.status != operations.DONE:
            raise TypeError("a delta can only be applied to a map")

    def pack(self, value: Any) -> bytes:
        """A value as records hold it."""
        return pack_value(value, self._value_bytes_max, self._limits)

    def unpack(self, blob: Any) -> Any:
        """:raises ProtocolError: when it is no value."""
        return unpack_value(blob, self._read_limits)

    def size_bytes(self, blob: bytes) -> int:
        """About what a value takes in memory."""
        return scan(blob, self._limits)
