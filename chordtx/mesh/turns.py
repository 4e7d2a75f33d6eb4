"""Shares the reactor's turns between the links of a node: no peer takes a turn for itself.

A turn is what happens between two looks of the reactor at its sockets. What links are asked to do is done at
once while the turn's budget lasts. What is left then is done in later turns, a piece for each link in turn.

To know that a turn has ended costs a call of the reactor, so nobody asks while little was done: work is
counted, and only once it adds up to a part of the budget is the end of the turn waited for.
"""

from __future__ import annotations

from typing import Any, Protocol

_MARK_SHARE = 0.4


class Worker(Protocol):
    """What has work to do, piece by piece: one link."""

    def work(self) -> bool:
        """Do one piece. May not raise.

        :returns: whether there is more to do at once.
        """


class Turns:
    """The turns of one node.

    :param reactor: gives ``seconds`` and ``callLater``.
    :param budget_seconds: the time that links may take together of one turn.
    """

    def __init__(self, reactor: Any, budget_seconds: float) -> None:
        self._reactor = reactor
        self._budget_seconds = budget_seconds
        self._spent_seconds = 0.0
        self._began_at: float | None = None
        self._waiting: dict[Worker, None] = {}
        self._next_call: Any = None

    @property
    def is_over(self) -> bool:
        """Whether this turn's budget is spent: what is left to do is for later, see :meth:`wait`."""
        spent = self._spent_seconds
        if self._began_at is not None:
            spent += self._reactor.seconds() - self._began_at
        return spent >= self._budget_seconds

    def begin(self) -> bool:
        """Somebody begins to work.

        :returns: whether there is time for it in this turn; if there is, :meth:`end` must follow.
        """
        if self._spent_seconds >= self._budget_seconds:
            return False
        self._began_at = self._reactor.seconds()
        return True

    def end(self) -> None:
        """The work begun has ended."""
        if self._began_at is None:
            return  # within the work of somebody else
        self._spent_seconds += self._reactor.seconds() - self._began_at
        self._began_at = None
        if self._spent_seconds >= _MARK_SHARE * self._budget_seconds:
            self._call_next()

    def wait(self, worker: Worker) -> None:
        """Have ``worker`` go on in a later turn; once, however often this is asked."""
        self._waiting[worker] = None
        self._call_next()

    def forget(self, worker: Worker) -> None:
        """``worker`` has nothing to do any more."""
        self._waiting.pop(worker, None)

    def stop(self) -> None:
        """Nothing is done any more."""
        self._waiting.clear()
        if self._next_call is not None and self._next_call.active():
            self._next_call.cancel()
        self._next_call = None

    def _call_next(self) -> None:
        if self._next_call is None:
            self._next_call = self._reactor.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._next_call = None
        self._spent_seconds = 0.0
        self._began_at = self._reactor.seconds()
        try:
            while self._waiting:
                worker = next(iter(self._waiting))
                del self._waiting[worker]
                if worker.work():
                    self._waiting[worker] = None
                if self.is_over:
                    break
        finally:  # a bug in one worker keeps no other from its turns
            self.end()
            if self._waiting:
                self._call_next()
