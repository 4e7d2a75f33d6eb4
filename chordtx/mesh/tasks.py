"""Work under way, kept in one place: it ends with its service, and no failure of it is lost."""

from __future__ import annotations

from collections.abc import Coroutine
from inspect import CORO_RUNNING, getcoroutinestate
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.errors import ChordError, Stopped
from chordtx.mesh.loop import Loop, Pause, Round

T = TypeVar("T")
_CANCELLATIONS_MAX = 10


class Tasks:
    """Coroutines under way, and loops (see :class:`~chordtx.mesh.loop.Loop`).

    :param log: where the failures of what nobody waits for go. :param reactor: for the pauses of loops.
    """

    def __init__(self, log: Logger, reactor: Any) -> None:
        self._log = log
        self._reactor = reactor
        self._running: dict[Deferred[Any], None] = {}  # in order, for those that are cancelled are
        self._loops: dict[Loop, None] = {}
        self._stopped = False

    @property
    def count(self) -> int:
        """How much is under way."""
        return len(self._running)

    @property
    def loops(self) -> list[Loop]:
        """The loops that go on."""
        return [loop for loop in self._loops if not loop.is_over]

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine that nobody waits for; its failure is logged.

        :returns: fires as it ends; cancelling it cancels the work, even from within the work itself.
        """
        task = self.run(work).addErrback(self._log_failure)
        ended: Deferred[Any] = Deferred(lambda _: self._cancel(work, task, ended))
        task.addBoth(lambda outcome: None if ended.called else ended.callback(outcome))
        return ended

    def _cancel(self, work: Coroutine[Any, Any, Any], task: Deferred[Any], ended: Deferred[Any]) -> None:
        if getcoroutinestate(work) == CORO_RUNNING:  # it cannot be cancelled before it waits for something
            self._reactor.callLater(0, task.cancel)
        else:
            task.cancel()
        if not ended.called:
            ended.callback(None)

    def keep(self, name: str, round: Round, pause: Pause, first_after_seconds: float = 0.0) -> Loop:
        """Do something again and again until the service stops: no failure of a round ends that.

        Every loop of a service is begun here, so that none can die without a word.

        :param name: for the log. :param round: does it once; may be a coroutine function.
        :param pause: gives the seconds until the next round.
        """
        loop = Loop(name, round, pause, self._reactor, self._log)
        self._loops[loop] = None
        self.start(loop.run(first_after_seconds)).addBoth(lambda _: self._loops.pop(loop, None))
        return loop

    def run(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Run a coroutine for somebody who waits.

        :returns: fires as it ends; cancelling it cancels the work. Fails with
            :class:`~chordtx.errors.Stopped` when the service stops first.
        """
        if self._stopped:
            work.close()
            refused: Deferred[T] = Deferred()
            refused.errback(Stopped("the service is stopped"))
            return refused
        task: Deferred[T] = Deferred.fromCoroutine(work)
        if not task.called:
            self._running[task] = None
            task.addBoth(self._ended, task)
        return task

    def cancel(self) -> None:
        """End everything that is under way, and take nothing more.

        Work that is in the middle of a step, as what has called this may be, cannot be cancelled just then:
        to be called again in a later turn while :attr:`count` is above 0.
        """
        self._stopped = True
        for loop in tuple(self._loops):
            loop.stop()
        # Work that waits for several things at once may take one cancellation for the failure of one of them.
        for _ in range(_CANCELLATIONS_MAX):
            for task in tuple(self._running):
                task.cancel()

    def restart(self) -> None:
        """Take work again, after :meth:`cancel`."""
        self._stopped = False

    @property
    def are_stopped(self) -> bool:
        """Whether everything was ended, and nothing more is taken."""
        return self._stopped

    def _ended(self, outcome: Any, task: Deferred[Any]) -> Any:
        self._running.pop(task, None)
        if isinstance(outcome, Failure) and outcome.check(CancelledError):
            # Its traceback is of no use, and would keep what the work had at hand, a link for one.
            outcome.cleanFailure()
            if self._stopped:
                return Failure(Stopped("the service was stopped"))
        return outcome

    def _log_failure(self, failure: Failure) -> None:
        if failure.check(CancelledError, Stopped):
            return
        if failure.check(ChordError):
            self._log.info("given up: {error}", error=failure.getErrorMessage())
        else:
            self._log.failure("work in the background failed", failure=failure)
