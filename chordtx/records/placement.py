"""Which nodes keep a key: linear probing over the ring.

Each of the key's positions takes its owner; when that one is in the set already, the next one along
from it. As with linear probing in a hash table, the set that comes out does not depend on the order
of the positions, and one node more or less changes it by one node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice

from attrs import frozen

from chordtx.ring import SIZE, Contact

REPLICAS = 5


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
