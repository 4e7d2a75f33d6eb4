"""A digest tree of two levels, by which two nodes find out which records differ.

It has 256 leaves, by the first byte of the key's SHA-384, each the exclusive or of its records' digests; the
root is that of all leaves. So a write costs a few operations, two nodes that agree find that out by comparing
one number, and two that do not list the records of the leaves that differ. (A Merkle tree's middle levels
would save little: all leaves fit into one packet or two.)
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from chordtx.errors import ProtocolError

LEAVES = 256
DIGEST_BYTES = 8
LISTED_AT_ONCE = 8_000  # keys, about


def digest(packed: bytes) -> int:
    """The digest of a key and what is stored under it, packed: the same exactly when all of it is."""
    return int.from_bytes(blake2b(packed, digest_size=DIGEST_BYTES).digest(), "big")


def digest_to_wire(value: int) -> bytes:
    """A digest, or an exclusive or of some."""
    return value.to_bytes(DIGEST_BYTES, "big")


def digest_from_wire(value: object) -> int:
    """:raises ProtocolError: when it is no digest."""
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise ProtocolError(f"a digest is {DIGEST_BYTES} bytes")
    return int.from_bytes(value, "big")


class Tree:
    """What is shared with one other node, or with all of them.

    :ivar root: the exclusive or of all digests. :ivar leaves: the same for each leaf.
    """

    __slots__ = ("leaves", "root")

    def __init__(self) -> None:
        self.root = 0
        self.leaves = [0] * LEAVES

    def toggle(self, leaf: int, digest: int) -> None:
        """Put a record in, or take it out."""
        self.root ^= digest
        self.leaves[leaf] ^= digest

    def differing(self, leaves: list[int]) -> list[int]:
        """The numbers of those leaves that are not the same here and there."""
        return [leaf for leaf in range(LEAVES) if self.leaves[leaf] != leaves[leaf]]

    def leaves_to_wire(self) -> bytes:
        """All leaves, one after another."""
        return b"".join(map(digest_to_wire, self.leaves))


def batches(leaves: list[int], records: int) -> Iterator[list[int]]:
    """Leaves whose keys are listed in one answer: few round trips, and none that blocks others for long.

    :param records: how many there are in all leaves.
    """
    at_once = max(1, LISTED_AT_ONCE * LEAVES // (records + 1))
    for place in range(0, len(leaves), at_once):
        yield leaves[place : place + at_once]


def leaves_from_wire(value: object) -> list[int]:
    """The opposite of :meth:`Tree.leaves_to_wire`. :raises ProtocolError: when it is anything else."""
    if not isinstance(value, bytes) or len(value) != LEAVES * DIGEST_BYTES:
        raise ProtocolError("a tree is its leaves")
    places = range(0, LEAVES * DIGEST_BYTES, DIGEST_BYTES)
    return [int.from_bytes(value[place : place + DIGEST_BYTES], "big") for place in places]


def leaf_numbers_from_wire(value: object) -> list[int]:
    """Leaves that somebody asks for. :raises ProtocolError: when these are none."""
    if not isinstance(value, list) or len(value) > LEAVES:
        raise ProtocolError("leaves takes a list of numbers")
    if not all(type(leaf) is int and 0 <= leaf < LEAVES for leaf in value):
        raise ProtocolError("a leaf is a number from 0 to 255")
    return value


def listed_to_wire(key: bytes, digest: int) -> list[bytes]:
    """One of the records that a leaf lists."""
    return [key, digest_to_wire(digest)]


def listed_from_wire(entry: object) -> tuple[bytes, int]:
    """The opposite of :func:`listed_to_wire`. :raises ProtocolError: when it is anything else."""
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], bytes):
        raise ProtocolError("a leaf lists [key, digest]")
    return entry[0], digest_from_wire(entry[1])
