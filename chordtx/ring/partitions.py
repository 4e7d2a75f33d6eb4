"""Partitions: equal parts of the position space. Each has a group of its own, which agrees on its records.

A key belongs to the partition that its SHA-384 position falls into. The node that owns a partition's lowest
position knows who ought to keep the partition: itself, and the next nodes along the walk.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha384

from chordtx.config import PARTITION_BITS_MAX
from chordtx.ring.contact import Contact
from chordtx.ring.space import BITS


def partition_of(key: bytes, bits: int) -> int:
    """Which of 2**bits partitions a key belongs to."""
    top = int.from_bytes(sha384(key, usedforsecurity=False).digest()[:2], "big")
    return top >> (PARTITION_BITS_MAX - bits)


def lowest_position(partition: int, bits: int) -> int:
    """Where a partition begins."""
    return partition << (BITS - bits)


def owned_partitions(me: Contact, predecessor: Contact | None, bits: int) -> Iterable[int]:
    """The partitions whose lowest position lies in ``(predecessor, me]``; all of them for a node alone.

    :param predecessor: the member before on the walk; None for a ring of one.
    """
    count = 1 << bits
    if predecessor is None:
        return range(count)
    first, end = _first_from(me.id, bits), _first_from(predecessor.id, bits)
    if me.id < predecessor.id:
        return range(first, end)
    return (*range(first, count), *range(end))


def _first_from(position: int, bits: int) -> int:
    """The first partition that begins at a position, or after it; 2**bits when none does."""
    return -(-position >> (BITS - bits))
