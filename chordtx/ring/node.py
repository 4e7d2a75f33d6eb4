"""The Chord node itself: what it heard goes in as events, what it wants done comes out as effects.

Source: Zave, "How to make Chord correct" (2017) and "Reasoning about identifier spaces: how to make
Chord correct" (IEEE TSE 2017). Not the operations of 2001, for which none of the invariants claimed
holds. Rules of this file:

1. A pointer is adopted only from a node just heard from. What others merely name is asked first.
2. A successor list is taken over in one step, from the node that becomes the first successor, with it
   at the front. So a list is full from the start, and skips nobody whom that node does not skip.
3. The first successor is notified after every answer of its own, whether anything changed or not.
4. Events may come late, twice or in any order: each is judged by what is known when it comes.

Beyond the papers, where their proof says nothing: :meth:`RingNode.place_found` merges rings; a list that
a node of a smaller ring offers is filled up from the own one; an id that failed is not copied from
others' lists for some rounds, so that a dead node leaves all lists for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from chordtx.errors import NotJoined
from chordtx.ring.contact import Contact
from chordtx.ring.space import SIZE, between, distance, in_arc
from chordtx.ring.successors import Successors, chain, merged

LIST_LENGTH = 8
FAILED_MAX = 64


@frozen
class Ask:
    """Ask ``contact`` for its predecessor and its list. Ends in :meth:`RingNode.neighbours_answered`, or
    in :meth:`RingNode.failed` when it is dead, late, or no (storing) member of the ring."""

    contact: Contact


@frozen
class Notify:
    """Tell ``contact`` that we may be its predecessor: :meth:`RingNode.notified` over there."""

    contact: Contact


@frozen
class Nudge:
    """Ask ``contact`` to stabilize now: our predecessor, because our list changed, or the one that was,
    because there is another between us. So a change is known everywhere after a few round trips instead
    of as many rounds."""

    contact: Contact


@frozen
class Changed:
    """Our successors, our predecessor or our membership changed."""


Effect = Ask | Notify | Nudge | Changed


class RingNode:
    """One node's place in the ring.

    :param me: the node.
    :param list_length: of the successor list: r in the papers. The ring stays whole while of r
        neighbouring nodes one survives each round of stabilization.
    """

    def __init__(self, me: Contact, list_length: int = LIST_LENGTH) -> None:
        assert list_length > 0
        self.me = me
        self.list_length = list_length
        self._is_member = False
        self._predecessor: Contact | None = None
        self._successors: Successors = ()
        self._complete = False
        self._failed: dict[int, int] = {}  # id -> rounds for which nobody's list is believed about it

    # What is known

    @property
    def successors(self) -> Successors:
        """The members that follow on the walk, the nearest first; none in a ring of one."""
        return self._successors

    @property
    def successor(self) -> Contact | None:
        """The first of them."""
        return self._successors[0] if self._successors else None

    @property
    def predecessor(self) -> Contact | None:
        """The member before on the walk, when known: it has notified us."""
        return self._predecessor

    @property
    def is_member(self) -> bool:
        """Whether it is in a ring."""
        return self._is_member

    @property
    def complete(self) -> bool:
        """Whether the list is known to be the whole ring: the walk through it came round."""
        return self._is_member and self._complete

    @property
    def is_cut_off(self) -> bool:
        """Whether all of a larger ring was lost: r neighbours or more failed at once, or all links did.
        Then :meth:`place_found` or :meth:`join_answered` leads back, or :meth:`create` gives the others
        up; nothing is owned until then."""
        return self._is_member and not self._complete and not self._successors and self._predecessor is None

    def owns(self, position: int) -> bool:
        """Whether ``position`` lies in (predecessor, me]. Never while the predecessor is not known, but
        for the own id."""
        if not self._is_member:
            return False
        if self._predecessor is not None:
            return in_arc(position, self._predecessor.id, self.me.id)
        return position == self.me.id or (self._complete and not self._successors)

    def answer(self, position: int) -> tuple[Contact, ...] | None:
        """find_successor, as far as this node alone can tell.

        :returns: the owner of ``position`` and those that follow it; None when another is to be asked.
        """
        if self.owns(position):
            return (self.me, *self._successors)
        first = self.successor
        if first is not None and in_arc(position, self.me.id, first.id):
            return self._successors
        return None

    def next_hop(self, position: int, candidates: Iterable[Contact]) -> Contact:
        """closest_preceding_node: who is to be asked about ``position``.

        Strictly preceding: a node that looks up its own id must not be sent to itself.

        :param candidates: fingers, and whoever else is connected and in the ring.
        :raises NotJoined: when there is nobody.
        """
        known = [c for c in (*self._successors, *candidates) if c.id != self.me.id]
        if not known and self._predecessor is not None:
            known = [self._predecessor]
        if not known:
            raise NotJoined("no member of the ring is known")
        return min(known, key=lambda contact: distance(contact.id, position) or SIZE)

    def check(self) -> list[str]:
        """Zave's invariants, as far as one node can see them; for tests and for operators.

        :returns: what is broken, one line each: never anything, unless there is a bug.
        """
        ahead = [distance(self.me.id, contact.id) for contact in self._successors]
        broken = {
            "a successor is listed twice": len(set(ahead)) < len(ahead),
            "the successors are not in the order of the walk": ahead != sorted(ahead),
            "the node lists itself as a successor": 0 in ahead,
            "the node is its own predecessor": self._predecessor is not None
            and self._predecessor.id == self.me.id,
            "the successor list is too long": len(ahead) > self.list_length,
            "there are neighbours outside of any ring": not self._is_member
            and bool(ahead or self._predecessor),
        }
        return [what for what, is_so in broken.items() if is_so]

    # Events: membership

    def create(self) -> list[Effect]:
        """Start a ring of one; for a node that is cut off, go on alone."""
        if self._is_member and not self.is_cut_off:
            return []
        self._is_member = self._complete = True
        return [Changed()]

    def join_answered(self, chosen: Contact, successors: Sequence[Contact]) -> list[Effect]:
        """The member that comes after us was queried, and these are its successors. That it does, the
        member before us has confirmed: :class:`~chordtx.ring.PlaceSearch`.

        "Join: find the place, query the chosen node, copy its full list in one step." Stabilization
        follows at once. For a member already, it is an answer like any other.
        """
        if chosen.id == self.me.id:
            return []
        if self._is_member:
            return self.neighbours_answered(chosen, None, successors)
        self._is_member = True
        self._heard_from(chosen)
        self._copy_list(chosen, successors)
        return [Changed(), Ask(chosen)]

    # Events: stabilize

    def stabilize(self) -> list[Effect]:
        """A round of stabilization is due, or the successor has nudged us."""
        if not self._is_member:
            return []
        self._failed = {id: rounds - 1 for id, rounds in self._failed.items() if rounds > 1}
        return self._ask_first()

    def neighbours_answered(
        self, by: Contact, predecessor: Contact | None, successors: Sequence[Contact]
    ) -> list[Effect]:
        """The member ``by`` has answered an :class:`Ask`.

        "Live: list = [it] + its list less the last. If its predecessor lies between: query that node,
        adopt [it] + its list less the last only when it answers. Then notify the first successor."

        :param by: a live, storing member.
        :param predecessor: the one that ``by`` has.
        :param successors: the list that ``by`` has.
        """
        if not self._is_member or by.id == self.me.id:
            return []
        before = self._state()
        self._heard_from(by)
        notify: list[Effect] = []
        if self._is_first(by.id) or self._is_nearer(by):
            self._copy_list(by, successors)
            notify = [Notify(by)]
        elif self._is_unknown_to(by, predecessor, successors):
            notify = [Notify(by)]
        asks = self._ask_nearer(predecessor, successors)
        return self._changes_since(before) + notify + asks

    # Events: rectify

    def notified(self, by: Contact) -> list[Effect]:
        """The live member ``by`` takes us for its first successor.

        "Rectify: adopt x as predecessor if it lies between, or if the present one is dead." Whether that
        is so is found out by asking it: :meth:`failed` clears it, and ``by`` notifies again next round.
        """
        if not self._is_member or by.id == self.me.id:
            return []
        before = self._state()
        self._heard_from(by)
        present = self._predecessor
        asks: list[Effect] = []
        if present is None or present.id == by.id:
            self._predecessor = by
        elif between(present.id, by.id, self.me.id):
            self._predecessor = by
            asks = [Nudge(present)]
        else:
            asks = [Ask(present)]
        return self._changes_since(before) + asks + [ask for ask in self.met(by) if ask not in asks]

    # Events: others come and go

    def met(self, contact: Contact) -> list[Effect]:
        """We have met a live, storing member: it has connected to us, for example.

        It is asked when it lies between us and our successor, and adopted when it answers. It is asked
        too when our list says that it is everyone, and lacks it.
        """
        if not self._is_member or contact.id == self.me.id:
            return []
        is_news = self._complete and all(contact.id != known.id for known in self._successors)
        return [Ask(contact)] if is_news or self._is_nearer(contact) else []

    def place_found(self, owner: Contact) -> list[Effect]:
        """Our own id was looked up through somebody remembered from before, who says that ``owner`` has it.

        In our ring that is ourselves or our first successor. Anybody else shows that there is another
        ring, and is asked: it becomes our successor, or is told of us, and the two rings become one.
        """
        if not self._is_member or owner.id == self.me.id or self._is_first(owner.id):
            return []
        return [Ask(owner)]

    def failed(self, id: int) -> list[Effect]:
        """The node with this id is dead, or as good as that: it is dropped everywhere.

        "Stabilize: dead: drop it and shift." The first that is left is asked for its list.
        """
        if id == self.me.id:
            return []
        self._failed.pop(id, None)
        self._failed[id] = self.list_length
        if len(self._failed) > FAILED_MAX:
            del self._failed[next(iter(self._failed))]
        before = self._state()
        if self._predecessor is not None and self._predecessor.id == id:
            self._predecessor = None
        self._successors = tuple(contact for contact in self._successors if contact.id != id)
        changes = self._changes_since(before)
        return changes + self._ask_first() if changes else []

    def left(self, id: int) -> list[Effect]:
        """The node with this id has left politely: it is gone just the same."""
        return self.failed(id)

    def leave(self) -> list[Effect]:
        """We are about to leave: from now on in no ring."""
        self._is_member = self._complete = False
        self._predecessor = None
        self._successors = ()
        return [Changed()]

    # Inside

    def _is_first(self, id: int) -> bool:
        return bool(self._successors) and self._successors[0].id == id

    def _is_nearer(self, contact: Contact) -> bool:
        """Whether it lies between us and our first successor, so that it ought to be our first successor."""
        if not self._successors:
            return True
        return between(self.me.id, contact.id, self._successors[0].id)

    def _is_unknown_to(self, by: Contact, predecessor: Contact | None, successors: Sequence[Contact]) -> bool:
        """Whether ``by`` is of a ring that does not know us, and that we should come before it in.

        With no predecessor it is a ring of one, or it has just joined; and then it is not for us to take
        that place: it would claim all from us on, whoever lies in between.
        """
        if predecessor is None:
            return not successors
        return between(predecessor.id, self.me.id, by.id)

    def _heard_from(self, contact: Contact) -> None:
        """It lives, whatever was thought of it; and it may have come back at another address."""
        self._failed.pop(contact.id, None)
        if self._predecessor is not None and self._predecessor.id == contact.id:
            self._predecessor = contact

    def _copy_list(self, first: Contact, successors: Sequence[Contact]) -> None:
        """[first] + its list less the last (or less those that have failed).

        A new first successor with a list that is not full is of a smaller ring, or has lost some: what
        we had is kept beside, or a whole ring could hang on one node. From the next round on its word
        alone counts, so that nobody dead is kept for good.
        """
        named = [first, *(contact for contact in successors if contact.id not in self._failed)]
        copied, complete = chain(self.me.id, named, self.list_length)
        if len(copied) < self.list_length and not self._is_first(first.id):
            kept = merged(self.me.id, (*copied, *self._successors), self.list_length)
            complete = complete and len(kept) == len(copied)
            copied = kept
        self._successors, self._complete = copied, complete

    def _ask_first(self) -> list[Effect]:
        nearest = self.successor or self._predecessor
        return [] if nearest is None else [Ask(nearest)]

    def _ask_nearer(self, predecessor: Contact | None, successors: Sequence[Contact]) -> list[Effect]:
        """Of the nodes that an answer named, those worth asking because they lie between us and our first
        successor: the predecessor, as in the papers, and the nearest one in the list."""
        listed = [c for c in successors[: self.list_length] if c.id not in self._failed]
        nearest = min(listed, key=lambda contact: distance(self.me.id, contact.id) or SIZE, default=None)
        asks: list[Effect] = []
        for contact in (predecessor, nearest):
            is_news = contact is not None and contact.id != self.me.id and self._is_nearer(contact)
            if contact is not None and is_news and Ask(contact) not in asks:
                asks.append(Ask(contact))
        return asks

    def _state(self) -> tuple[Contact | None, Successors, bool]:
        return self._predecessor, self._successors, self._complete

    def _changes_since(self, before: tuple[Contact | None, Successors, bool]) -> list[Effect]:
        if self._state() == before:
            return []
        nudges: list[Effect] = []
        if self._successors != before[1] and self._predecessor is not None:
            nudges.append(Nudge(self._predecessor))
        return [Changed(), *nudges]
