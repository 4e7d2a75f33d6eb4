"""How many messages a peer may send in a second. Pure: it is given the times, in seconds."""

from __future__ import annotations


class Rate:
    """Counts the messages of the second under way.

    :param per_second_max: past it, nothing more is read until the second is over.
    """

    __slots__ = ("_count", "_max", "_since")

    def __init__(self, per_second_max: int) -> None:
        self._max = per_second_max
        self._since = 0.0
        self._count = 0

    def counted(self, now: float) -> float:
        """Count one message.

        :returns: for how many seconds nothing more is to be read; 0 for as long as all is well.
        """
        if not 0.0 <= now - self._since < 1.0:
            self._since, self._count = now, 0
        self._count += 1
        return self._since + 1.0 - now if self._count >= self._max else 0.0
