"""Zave's invariants of a whole ring: pure functions of what every member lists at one moment.

Source: Zave, "Reasoning about identifier spaces: how to make Chord correct" (IEEE TSE 2017). With r the
length of a list, and a member's *extended* list being itself and then its successors:

1. OneLiveSuccessor: every member lists a live member.
2. SufficientPrincipals: at least r + 1 members are *principals*. No extended list skips those, which is to
   say that none has two neighbouring entries with a principal strictly between them.

Two things are chordtx's own. A list ends where the walk would come to its owner again, and a ring that is
no larger than the list is listed whole (``RingNode.complete``). Such a list skips whoever is missing from
it, also behind its last entry: its extended list ends with the owner. And for the same reason no list ever
passes its own node, so that **one** principal is enough for what follows from the invariants:

- following first live successors from any member never passes a principal, so it comes to it: there is
  exactly one ring, it goes round once, and every member outside of it (an *appendage*) reaches it.

So rings of fewer than r + 1 members are asked for one principal, and rings that once had the paper's r + 1
for these; whoever calls says how many (``principals_min``). A member that is alone needs no successor, and
neither does one whose list claims to be everyone: that list skips all other members, so that if there is a
principal, it is this one, and the ring is this one, and others are about to be found.

What is true of the operations, and not only of states, is that a principal stays one for as long as it is a
member, whatever is delivered. That holds when answers that are under way count as lists (they are about to
be copied), and when nobody takes the member for dead: in the paper, where a query and the change that it
leads to are one step, there is nothing under way. See :mod:`chordtx.sim.ring_model`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from chordtx.ring import RingNode, between, distance

Ids = tuple[int, ...]


class Place(NamedTuple):
    """What one member knows of its place.

    :ivar successors: ids, as it lists them. :ivar is_complete: whether it says that the list is everyone.
    """

    successors: Ids
    predecessor: int | None = None
    is_complete: bool = False


class Walk:
    """Which ids lie between which: sets of ids are whole numbers, with one bit for each id.

    It remembers what it worked out, so that a search can ask after every step.
    """

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._bits: dict[int, int] = {}
        self._skipped: dict[Ids, int] = {}
        for id in ids:
            self.bit(id)

    def bit(self, id: int) -> int:
        """The number that stands for one id."""
        bit = self._bits.get(id)
        if bit is None:
            bit = self._bits[id] = 1 << len(self._bits)
            self._skipped.clear()
        return bit

    def bits(self, ids: Iterable[int]) -> int:
        """The number that stands for several."""
        bits = 0
        for id in ids:
            bits |= self.bit(id)
        return bits

    def ids(self, bits: int) -> list[int]:
        """The ids that a number stands for."""
        return [id for id, bit in self._bits.items() if bit & bits]

    def skipped(self, extended: Ids) -> int:
        """The ids, of those that were ever named, that lie between two neighbouring entries."""
        skipped = self._skipped.get(extended)
        if skipped is None:
            self.bits(extended)
            pairs = list(pairwise(extended))
            skipped = self.bits(id for id in list(self._bits) if any(between(a, id, b) for a, b in pairs))
            self._skipped[extended] = skipped
        return skipped


def extended(id: int, place: Place) -> Ids:
    """A member's extended list: closed, where it claims to be everyone."""
    return (id, *place.successors, id) if place.is_complete else (id, *place.successors)


def principals(
    members: Mapping[int, Place], under_way: Iterable[Ids] = (), given_up: Collection[int] = ()
) -> set[int]:
    """The members that nobody skips.

    :param under_way: extended lists in answers that have not arrived yet.
    :param given_up: ids that somebody takes for dead, or is about to.
    """
    walk = Walk(members)
    skipped = walk.bits(given_up)
    for id, place in members.items():
        skipped |= walk.skipped(extended(id, place))
    for ids in under_way:
        skipped |= walk.skipped(ids)
    return set(walk.ids(walk.bits(members) & ~skipped))


