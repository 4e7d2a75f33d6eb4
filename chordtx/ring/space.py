"""The ring itself: its positions, which way it is walked, and where a key's five positions lie.

A position belongs to the storing node nearest at or below it. The ring is therefore walked toward
smaller ids, and :func:`distance` alone fixes that: with it, the position's owner is its *successor*,
and what the Chord papers say holds word for word.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

BITS = 384
SIZE = 1 << BITS
HASHES = ("sha1", "sha224", "sha256", "sha384", "sha512")
_HASHERS = tuple(getattr(hashlib, name) for name in HASHES)  # asking for them by name takes twice as long


class Positions(NamedTuple):
    """A key's five positions, in the order of :data:`HASHES`."""

    sha1: int
    sha224: int
    sha256: int
    sha384: int
    sha512: int


def distance(a: int, b: int) -> int:
    """How far the walk from ``a`` goes until it reaches ``b``: 0 .. SIZE - 1."""
    return (a - b) % SIZE


def apart(a: int, b: int) -> int:
    """How far two positions are apart, whichever way one walks."""
    ahead = (a - b) % SIZE
    return min(ahead, SIZE - ahead)


def between(a: int, x: int, b: int) -> bool:
    """Whether the walk from ``a`` to ``b`` meets ``x`` on its way, both ends left out.

    With ``a == b`` it is the walk once round: everything but ``a``.
    """
    if a == b:
        return x != a
    return 0 < distance(a, x) < distance(a, b)


def in_arc(position: int, start: int, end: int) -> bool:
    """Whether ``position`` lies in (start, end] of the walk: what the member ``end`` owns whose
    predecessor is ``start``. With ``start == end`` that is the whole ring.
    """
    return start == end or 0 < distance(start, position) <= distance(start, end)


def table_positions(key: bytes) -> Positions:
    """Where legacy peers store ``key``: one position for each table.

    Digests shorter than the ring are shifted up to its width; that of SHA-512 keeps all of its 512 bits.
    """
    sha1, sha224, sha256, sha384, sha512 = [
        int.from_bytes(hasher(key, usedforsecurity=False).digest(), "big") for hasher in _HASHERS
    ]
    return Positions(sha1 << 224, sha224 << 160, sha256 << 128, sha384, sha512)


def ring_positions(key: bytes) -> Positions:
    """The same five, on the ring (that of SHA-512 modulo its size)."""
    sha1, sha224, sha256, sha384, sha512 = table_positions(key)
    return Positions(sha1, sha224, sha256, sha384, sha512 % SIZE)
