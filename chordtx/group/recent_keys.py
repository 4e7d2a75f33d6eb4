"""Which keys of a partition came and went of late: what its records alone do not tell.

A record tells with its rank when it was last written. That a key came, and did not only change, and that one
went, is kept here for a while, in memory, by every member: so whoever leads next can go on telling watchers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice
from operator import itemgetter

from chordtx.group.rank import Rank

#: More are not kept: there may be very many partitions.
_KEPT_MAX = 500


class RecentKeys:
    """See the module.

    :ivar since: whatever came or went after this rank is known.
    """

    __slots__ = ("_steps", "since")

    def __init__(self, since: Rank) -> None:
        self.since = since
        self._steps: deque[tuple[Rank, bytes, int]] = deque()

    def restart(self, since: Rank) -> None:
        """Another state is there: of what was before it nothing is known."""
        self.since = since
        self._steps.clear()

    def note(self, rank: Rank, key: bytes, kind: int) -> None:
        """A key has come or gone. :param kind: ADDED, DELETED or EXPIRED."""
        steps = self._steps
        steps.append((rank, key, kind))
        if len(steps) > _KEPT_MAX:
            self.since = steps.popleft()[0]

    def between(self, after: Rank, upto: Rank) -> dict[bytes, tuple[Rank, int]]:
        """What became last of each key after one rank, up to another: when it came or went, and how."""
        steps = self._steps
        first = bisect_right(steps, after, key=itemgetter(0))
        return {key: (rank, kind) for rank, key, kind in islice(steps, first, None) if rank <= upto}
