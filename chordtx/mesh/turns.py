"""Shares the reactor's turns between the links of a node: no peer takes a turn for itself.

A turn is what happens between two looks of the reactor at its sockets. What links are asked to do is done at
once while the turn's budget lasts. What is left then is done in later turns, piece by piece, in fair shares
of the time: next is the link that has had least of it. What its next piece takes is not known, so it counts
for what its last ones took. So whoever asks for little is served before a hundred links that each ask for
much, and nobody waits for ever. (Fair queueing, Demers, Keshav and Shenker 1989, with that estimate.)

To know that a turn has ended costs a call of the reactor, so nobody asks while little was done: work is
counted, and only once it adds up to a part of the budget is the end of the turn waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Protocol

from attrs import define

_MARK_SHARE = 0.4


class Worker(Protocol):
    """What has work to do, piece by piece: one link."""

    def work(self) -> bool:
        """Do one piece. May not raise.

        :returns: whether there is more to do at once.
        """


@define
class _Share:
    """How much of the time a worker has had, compared with the others.

    :ivar until: in seconds; a worker that had nothing to do for a while counts as if it had been served.
    :ivar piece_seconds: what its next piece is expected to take.
    """

    until: float = 0.0
    piece_seconds: float = 0.0


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
        self._waiting: dict[Worker, int] = {}  # -> the number of its entry in the queue
        self._queue: list[tuple[float, int, Worker]] = []
        self._queued = 0
        self._shares: dict[Worker, _Share] = {}
        self._now_served = 0.0  # what somebody has had by now who always wanted some
        self._next_call: Any = None
        self._when_worked: list[Callable[[], None]] = []

    def when_worked(self, call: Callable[[], None]) -> None:
        """Have ``call`` called each time that somebody has worked, and there may be something to send. It may
        not raise."""
        self._when_worked.append(call)

    @property
    def is_working(self) -> bool:
        """Whether somebody works just now, so that what :meth:`when_worked` was given is called soon."""
        return self._began_at is not None

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
        began_at, self._began_at = self._began_at, None
        if began_at is None:
            return  # within the work of somebody else
        for call in self._when_worked:
            call()
        self._spent_seconds += self._reactor.seconds() - began_at
        if self._spent_seconds >= _MARK_SHARE * self._budget_seconds:
            self._call_next()

    def wait(self, worker: Worker) -> None:
        """Have ``worker`` go on in a later turn; once, however often this is asked."""
        if worker not in self._waiting:
            share = self._shares.setdefault(worker, _Share())
            share.until = max(share.until, self._now_served)
            self._enqueue(worker, share)
        self._call_next()

    def forget(self, worker: Worker) -> None:
        """``worker`` has nothing to do any more."""
        self._waiting.pop(worker, None)
        self._shares.pop(worker, None)

    def stop(self) -> None:
        """Nothing is done any more."""
        self._waiting.clear()
        self._queue.clear()
        self._shares.clear()
        if self._next_call is not None and self._next_call.active():
            self._next_call.cancel()
        self._next_call = None

    def _call_next(self) -> None:
        if self._next_call is None:
            self._next_call = self._reactor.callLater(0, self._next_turn)

    def _enqueue(self, worker: Worker, share: _Share) -> None:
        self._queued += 1
        self._waiting[worker] = self._queued
        heappush(self._queue, (share.until + share.piece_seconds, self._queued, worker))

    def _dequeue(self) -> Worker:
        while True:
            _, number, worker = heappop(self._queue)
            if self._waiting.get(worker) == number:  # it may have been forgotten meanwhile
                del self._waiting[worker]
                self._now_served = max(self._now_served, self._shares[worker].until)
                return worker

    def _charge(self, share: _Share, seconds: float) -> None:
        # It goes on with time, or those who come anew again and again would always be first; at half the pace
        # of a share, for it is not to overtake those who wait.
        self._now_served += seconds / (2 * (len(self._waiting) + 1))
        share.until += seconds
        share.piece_seconds = (share.piece_seconds + seconds) / 2

    def _next_turn(self) -> None:
        self._next_call = None
        self._spent_seconds = 0.0
        began_at = now = self._began_at = self._reactor.seconds()
        try:
            while self._waiting:
                worker, before = self._dequeue(), now
                share = self._shares[worker]
                is_more = worker.work()
                now = self._reactor.seconds()
                self._charge(share, now - before)
                if is_more and worker in self._shares and worker not in self._waiting:
                    self._enqueue(worker, share)
                if now - began_at >= self._budget_seconds:
                    break
        finally:  # a bug in one worker keeps no other from its turns
            self.end()
            if self._waiting:
                self._call_next()
