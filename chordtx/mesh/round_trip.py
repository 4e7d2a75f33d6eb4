"""How long to wait for a link's answer: from its measured round trips, never a fixed time.

Jacobson's estimator as TCP uses it (RFC 6298): smoothed mean plus four mean deviations.
Pure: it is given the times.
"""

from __future__ import annotations

_GAIN = 1 / 8
_DEVIATION_GAIN = 1 / 4


class RoundTrip:
    """The round trip of one link, in seconds.

    :param timeout_seconds_min: the least :attr:`timeout_seconds`; above the pauses that a busy machine makes.
    :param timeout_seconds_max: the most, and what counts before anything is measured.
    :ivar mean_seconds: the smoothed round trip; before any measurement, the longest time-out.
    """

    __slots__ = ("_deviation", "_max", "_mean", "_min", "mean_seconds")

    def __init__(self, timeout_seconds_min: float, timeout_seconds_max: float) -> None:
        self._min = timeout_seconds_min
        self._max = timeout_seconds_max
        self._mean: float | None = None
        self.mean_seconds = timeout_seconds_max
        self._deviation = 0.0

    def measured(self, seconds: float) -> None:
        """Take one measurement in."""
        if self._mean is None:
            self._mean = self.mean_seconds = seconds
            self._deviation = seconds / 2
            return
        error = seconds - self._mean
        self._mean = self.mean_seconds = self._mean + _GAIN * error
        self._deviation += _DEVIATION_GAIN * (abs(error) - self._deviation)

    @property
    def timeout_seconds(self) -> float:
        """After this long without an answer the link counts as dead."""
        if self._mean is None:
            return self._max
        return min(self._max, max(self._min, self._mean + 4 * self._deviation))
