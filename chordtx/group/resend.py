"""When a leader sends again what members have not acknowledged: it was lost, or the answer was."""

from __future__ import annotations

RESEND_SECONDS = 0.5


class Resend:
    """See the module.

    :param first: the sequence that a lead begins with.
    :ivar expected: up to this sequence all members have had the time to acknowledge.
    """

    __slots__ = ("_newest", "_since", "expected")

    def __init__(self, now: float, first: int) -> None:
        self._since = now
        self._newest = self.expected = first

    def due(self, now: float, newest: int) -> int:
        """:param newest: the sequence of the newest change.
        :returns: up to which sequence members ought to have acknowledged; -1 when it is too early to ask.
        """
        if now < self._since + RESEND_SECONDS:
            return -1
        self.expected = self._newest
        self._since, self._newest = now, newest
        return self.expected
