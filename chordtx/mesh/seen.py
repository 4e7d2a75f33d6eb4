"""Which broadcasts were met before: bounded in number and in age."""

from __future__ import annotations


class SeenBroadcasts:
    """Ids of broadcasts, each with its time (whole seconds, UTC), oldest forgotten first.

    :param count_max: most ids kept.
    :param age_seconds_max: older broadcasts are dropped anyway (the protocol's 60).
    """

    def __init__(self, count_max: int, age_seconds_max: int) -> None:
        self._count_max = count_max
        self._age_seconds_max = age_seconds_max
        self._met: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._met)

    def first_time(self, message_id: bytes, message_time: int, now: float) -> bool:
        """Note a broadcast; whether it is new and not too old.

        One from the future is kept for as long as one from now: a wrong clock must not fill the memory.
        """
        if message_time < now - self._age_seconds_max:
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
