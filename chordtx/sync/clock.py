"""A hybrid logical clock: near the wall clock, and always above all that was seen.

Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
Databases" (2014). The wall clock is given with each call, never read.
"""

from __future__ import annotations

from chordtx.errors import ProtocolError
from chordtx.sync.version import COUNTER_BITS, Version


class HybridClock:
    """Gives out one node's versions: strictly growing, above everything observed.

    :param writer: the node's id, part of every version.
    :param drift_ms_max: how far ahead of our wall clock another's version may be. Without a bound one
        wrong clock would drag every other along with it.
    """

    def __init__(self, writer: bytes, drift_ms_max: int) -> None:
        self._writer = writer
        self._drift_ms_max = drift_ms_max
        self._clock = 0

    def tick(self, wall_ms: int) -> Version:
        """:returns: a new version. When the wall clock stands still or goes back, the counter goes on
        (and carries over into the milliseconds)."""
        self._clock = max(wall_ms << COUNTER_BITS, self._clock + 1)
        return Version(self._clock, self._writer)

    def observe(self, version: Version, wall_ms: int) -> None:
        """Everything given out from now on is above ``version``.

        :raises ProtocolError: when it is too far ahead of ``wall_ms``; the clock stays as it was.
        """
        ahead_ms = version.time_ms - wall_ms
        if ahead_ms > self._drift_ms_max:
            raise ProtocolError(f"a version is {ahead_ms} ms ahead of our clock")
        self._clock = max(self._clock, version.clock)
