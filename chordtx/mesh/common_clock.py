"""What a node and its neighbours take for the time: the median of their wall clocks.

Broadcasts carry the time of their origin, and are dropped when they are a minute old. By its own clock alone
a node whose clock is wrong by more would drop what everyone says, and be heard by nobody, until its clock is
right. So both the time that a broadcast is given and its age go by this clock. Where most clocks of a
neighbourhood are right, so is the median. Two nodes alone meet in the middle: that is wrong, but the same for
both.

A peer that holds most of a node's links can shift the median, and make the node drop broadcasts or take old
ones once more. Such a peer can keep broadcasts from the node anyway. And what is taken is remembered on
monotonic time, so no message goes round for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import inf
from statistics import median
from typing import Protocol

_LOOK_SECONDS = 1.0
#: A clock that shows less or more than this (some 35,000 years) counts for nothing: peers can say any number.
_SENSIBLE_SECONDS = (0.0, float(1 << 40))


class ClockOfPeer(Protocol):
    """A link to one of our own nodes: each call and answer says what time it is there.

    :ivar clock_ahead_seconds: the peer's wall clock less our monotonic time; None while unknown.
    """

    clock_ahead_seconds: float | None


class CommonClock:
    """The clock of one node's neighbourhood. It may jump as a wall clock does, but not with one alone.

    :param monotonic: our clock that only runs forward, in seconds. :param wall_clock: our own, seconds, UTC.
    :param links: gives the links to neighbours.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
        links: Callable[[], Iterable[ClockOfPeer]],
    ) -> None:
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._links = links
        self._looked_at = -inf
        self._ahead_seconds = 0.0

    def seconds(self) -> float:
        """The time, in seconds, UTC."""
        now = self._monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._ahead_seconds = median([self._wall_clock() - now, *self._others(now)])
        return self._ahead_seconds + now

    def _others(self, now: float) -> Iterator[float]:
        earliest, latest = _SENSIBLE_SECONDS
        for link in self._links():
            ahead_seconds = link.clock_ahead_seconds
            if ahead_seconds is not None and earliest <= ahead_seconds + now < latest:
                yield ahead_seconds
