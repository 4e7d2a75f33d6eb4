"""What the fields of messages are: each function takes what msgpack has read, and gives it back, checked.

Arrays are tuples here. What is wrong raises :class:`~chordtx.errors.ProtocolError`.
"""

from __future__ import annotations

from itertools import pairwise

from chordtx.errors import ProtocolError
from chordtx.group.configuration import Member, members_from_wire
from chordtx.group.copying import LEAVES_AT_ONCE
from chordtx.group.digest import DIGEST_BYTES, LEAVES
from chordtx.group.operations import is_finite
from chordtx.group.rank import COUNT_MAX, Ballot, Epoch, ballot_from_wire, epoch_from_wire
from chordtx.group.state import CLIENT_BYTES_MAX, Client, client_from_wire

#: More partitions than any ring has: a bound on what a stranger can make a node keep.
PARTITIONS_MAX = 1 << 16
KEY_BYTES_MAX = 64 << 10

_DIGEST_MAX = (1 << 64) - 1


def flag(obj: object) -> bool:
    """True or false."""
    if type(obj) is bool:
        return obj
    raise ProtocolError("true or false was expected")


def count(obj: object) -> int:
    """A number from 0 on."""
    if type(obj) is int and 0 <= obj <= COUNT_MAX:
        return obj
    raise ProtocolError("a number from 0 on was expected")


def digest_number(obj: object) -> int:
    """A digest as a number of 64 bits."""
    if type(obj) is int and 0 <= obj <= _DIGEST_MAX:
        return obj
    raise ProtocolError("a digest of 64 bits was expected")


def seconds(obj: object) -> float:
    """A point in time, or a number of seconds: finite."""
    if is_finite(obj) or type(obj) is int:
        return obj  # type: ignore[return-value]
    raise ProtocolError("a number of seconds was expected")


def wait(obj: object) -> float:
    """A number of seconds from 0 on."""
    if seconds(obj) >= 0:
        return obj  # type: ignore[return-value]
    raise ProtocolError("nobody waits for less than no time")


def ballot_or_none(obj: object) -> Ballot | None:
    """A ballot, or None."""
    return None if obj is None else ballot_from_wire(obj)


def members_or_none(obj: object) -> tuple[Member, ...] | None:
    """Members, or None."""
    return None if obj is None else members_from_wire(obj)


def digests(obj: object) -> bytes:
    """Digests, one after the other."""
    if type(obj) is bytes and len(obj) % DIGEST_BYTES == 0:
        return obj
    raise ProtocolError(f"digests of {DIGEST_BYTES} bytes were expected")


def digest(obj: object) -> bytes:
    """One digest."""
    if type(obj) is bytes and len(obj) == DIGEST_BYTES:
        return obj
    raise ProtocolError(f"a digest of {DIGEST_BYTES} bytes was expected")


def digest_or_nothing(obj: object) -> bytes:
    """A digest, or nothing: from the beginning."""
    return b"" if obj == b"" else digest(obj)


def tree(obj: object) -> bytes:
    """The digests of all leaves, or nothing."""
    if len(digests(obj)) in (0, LEAVES * DIGEST_BYTES):
        return obj  # type: ignore[return-value]
    raise ProtocolError("a tree has a digest for each leaf")


def leaf(obj: object) -> int:
    """The number of a leaf."""
    if type(obj) is int and 0 <= obj < LEAVES:
        return obj
    raise ProtocolError("there is no such leaf")


def whole(obj: object) -> int:
    """How many of the leaves that were asked for."""
    if type(obj) is int and 0 <= obj <= LEAVES_AT_ONCE:
        return obj
    raise ProtocolError("so many leaves are not asked for at once")


def _rising(leaves: tuple[int, ...]) -> tuple[int, ...]:
    if any(one >= other for one, other in pairwise(leaves)):
        raise ProtocolError("leaves are in order, and none stands there twice")
    return leaves


def leaves(obj: object) -> tuple[int, ...]:
    """Numbers of leaves, in order."""
    if type(obj) is not tuple:
        raise ProtocolError("leaves are an array")
    return _rising(tuple(map(leaf, obj)))


def wanted(obj: object) -> tuple[tuple[int, bytes], ...]:
    """What is asked for: leaves, each with digests."""
    if type(obj) is not tuple or not 0 < len(obj) <= LEAVES_AT_ONCE:
        raise ProtocolError(f"1 to {LEAVES_AT_ONCE} leaves are asked for at once")
    for each in obj:
        if type(each) is not tuple or len(each) != 2:
            raise ProtocolError("what is wanted of a leaf is [leaf, digests]")
        leaf(each[0])
        digests(each[1])
    _rising(tuple(number for number, _ in obj))
    return obj


def client_id(obj: object) -> bytes:
    """The id of a client."""
    if type(obj) is bytes and 0 < len(obj) <= CLIENT_BYTES_MAX:
        return obj
    raise ProtocolError(f"a client's id is 1 to {CLIENT_BYTES_MAX} bytes")


def client_id_or_none(obj: object) -> bytes | None:
    """The id of a client, or None."""
    return None if obj is None else client_id(obj)


def clients(obj: object) -> dict[bytes, Client]:
    """Clients, by id."""
    if type(obj) is not dict:
        raise ProtocolError("clients are a map")
    return {client_id(id): client_from_wire(client) for id, client in obj.items()}


def key(obj: object) -> bytes:
    """A key."""
    if type(obj) is bytes and len(obj) <= KEY_BYTES_MAX:
        return obj
    raise ProtocolError(f"a key is up to {KEY_BYTES_MAX} bytes")


def followed(obj: object) -> tuple[tuple[int, int, Epoch], ...] | None:
    """The partitions in which somebody follows, or None."""
    if obj is None:
        return None
    if type(obj) is not tuple:
        raise ProtocolError("the followed partitions are an array")
    return tuple(map(_followed_one, obj))


def _followed_one(obj: object) -> tuple[int, int, Epoch]:
    if type(obj) is not tuple or len(obj) != 3:
        raise ProtocolError("a followed partition is [partition, ballot number, epoch]")
    partition, number, epoch = obj
    if type(partition) is not int or not 0 <= partition < PARTITIONS_MAX:
        raise ProtocolError("there is no such partition")
    return partition, count(number), epoch_from_wire(epoch)
