"""Which keys of a partition came and went of late: what its records alone do not tell.

A record tells with its rank when it was last written. That a key came, and did not only change, and that one
went, is kept here for a while, in memory, by every member: so whoever leads next can go on telling watchers.
It goes along with copies of a whole state, for a newcomer may lead next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from itertools import islice, pairwise
from operator import itemgetter
from typing import NamedTuple

from chordtx.errors import ProtocolError
from chordtx.group.operations import ADDED, DELETED, EXPIRED
from chordtx.group.rank import ARRAYS, Rank, rank_from_wire

#: More are not kept: there may be very many partitions.
_KEPT_MAX = 500
#: About so many bytes go along with a copy: keys may be long.
_SENT_BYTES_MAX = 32 << 10
_STEP_BYTES = 64

Step = tuple[Rank, bytes, int]


class Recent(NamedTuple):
    """What goes along with a copy of a state.

    :ivar since: whatever came or went after this rank, up to that of the state, is in it.
    :ivar steps: when a key came or went, which, and how: ADDED, DELETED or EXPIRED; the oldest first.
    """

    since: Rank
    steps: tuple[Step, ...]


class RecentKeys:
    """See the module.

    :ivar since: whatever came or went after this rank is known.
    """

    __slots__ = ("_steps", "since")

    def __init__(self, since: Rank) -> None:
        self.since = since
        self._steps: deque[Step] = deque()

    def restart(self, since: Rank) -> None:
        """Another state is there: of what was before it nothing is known."""
        self.since = since
        self._steps.clear()

    def sent(self) -> Recent:
        """The newest, as many as may go along with a copy."""
        room, first = _SENT_BYTES_MAX, len(self._steps)
        for _, key, _ in reversed(self._steps):
            room -= _STEP_BYTES + len(key)
            if room < 0:
                break
            first -= 1
        since = self._steps[first - 1][0] if first else self.since
        # One change may have removed many keys: all of them are known, or none.
        return Recent(since, tuple(step for step in islice(self._steps, first, None) if step[0] > since))

    def copied(self, recent: Recent, upto: Rank) -> None:
        """A copy of a state is there, and this came along. :param upto: the rank of the state."""
        self.restart(min(recent.since, upto))
        self._steps.extend(step for step in recent.steps if step[0] <= upto)

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


def recent_from_wire(obj: object) -> Recent:
    """:raises ProtocolError: when ``obj`` is nothing like a :class:`Recent`."""
    if not isinstance(obj, ARRAYS) or len(obj) != 2 or not isinstance(obj[1], ARRAYS):
        raise ProtocolError("recent keys are [rank, steps]")
    if len(obj[1]) > _KEPT_MAX:
        raise ProtocolError(f"at most {_KEPT_MAX} recent keys go along with a copy")
    since, steps = rank_from_wire(obj[0]), tuple(map(_step_from_wire, obj[1]))
    ranks = [since, *(rank for rank, _, _ in steps)]
    if any(before > after for before, after in pairwise(ranks)):
        raise ProtocolError("recent keys come in their order")
    return Recent(since, steps)


def _step_from_wire(obj: object) -> Step:
    if isinstance(obj, ARRAYS) and len(obj) == 3:
        rank, key, kind = obj
        if type(key) is bytes and type(kind) is int and kind in (ADDED, DELETED, EXPIRED):
            return rank_from_wire(rank), key, kind
    raise ProtocolError("a recent key is [rank, key, kind]")
