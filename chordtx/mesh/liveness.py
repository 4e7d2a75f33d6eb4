"""Whether the peer of one link lives. Pure: it is given the times, in seconds.

Whatever comes from the peer is a sign of life. A link that was silent for a while is asked, and one that
stays silent after that, for longer than its round trips allow, is dead. A peer that is merely busy answers
late, and one whose answer is queued behind other data sends that data: neither is silent.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What is to be done about a link."""

    FINE = enum.auto()
    ASK = enum.auto()
    DEAD = enum.auto()


class Liveness:
    """Signs of life of one peer.

    :ivar heard_at: when something last came. :ivar asked_at: when the question was sent that is still open.
    """

    __slots__ = ("asked_at", "heard_at")

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.asked_at: float | None = None

    def heard(self, now: float) -> None:
        """Something came from the peer, be it half a frame."""
        self.heard_at = now
        self.asked_at = None

    def sent_on(self, now: float) -> None:
        """What had piled up towards the peer left: until now our question may not have reached it."""
        if self.asked_at is not None:
            self.asked_at = now

    def judge(
        self, now: float, interval: float, patience: float, call_waits_since: float | None = None
    ) -> Verdict:
        """Decide; after :attr:`Verdict.ASK` the question counts as sent.

        :param interval: how long the peer may be silent before it is asked.
        :param patience: how long an answer may take.
        :param call_waits_since: when the oldest call was made that has no answer. A call may rightly take
            long, so this is no question; but it is a reason to ask at once.
        """
        if self.asked_at is not None:
            return Verdict.DEAD if now - self.asked_at > patience else Verdict.FINE
        unanswered = call_waits_since is not None and self.heard_at < call_waits_since < now
        if unanswered or now - self.heard_at >= interval:
            self.asked_at = now
            return Verdict.ASK
        return Verdict.FINE
