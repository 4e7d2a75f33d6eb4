"""When a node tries to become leader: soon, but seldom at the same moment as another; in vain, ever more
seldom."""

from __future__ import annotations

from chordtx.group.turn import Randomness, Turn

#: Between those who might try, so that they seldom do at once.
_APART_SECONDS = 0.15
#: After this many tries in vain the pauses grow no longer: some 20 s.
_VAIN_MAX = 6


class Tries:
    """See the module.

    :ivar at: when it tries next, by the lease clock; None when it does not.
    """

    def __init__(self, turn: Turn, rng: Randomness) -> None:
        self.at: float | None = None
        self._turn = turn
        self._rng = rng
        self._vain = 0

    def apart(self) -> float:
        """A time that nobody else is likely to wait."""
        return _APART_SECONDS * (1 + self._rng.random())

    def after(self, seconds: float) -> None:
        """It tries, but not before this many seconds have passed."""
        at = self._turn.now + seconds
        self.at = at if self.at is None else max(self.at, at)

    def again(self) -> None:
        """A try was in vain."""
        self.after(self.apart() * 2 ** min(self._vain, _VAIN_MAX))
        self._vain += 1

    def hurry(self) -> None:
        """Somebody asks for a leader, or can be reached again."""
        self._vain = 0
        if self.at is not None:
            self.at = min(self.at, self._turn.now + self.apart())

    def stop(self) -> None:
        """There is a leader."""
        self.at = None
        self._vain = 0

    def is_due(self) -> bool:
        """Whether it is to try now; if so, it is not to try again."""
        if self.at is None or self._turn.now < self.at:
            return False
        self.at = None
        return True
