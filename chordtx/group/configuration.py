"""Who decides in a partition: a numbered set of members, and in which order they are preferred to lead."""

from __future__ import annotations

from collections.abc import Container, Iterable
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

from attrs import field, frozen

from chordtx.errors import ProtocolError
from chordtx.group.rank import (
    ARRAYS,
    NO_RANK,
    NODE_ID_BYTES_MAX,
    Epoch,
    NodeId,
    Rank,
    epoch_from_wire,
    rank_from_wire,
)

#: More replicas than anybody needs; a bound on what is believed.
MEMBERS_MAX = 32


class Member(NamedTuple):
    """One member.

    :ivar has_disk: whether its promises survive a crash of its process.
    """

    id: NodeId
    has_disk: bool = True


def _in_order(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members))


@frozen
class Configuration:
    """Who decides while an epoch lasts.

    :ivar members: sorted by id, so that equal configurations are equal.
    :ivar base: NO_RANK; where the epoch was begun by force, the rank of the state that it began with.
    :ivar ids: the members' ids.
    :ivar majority: how many members are more than half.
    """

    epoch: Epoch
    members: tuple[Member, ...] = field(converter=_in_order)
    base: Rank = NO_RANK
    ids: frozenset[NodeId] = field(init=False, eq=False, repr=False)
    majority: int = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "ids", frozenset(member.id for member in self.members))
        object.__setattr__(self, "majority", len(self.members) // 2 + 1)

    def has_majority(self, ids: Container[NodeId]) -> bool:
        """Whether more than half of the members are among ``ids``."""
        return sum(member.id in ids for member in self.members) >= self.majority

    def successor(self, members: Iterable[Member]) -> Configuration:
        """The configuration of the next epoch, with these members."""
        return Configuration(self.epoch.successor(), tuple(members))

    def to_wire(self) -> tuple[Epoch, tuple[Member, ...], Rank]:
        """:returns: ``(epoch, ((id, has a disk), ...), base)``."""
        return (self.epoch, self.members, self.base)


#: Of a replica that has heard of none.
NO_CONFIGURATION = Configuration(NO_RANK.epoch, ())


def members_from_wire(obj: object) -> tuple[Member, ...]:
    """:raises ProtocolError: when ``obj`` is no list of members, in the order of their ids."""
    if not isinstance(obj, ARRAYS) or len(obj) > MEMBERS_MAX:
        raise ProtocolError(f"members are an array of up to {MEMBERS_MAX}")
    members = tuple(map(_member_from_wire, obj))
    if any(one.id >= other.id for one, other in pairwise(members)):
        raise ProtocolError("members are sorted by id, and none stands there twice")
    return members


def _member_from_wire(obj: object) -> Member:
    if isinstance(obj, ARRAYS) and len(obj) == 2:
        id, has_disk = obj
        if type(id) is bytes and type(has_disk) is bool and len(id) <= NODE_ID_BYTES_MAX:
            return Member(id, has_disk)
    raise ProtocolError("a member is [id, whether it has a disk]")


def configuration_from_wire(obj: object) -> Configuration:
    """:raises ProtocolError: when ``obj`` is no configuration."""
    if isinstance(obj, ARRAYS) and len(obj) == 3:
        epoch, members, base = obj
        return Configuration(epoch_from_wire(epoch), members_from_wire(members), rank_from_wire(base))
    raise ProtocolError("a configuration is [epoch, members, base]")


def by_preference(partition: int, members: Iterable[NodeId]) -> list[NodeId]:
    """Who is to lead, the most preferred first: by the greatest hash of partition and member.

    So every member leads as many partitions as any other, and a join moves few leads.
    """
    prefix = partition.to_bytes(4, "big")
    return sorted(members, key=lambda id: blake2b(prefix + id, digest_size=16).digest(), reverse=True)