def violations(members: Mapping[int, Place], length: int, principals_min: int = 1) -> list[str]:
    """Everything that is wrong with a ring at one moment, one line each.

    :param members: all live members. :param length: of a full list: r.
    :param principals_min: how many principals there ought to be: r + 1 in the paper.
    """
    found = [
        f"{name_of(id)}: {what}" for id, place in members.items() for what in not_a_list(id, place, length)
    ]
    count = len(principals(members))
    if count < principals_min:
        found.append(f"{count} principals, and not {principals_min}")
    return [*found, *not_one_ring(members)]


def not_a_list(id: int, place: Place, length: int) -> Iterator[str]:
    """What is wrong with one member's list, whoever else there is."""
    ahead = [distance(id, successor) for successor in place.successors]
    if 0 in ahead:
        yield "lists itself"
    if len(set(ahead)) < len(ahead):
        yield "lists a node twice"
    if ahead != sorted(ahead):
        yield "does not list in the order of the walk"
    if len(ahead) > length:
        yield "lists too many"
    if place.predecessor == id:
        yield "is its own predecessor"


def first_live(members: Mapping[int, Place]) -> dict[int, int]:
    """Each member's first live successor; itself, when it lists none."""
    return {
        id: next((successor for successor in place.successors if successor in members), id)
        for id, place in members.items()
    }


def not_one_ring(members: Mapping[int, Place]) -> Iterator[str]:
    """What is wrong with following first live successors; OneLiveSuccessor first of all."""
    following = first_live(members)
    for id, first in following.items():
        if first == id and len(members) > 1 and not members[id].is_complete:
            yield f"{name_of(id)}: lists no live member"
    rings = list(rings_of(following))
    if len(rings) > 1:
        yield f"{len(rings)} rings"
    for ring in rings:
        if times_round(ring) > 1:
            yield "a ring goes round more than once"


def rings_of(following: Mapping[int, int]) -> Iterator[list[int]]:
    """The rings that walks from everywhere end in."""
    reached_from: dict[int, int] = {}
    for start in following:
        id = start
        while id not in reached_from:
            reached_from[id] = start
            id = following[id]
        if reached_from[id] == start:
            ring = [id]
            while following[ring[-1]] != id:
                ring.append(following[ring[-1]])
            yield ring


def times_round(ring: list[int]) -> int:
    """How often a ring goes round: ids only fall along the walk, but for once where it comes round."""
    return sum(after >= before for before, after in pairwise([*ring, ring[0]]))


def rank_errors(members: Mapping[int, Place], length: int) -> int:
    """Zave's measure of progress: by how many places all pointers are wrong, taken together.

    A pointer that is missing, or leads to a dead node, is as wrong as can be. Zero is the true ring.
    """
    order = sorted(members, reverse=True)
    rank = {id: place for place, id in enumerate(order)}
    count = len(order)
    wrong = 0
    for id, place in members.items():
        for expected in range(1, min(length, count - 1) + 1):
            entry = place.successors[expected - 1] if expected <= len(place.successors) else None
            ahead = count if entry not in rank else (rank[entry] - rank[id]) % count
            wrong += abs(ahead - expected)
        before = place.predecessor
        if count > 1:
            wrong += count if before not in rank else (rank[id] - rank[before]) % count - 1
    return wrong


def name_of(id: int) -> str:
    """The beginning of an id, long enough to tell nodes apart."""
    return f"{id:096x}"[:8]


def place_of(node: RingNode) -> Place:
    """What a node knows of its place."""
    predecessor = None if node.predecessor is None else node.predecessor.id
    return Place(tuple([contact.id for contact in node.successors]), predecessor, node.complete)


def zave_violations(nodes: Iterable[RingNode], principals_min: int = 1) -> list[str]:
    """:func:`violations` of the ring that ``nodes`` are: all that live; those in no ring are left out."""
    nodes = [node for node in nodes if node.is_member]
    length = max((node.list_length for node in nodes), default=1)
    return violations({node.me.id: place_of(node) for node in nodes}, length, principals_min)
