"""How much one peer may cost in a second, counted in what its messages take decoded. Pure: it is given the
times, in seconds."""

from __future__ import annotations


class Quota:
    """A bucket that fills at a steady rate, and may be overdrawn by one message.

    :param bytes_per_second: at which it fills. :param bytes_max: what it holds when it is full.
    """

    __slots__ = ("_at", "_bytes", "_max", "_per_second")

    def __init__(self, bytes_per_second: float, bytes_max: float) -> None:
        self._per_second = bytes_per_second
        self._max = self._bytes = bytes_max
        self._at = 0.0

    def spend(self, count: int, now: float) -> float:
        """Take ``count`` bytes out.

        :returns: for how many seconds nothing more may be taken; 0 for as long as all is well.
        """
        self._bytes = min(self._max, self._bytes + (now - self._at) * self._per_second) - count
        self._at = now
        return max(0.0, -self._bytes / self._per_second)
