"""Many entries on their way from one node to another: in pieces that are not too large, and read with care.

What an entry is (a record, or one under a lease) is the caller's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from chordtx.errors import ProtocolError

PIECE_BYTES = 1 << 20
FETCHED_AT_ONCE = 500  # keys

#: Key -> the wire form of what is kept under it, and about its bytes; None when nothing is.
Found = Callable[[bytes], tuple[Any, int] | None]


def pieces_of(keys: Iterable[bytes], found: Found) -> Iterator[list[Any]]:
    """``[[key, wire form], ...]``: what is kept under ``keys``, in pieces of about :data:`PIECE_BYTES`."""
    piece: list[Any] = []
    size = 0
    for key in keys:
        entry = found(key)
        if entry is not None:
            piece.append([key, entry[0]])
            size += entry[1]
            if size > PIECE_BYTES:
                yield piece
                piece, size = [], 0
    if piece:
        yield piece


def first_piece_of(keys: object, found: Found) -> list[Any]:
    """The first of these pieces, for keys that a peer asks for; what is no key is not there.

    :raises ProtocolError: when it asks for no list.
    """
    if not isinstance(keys, list):
        raise ProtocolError("fetch takes a list of keys")
    return next(pieces_of((key for key in keys if isinstance(key, bytes)), found), [])


def entries_from_wire(piece: object) -> Iterator[tuple[bytes, Any]]:
    """Keys and wire forms, as a peer sent them. :raises ProtocolError: at the first that is none."""
    if not isinstance(piece, list):
        raise ProtocolError("entries come as a list")
    for entry in piece:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], bytes):
            raise ProtocolError("an entry comes as [key, entry]")
        yield entry[0], entry[1]


async def fetch_all(
    keys: Sequence[bytes], fetch: Callable[[list[bytes]], Awaitable[Collection[bytes]]]
) -> None:
    """Fetch what a peer has under ``keys``, of which each answer holds as many as fit.

    :param fetch: fetches some, and tells which have come.
    """
    for place in range(0, len(keys), FETCHED_AT_ONCE):
        wanted = list(keys[place : place + FETCHED_AT_ONCE])
        while wanted and (come := await fetch(wanted)):
            wanted = [key for key in wanted if key not in come]
