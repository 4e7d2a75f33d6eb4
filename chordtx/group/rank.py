"""The two orders of a partition: ballots, and ranks.

Plain tuples with names, so that Python compares them as the protocol does: field by field, the first one
that differs decides.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import msgpack

from chordtx.errors import ProtocolError

#: A node's id in its wire form. Compared as bytes, which is the order of the numbers that they spell.
NodeId = bytes

NODE_ID_BYTES_MAX = 48
COUNT_MAX = (1 << 63) - 1

#: What msgpack makes of an array.
ARRAYS = (list, tuple)
#: Makes a named tuple of a plain one, in half the time: for what is made for every message or change.
named = tuple.__new__

# The functions named *_from_wire are called for every message. So they ask for exact types, which tells a
# bool from a number too.

_VERSION_CHARACTERS_MAX = 256
_NO_VERSION = "this is no version of chordtx: it is to be used as it was given"


class Ballot(NamedTuple):
    """A leader's term: of two, the greater one wins. No ballot is ever used twice.

    :ivar number: above every number that the candidate had seen.
    :ivar node: whose it is.
    """

    number: int
    node: NodeId


class Epoch(NamedTuple):
    """The name of a configuration. Its successor has the next number and the same mark.

    :ivar number: 0 for the first configuration.
    :ivar mark: 0, or a random number for a history that was begun by force (:mod:`chordtx.group.recovery`).
    """

    number: int
    mark: int = 0

    def successor(self) -> Epoch:
        """The epoch that this one decides on."""
        return Epoch(self.number + 1, self.mark)


class Rank(NamedTuple):
    """The name of a state, and of the change that led to it. Equal rank, equal state.

    :ivar epoch: of its configuration. :ivar ballot: of the leader that made it.
    :ivar sequence: counts the changes of this ballot; it goes on from epoch to epoch.
    """

    epoch: Epoch
    ballot: Ballot
    sequence: int


NO_BALLOT = Ballot(0, b"")
NO_EPOCH = Epoch(-1)
#: Below every rank that a state can have.
NO_RANK = Rank(NO_EPOCH, NO_BALLOT, 0)
#: The rank of a ring's first state, in each partition.
FIRST_RANK = Rank(Epoch(0), NO_BALLOT, 0)


def ballot_from_wire(obj: object) -> Ballot:
    """:raises ProtocolError: when ``obj`` is no ballot."""
    if isinstance(obj, ARRAYS) and len(obj) == 2:
        number, node = obj
        is_typed = type(number) is int and type(node) is bytes
        if is_typed and 0 <= number <= COUNT_MAX and len(node) <= NODE_ID_BYTES_MAX:
            return named(Ballot, obj)
    raise ProtocolError("a ballot is [number, node id]")


def epoch_from_wire(obj: object) -> Epoch:
    """:raises ProtocolError: when ``obj`` is no epoch."""
    if isinstance(obj, ARRAYS) and len(obj) == 2:
        number, mark = obj
        is_typed = type(number) is int and type(mark) is int
        if is_typed and -1 <= number <= COUNT_MAX and 0 <= mark <= COUNT_MAX:
            return named(Epoch, obj)
    raise ProtocolError("an epoch is [number, mark]")


def rank_from_wire(obj: object) -> Rank:
    """:raises ProtocolError: when ``obj`` is no rank."""
    if isinstance(obj, ARRAYS) and len(obj) == 3:
        epoch, ballot, sequence = obj
        if type(sequence) is int and 0 <= sequence <= COUNT_MAX:
            return named(Rank, (epoch_from_wire(epoch), ballot_from_wire(ballot), sequence))
    raise ProtocolError("a rank is [epoch, ballot, sequence]")


def version_of(rank: Rank) -> str:
    """A record's version as users see it: opaque text, equal for equal ranks alone."""
    return base64.urlsafe_b64encode(msgpack.packb(rank)).decode().rstrip("=")


def rank_of(version: str) -> Rank:
    """The opposite of :func:`version_of`.

    :raises ValueError: when ``version`` was not made by it.
    """
    if len(version) > _VERSION_CHARACTERS_MAX:
        raise ValueError(_NO_VERSION)
    try:
        packed = base64.urlsafe_b64decode(version.encode() + b"=" * (-len(version) % 4))
        rank = rank_from_wire(msgpack.unpackb(packed))
    except (ProtocolError, ValueError, binascii.Error, msgpack.exceptions.UnpackException) as error:
        raise ValueError(_NO_VERSION) from error
    if version_of(rank) != version:  # base64 passes over what it does not know
        raise ValueError(_NO_VERSION)
    return rank
