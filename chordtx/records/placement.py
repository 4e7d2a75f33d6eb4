"""Which nodes keep a key: linear probing over the ring.

Each of the key's positions takes its owner; when that one is in the set already, the next one along
from it. As with linear probing in a hash table, the set that comes out does not depend on the order
of the positions, and one node more or less changes it by one node.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice, pairwise

from attrs import frozen

from chordtx.ring import BITS, SIZE, Contact, distance, in_arc

REPLICAS = 5
_PART_BYTES = 6


@frozen(eq=False)
class ReplicaSet:
    """The nodes that keep a key.

    :ivar contacts: in the order of the positions that took them; in a ring whose members all keep everything,
        in any order.
    :ivar tag: the set in brief: the first bytes of the members' ids, in order.
    """

    contacts: tuple[Contact, ...]
    tag: bytes

    @classmethod
    def of(cls, contacts: Iterable[Contact]) -> ReplicaSet:
        """The set of these."""
        contacts = tuple(contacts)
        return cls(contacts, b"".join(sorted(_part_of(contact.id) for contact in contacts)))


def _part_of(id: int) -> bytes:
    return (id >> (BITS - 8 * _PART_BYTES)).to_bytes(_PART_BYTES, "big")


def tag_names(tag: bytes, ids: Iterable[int]) -> bool:
    """Whether all members with these ids are in the set of a :attr:`ReplicaSet.tag`."""
    parts = {tag[place : place + _PART_BYTES] for place in range(0, len(tag), _PART_BYTES)}
    return all(_part_of(id) in parts for id in ids)


@frozen
class Unknown:
    """The set cannot be told yet.

    :ivar position: its owner must be looked up first.
    """

    position: int


def replica_set(
    positions: Sequence[int],
    owner: Callable[[int], Contact | None],
    following: Callable[[int], Contact | None],
    size: int = REPLICAS,
) -> tuple[Contact, ...] | Unknown:
    """The nodes that keep what belongs to ``positions``.

    :param positions: on the ring; they are gone through again when ``size`` is more than there are.
    :param owner: position -> the member that owns it, or None when that is not known.
    :param following: id of a member -> the next one along the walk, or None when that is not known.
    :param size: how many nodes are wanted.
    :returns: min(size, ring) distinct members, in the order of the positions that took them.
    """
    taken: dict[int, Contact] = {}
    for position in islice(cycle(positions), size):
        found = _probe(position, taken, owner, following)
        if isinstance(found, Unknown):
            return found
        if found is None:
            break
        taken[found.id] = found
    return tuple(taken.values())


def places_taken(ids: Sequence[int], positions: Iterable[int], size: int = REPLICAS) -> list[int]:
    """:func:`replica_set` in a ring that is known whole, and fast: this is what it costs when a ring changes.

    :param ids: of all members, sorted. :param positions: ``size`` of them.
    :returns: indexes into ``ids``, in the order of the positions that took them.
    """
    taken: list[int] = []
    count = len(ids)
    for position in positions:
        if len(taken) == min(count, size):
            break
        place = bisect_right(ids, position) - 1  # -1 is the member with the greatest id: once round
        while place % count in taken:
            place -= 1
        taken.append(place % count)
    return taken


@frozen
class Neighbourhood:
    """One member, and those before it on the walk: all that decides which keys it keeps.

    Probing goes on along the walk, past as many members as a set has at most. So who comes before a member
    by one more than that has no say in what is the member's.

    :ivar ids: of ``size`` members before it, the farthest first, and its own; of the whole ring when that
        has no more than ``size``.
    :ivar is_whole: whether it is the whole ring: then every member keeps everything.
    """

    ids: tuple[int, ...]
    is_whole: bool

    def keeps(self, positions: Sequence[int]) -> bool:
        """Whether the member is in the replica set of these positions: what :func:`replica_set` says too."""
        if self.is_whole:
            return True
        carried = load = 0
        for start, end in pairwise(self.ids):
            load = carried + sum(in_arc(position, start, end) for position in positions)
            carried = max(0, load - 1)
        return load > 0

    def has_lost(self, after: Neighbourhood) -> bool:
        """Whether, by the time of ``after``, a member is gone that had a say in what is ours then."""
        me = self.ids[-1]
        reach = SIZE if after.is_whole else distance(after.ids[0], me)
        return any(id not in after.ids for id in self.ids if distance(id, me) <= reach)


def _probe(
    position: int,
    taken: dict[int, Contact],
    owner: Callable[[int], Contact | None],
    following: Callable[[int], Contact | None],
) -> Contact | Unknown | None:
    """:returns: the first member from ``position`` on that is not taken; None when all of them are."""
    member = owner(position)
    if member is None:
        return Unknown(position)
    met: set[int] = set()
    while member.id in taken:
        if member.id in met:
            return None  # once round
        met.add(member.id)
        next_member = following(member.id)
        if next_member is None:
            return Unknown((member.id - 1) % SIZE)
        member = next_member
    return member
