"""Many entries in messages of bounded size: cut into pieces by the sender, checked by the receiver.

What an entry is (a record, or one under a lease) is the caller's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any

from chordtx.errors import ProtocolError

PIECE_BYTES = 1 << 20
#: Keys in one question: each costs a look into the store, which may be on a disk, also when nothing is there.
FETCHED_AT_ONCE = 500
#: What an entry counts for beside what its caller says: a message may hold only so many arrays, and each
#: entry has a few.
_ENTRY_BYTES = 150

#: Key -> the wire form of what is kept under it, and about its bytes; None when nothing is.
Found = Callable[[bytes], tuple[Any, int] | None]


def pieces_of(keys: Iterable[bytes], found: Found) -> Iterator[list[Any]]:
    """``[[key, wire form], ...]``: what is kept under ``keys``, in pieces of about :data:`PIECE_BYTES`."""
    piece: list[Any] = []
    size = 0
    for key in keys:
        entry = found(key)
        if entry is not None:
            entry_bytes = len(key) + entry[1] + _ENTRY_BYTES
            if piece and size + entry_bytes > PIECE_BYTES:
                yield piece
                piece, size = [], 0
            piece.append([key, entry[0]])
            size += entry_bytes
    if piece:
        yield piece


def first_piece_of(keys: object, found: Found) -> list[Any]:
    """The first of these pieces, for keys that a peer asks for; what is no key is not there.

    :raises ProtocolError: when it asks for no list, or for too many at once.
    """
    if not isinstance(keys, list) or len(keys) > FETCHED_AT_ONCE:
        raise ProtocolError(f"fetch takes a list of keys, {FETCHED_AT_ONCE} at most")
    return next(pieces_of((key for key in keys if isinstance(key, bytes)), found), [])


def entries_from_wire(piece: object) -> Iterator[tuple[bytes, Any]]:
    """Keys and wire forms, as a peer sent them. :raises ProtocolError: at the first that is none."""
    if not isinstance(piece, list):
        raise ProtocolError("entries come as a list")
    for entry in piece:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], bytes):
            raise ProtocolError("an entry comes as [key, entry]")
        yield entry[0], entry[1]


def some_at_a_time(keys: Iterable[bytes], count_max: int) -> Iterator[list[bytes]]:
    """Keys, as many at once as fit into one message: at most ``count_max``, and about :data:`PIECE_BYTES`."""
    some: list[bytes] = []
    size = 0
    for key in keys:
        if some and (len(some) >= count_max or size + len(key) > PIECE_BYTES):
            yield some
            some, size = [], 0
        some.append(key)
        size += len(key)
    if some:
        yield some


async def fetch_all(
    keys: Iterable[bytes], fetch: Callable[[list[bytes]], Awaitable[Collection[bytes]]]
) -> None:
    """Fetch what a peer has under ``keys``, of which each answer holds as many as fit.

    :param fetch: fetches some, and tells which have come.
    """
    for wanted in some_at_a_time(keys, FETCHED_AT_ONCE):
        while wanted and (come := await fetch(wanted)):
            wanted = [key for key in wanted if key not in come]
