"""Where a node is to join: whom it asks, and when it knows for certain who comes after it.

"Join: find the place, query the chosen node, copy its full list in one step" (Zave). In the paper the chosen
node is the member before the place: the joiner lies between it and its first successor, so that the new
list skips nobody whom that member does not skip. The owner of an id alone cannot know that much. It may not
have heard yet of who came between, and its list, taken at the word, would skip a member that nobody skips (a
*principal*), of which there must be enough. So the place is found when two agree: the member before it, that
the owner is its first successor; and the owner, which gives its list.
"""

from __future__ import annotations

from collections.abc import Sequence

from chordtx.ring.contact import Contact
from chordtx.ring.space import between

Heard = tuple[Contact, tuple[Contact, ...]]


class PlaceSearch:
    """The questions of one joining node, an answer at a time.

    :param me: its id.
    :ivar found: the member that comes after it and that one's successors, once that is certain.
    :ivar heard: what each member named as its successors.
    """

    def __init__(self, me: int) -> None:
        self.me = me
        self.found: Heard | None = None
        self.heard: dict[int, Heard] = {}
        self.owner: int | None = None
        self.after: int | None = None

    def answered(
        self, by: Contact, predecessor: Contact | None, successors: Sequence[Contact]
    ) -> Contact | None:
        """The member ``by`` was asked for its neighbours: at first the one that is said to own our id.

        :returns: who is to be asked next. None when the search is over: with ``found``, or because they do
            not agree (yet); then the id is to be looked up again, after a while.
        """
        self.heard[by.id] = (by, tuple(successors))
        if not successors:
            self.found = self.heard[by.id]  # a ring of one
            return None
        first = next((contact for contact in successors if contact.id != self.me), None)
        if first is None:
            return None  # it takes us, as we were before, for its only neighbour
        if between(by.id, self.me, first.id):
            self.after = first.id
        if self.after in self.heard:
            self.found = self.heard[self.after]
            return None
        if self.owner is None or between(self.me, by.id, self.owner):
            self.owner = by.id
        if self.after is None and by.id == self.owner:
            return predecessor if predecessor is not None and predecessor.id != self.me else None
        return first
