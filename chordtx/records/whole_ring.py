"""Who keeps a key in a ring whose members are all known, fast: by the first 64 bits of ids and positions.

Most rings are known whole, and who keeps a key is asked for each call, and for every key whenever the ring
changes. 64 bits tell positions and ids apart, but for chance or somebody's trying: then all bits are used.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import cycle, islice

from chordtx.records.placement import ReplicaSet, places_taken
from chordtx.ring import BITS, TOP_BITS, TOPS, Contact, distance, ring_positions, tops_of

_TOP_SHIFT = BITS - TOP_BITS
_REMEMBERED_MAX = 50_000


class WholeRing:
    """A ring at one moment.

    :param everyone: its members, by id. :param replicas: how many keep a key.
    :param own_id: of who wants to know. Where all members keep everything, those come first whose walk comes
        to it soonest: so not everyone asks the same ones first.
    :ivar everyone: as given.
    """

    def __init__(self, everyone: tuple[Contact, ...], replicas: int, own_id: int = 0) -> None:
        self.everyone = everyone
        self._replicas = replicas
        self._tops = [contact.id >> _TOP_SHIFT for contact in everyone]
        self._are_tops = frozenset(self._tops)
        self._sets: dict[tuple[int, ...], ReplicaSet] = {}  # by the places of the positions' owners
        self._all: ReplicaSet | None = None
        if len(everyone) <= replicas:  # each keeps everything, and no key has to be hashed
            self._all = ReplicaSet.of(sorted(everyone, key=lambda contact: distance(contact.id, own_id)))

    def replica_set(self, key: bytes, tops: bytes | None = None) -> ReplicaSet:
        """Who keeps a key; mostly the same object for those whose positions have the same owners.

        :param tops: what :func:`~chordtx.ring.tops_of` gives for it, for who has that already.
        """
        if self._all is not None:
            return self._all
        positions = TOPS.unpack(tops_of(key) if tops is None else tops)
        if not self._are_tops.isdisjoint(positions):
            return self._found([contact.id for contact in self.everyone], ring_positions(key))
        ids = self._tops
        first, second, third, fourth, fifth = positions
        # Written out, for this is what a change of the ring costs, for every key.
        owners = (
            bisect_right(ids, first),
            bisect_right(ids, second),
            bisect_right(ids, third),
            bisect_right(ids, fourth),
            bisect_right(ids, fifth),
        )
        known = self._sets.get(owners)
        if known is None:
            known = self._found(ids, positions)
            if len(self._sets) < _REMEMBERED_MAX:
                self._sets[owners] = known
        return known

    def _found(self, ids: Sequence[int], positions: Sequence[int]) -> ReplicaSet:
        taken = places_taken(ids, islice(cycle(positions), self._replicas), self._replicas)
        return ReplicaSet.of([self.everyone[place] for place in taken])
