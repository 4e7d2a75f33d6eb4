"""Which member owns which arc of the ring, as learned from normal traffic. What is not certain is None.

A member's arc is (start, id] of the walk, ``start`` being its predecessor's id. What is learned:

1. A member's name: it exists. Inside another member's arc it cuts that arc.
2. A member's arc. Members that we believed inside it are in doubt: their own arc is unknown until
   somebody names them again; a second contradiction, when nobody has named the member in between, removes it.
3. That a member is gone. The arcs beside it are not widened: the new owner has to be asked for.

So an arc on record never has a known member inside it, and the newest word wins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import pairwise

from chordtx.ring.contact import Contact
from chordtx.ring.space import SIZE, between, distance, in_arc


class ArcTable:
    """Members and their arcs, as far as they are known.

    :param capacity: members remembered at most; the one not heard of for longest goes first.
    :ivar epoch: grows with each change of knowledge, so that what was computed from it can be kept.
    """

    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self.epoch = 0
        self._capacity = capacity
        self._ids: list[int] = []  # sorted
        self._rpc: dict[int, Contact] = {}  # the one not heard of for longest first
        self._starts: dict[int, int] = {}  # only those known
        self._doubted: set[int] = set()
        self._everyone: tuple[Contact, ...] | None = None
        self._everyone_epoch = -1
        self._size = 0.0
        self._size_epoch = -1

    def __len__(self) -> int:
        return len(self._ids)

    # What is learned

    def learn_chain(self, contacts: Iterable[Contact]) -> None:
        """Members that follow one another on the walk: each one's arc starts at the one before.

        Of the first only its existence is learned.
        """
        chain = list(contacts)
        for contact in chain[:1]:
            self._name(contact)
        for before, contact in pairwise(chain):
            if before.id != contact.id:
                self.learn_arc(contact, before.id)

    def learn_arc(self, contact: Contact, predecessor_id: int) -> None:
        """``contact`` owns (predecessor_id, contact.id] of the walk; all of it, when the two are equal."""
        self._name(contact)
        start = predecessor_id
        for member_id in self._inside(predecessor_id, contact.id):
            if not self._contradict(member_id):
                start = member_id
        if self._starts.get(contact.id) != start:
            self._starts[contact.id] = start
            self.epoch += 1

    def forget(self, id: int) -> None:
        """The member with this id is gone. Nobody inherits its arc until somebody says so."""
        if id not in self._rpc:
            return
        del self._rpc[id]
        del self._ids[bisect_left(self._ids, id)]
        self._starts.pop(id, None)
        self._doubted.discard(id)
        self.epoch += 1

    # What is asked

    def contact(self, id: int) -> Contact | None:
        """Where a member is reached, if it is known."""
        return self._rpc.get(id)

    def owner(self, position: int) -> Contact | None:
        """:returns: the member that owns ``position``, or None when that is not certain."""
        if not self._ids:
            return None
        nearest_id = self._ids[bisect_right(self._ids, position) - 1]
        start = self._starts.get(nearest_id)
        if start is None or not in_arc(position, start, nearest_id):
            return None
        return self._rpc[nearest_id]

    def following(self, id: int) -> Contact | None:
        """:returns: the member whose arc starts at ``id`` (in a ring of one, itself), or None when
        that is not certain."""
        if not self._ids:
            return None
        next_id = self._next_id(id)
        return self._rpc[next_id] if self._starts.get(next_id) == id else None

    def contacts(self) -> tuple[Contact, ...]:
        """:returns: every member known, by id, whether its arc is known or not."""
        return tuple(self._rpc[id] for id in self._ids)

    def everyone(self) -> tuple[Contact, ...] | None:
        """:returns: all members of the ring, by id; None when that is not certain."""
        if self._everyone_epoch != self.epoch:
            self._everyone_epoch = self.epoch
            before = [*self._ids[1:], *self._ids[:1]]
            is_whole = all(self._starts.get(id) == start for id, start in zip(self._ids, before, strict=True))
            self._everyone = self.contacts() if is_whole and self._ids else None
        return self._everyone

    def size(self) -> float:
        """:returns: how many members the ring has, judged by the arcs that are known: exact when all are, and
        0 when none is."""
        if self._size_epoch != self.epoch:
            self._size_epoch = self.epoch
            known = sum(distance(start, id) or SIZE for id, start in self._starts.items())
            self._size = len(self._starts) * (SIZE / known) if known else 0.0
        return self._size

    def start(self, id: int) -> int | None:
        """:returns: where the arc of the member with this id starts, or None when that is not known."""
        return self._starts.get(id)

    # Inside

    def _name(self, contact: Contact) -> None:
        """``contact`` was named just now: known, no longer in doubt, and the last to be crowded out."""
        known = self._rpc.pop(contact.id, None)
        self._rpc[contact.id] = contact
        self._doubted.discard(contact.id)
        if known is None:
            self._insert(contact.id)
        if known != contact:
            self.epoch += 1

    def _insert(self, id: int) -> None:
        if self._ids:
            self._cut(self._next_id(id), id)
        insort(self._ids, id)
        if len(self._ids) > self._capacity:
            self.forget(next(iter(self._rpc)))

    def _cut(self, id: int, at: int) -> None:
        start = self._starts.get(id)
        if start is not None and between(start, at, id):
            self._starts[id] = at

    def _contradict(self, id: int) -> bool:
        """Somebody's arc reaches past this member.

        :returns: whether it is removed, being in doubt already.
        """
        if id in self._doubted:
            self.forget(id)
            return True
        self._doubted.add(id)
        if self._starts.pop(id, None) is not None:
            self.epoch += 1
        return False

    def _next_id(self, id: int) -> int:
        """:returns: the first known id that the walk meets after ``id`` (at last ``id`` itself)."""
        return self._ids[bisect_left(self._ids, id) - 1]

    def _inside(self, start: int, end: int) -> Iterator[int]:
        """:returns: the known ids strictly between, in the order of the walk; safe to remove as they come."""
        ids, low, high = self._ids, bisect_right(self._ids, end), bisect_left(self._ids, start)
        inside = ids[low:high] if end < start else ids[low:] + ids[:high]
        return reversed(inside)
