"""The finger table: shortcuts that double their reach, so that a lookup takes O(log N) hops.

Finger i of a node is the successor of the position 2**i further along the walk (Stoica et al., "Chord:
A Scalable Peer-to-peer Lookup Protocol for Internet Applications", IEEE/ACM ToN 2003, section IV-D).
Of 384 slots only O(log N) hold distinct nodes, so only those are kept: for each power of two the
nearest known node at least that far and less than twice as far. Slot i is the first of them from i up.

Fingers make lookups fast, never right: a missing or dead one costs hops only.
"""

from __future__ import annotations

from chordtx.ring.contact import Contact
from chordtx.ring.space import BITS, SIZE, distance


class FingerTable:
    """One node's fingers.

    :param me: id of the node.
    """

    def __init__(self, me: int) -> None:
        self._me = me
        self._nearest: dict[int, Contact] = {}  # power of two -> nearest node in [2**i, 2**(i+1))
        self._slot = BITS

    def next_target(self, successor: Contact | None) -> int | None:
        """The position to look up next, to learn its finger: round robin, the farthest first.

        Slots that the successor covers are skipped, since their finger is the successor itself.

        :param successor: the node's first successor.
        :returns: None when there is nothing to look up.
        """
        if successor is None or successor.id == self._me:
            return None
        first = distance(self._me, successor.id).bit_length()  # the least i with 2**i beyond the successor
        if first == BITS:
            return None
        self._slot = self._slot - 1 if self._slot > first else BITS - 1
        return (self._me - (1 << self._slot)) % SIZE

    def learn(self, contact: Contact) -> None:
        """``contact`` is a member; it is kept where no nearer one is known."""
        ahead = distance(self._me, contact.id)
        if not ahead:
            return
        power = ahead.bit_length() - 1
        known = self._nearest.get(power)
        if known is None or ahead <= distance(self._me, known.id):
            self._nearest[power] = contact

    def forget(self, id: int) -> None:
        """The node with this id is gone."""
        power = distance(self._me, id).bit_length() - 1
        known = self._nearest.get(power)
        if known is not None and known.id == id:
            del self._nearest[power]

    def has(self, id: int) -> bool:
        """:returns: whether the node with this id is one of the fingers."""
        known = self._nearest.get(distance(self._me, id).bit_length() - 1)
        return known is not None and known.id == id

    def contacts(self) -> tuple[Contact, ...]:
        """:returns: the distinct fingers, the nearest first."""
        return tuple(self._nearest[power] for power in sorted(self._nearest))
