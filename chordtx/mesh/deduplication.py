"""Deduplication: which broadcasts came before, bounded in number and in age. Pure: it is given the times.

Two clocks take part. How long an id is remembered is a duration, so it is measured on monotonic time: a wall
clock that is set ahead makes the node forget nothing, and one that is set back makes it keep nothing for
longer. How old a message is can be told only from the time that its origin gave it, so that is compared with
a wall clock: see :class:`~chordtx.mesh.common_clock.CommonClock`.
"""

from __future__ import annotations


class SeenBroadcasts:
    """Ids of broadcasts, each with when it was met (monotonic, in seconds), oldest forgotten first.

    :param count_max: most ids kept.
    :param age_seconds_max: older broadcasts are dropped anyway (the protocol's 60).
    """

    def __init__(self, count_max: int, age_seconds_max: int) -> None:
        self._count_max = count_max
        self._age_seconds_max = age_seconds_max
        self._met: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._met)

    def first_time(self, message_id: bytes, message_time: int, now: float, wall_now: float) -> bool:
        """Note a broadcast; whether it is new and not too old.

        One from the future is kept for as long as one from now: a wrong clock must not fill the memory.

        :param message_time: whole seconds, UTC. :param now: monotonic, in seconds.
        :param wall_now: seconds, UTC.
        """
        if message_time < wall_now - self._age_seconds_max:
            return False
        if message_id in self._met:
            return False
        self._met[message_id] = now
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        # Kept twice as long as a message may be old: one that comes from a clock ahead of ours
        # stays young for longer than its arrival suggests.
        horizon = now - 2 * self._age_seconds_max
        while self._met:
            oldest = next(iter(self._met))
            if len(self._met) <= self._count_max and self._met[oldest] >= horizon:
                return
            del self._met[oldest]
