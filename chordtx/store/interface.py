"""What a node asks of the place where it keeps its records."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from chordtx.records import Record


class IStore(Interface):
    """Records by key. A record is only ever replaced by its merge with another, never by an older one."""

    bytes_used = Attribute("About how many bytes keys and records take.")

    def get(key: bytes) -> Record | None:
        """The record of ``key``, tombstones too."""

    def merge(key: bytes, record: Record) -> Record:
        """Merge a copy in.

        :returns: what is stored now.
        """

    def drop(key: bytes) -> None:
        """Forget ``key``, for it is others' to keep now. Nothing happens when it is not there."""

    def synced() -> Deferred[None] | None:
        """Fires when all that was merged so far would survive a crash; None when it never would, or does."""

    def keys() -> Iterator[bytes]:
        """Every key, in no order, from a snapshot: the store may change while it is gone through."""

    def packed() -> Iterator[tuple[bytes, bytes]]:
        """Every key and its record's wire form in msgpack, in no order.

        What is merged or dropped meanwhile may come as it was before, as it is then, or not at all.
        """

    def keys_down_from(position: int, low: int, limit: int) -> list[tuple[int, bytes]]:
        """Keys by the position that names them (SHA-384), from ``position`` down to ``low``, both included.

        :returns: up to ``limit`` pairs (position, key), the highest position first.
        """

    def close() -> Deferred[None] | None:
        """Nothing is asked of it any more.

        :returns: fires when all that was merged would survive a crash, and fails when it would not; None when
            there is nothing to wait for.
        """

    def __len__() -> int:
        """How many records, tombstones too."""
