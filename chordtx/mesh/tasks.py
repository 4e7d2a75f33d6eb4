"""Work under way, kept in one place: it ends with its service, and no failure of it is lost."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.errors import ChordError, Stopped

T = TypeVar("T")
_CANCELLATIONS_MAX = 10


class Tasks:
    """Coroutines under way.

    :param log: where the failures of what nobody waits for go.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._running: dict[Deferred[Any], None] = {}  # in order, for those that are cancelled are
        self._stopped = False

    def start(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine that nobody waits for; its failure is logged.

        :returns: fires as it ends; cancelling it cancels the work.
        """
        return self.run(work).addErrback(self._log_failure)

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
        """End everything that is under way, and take nothing more."""
        self._stopped = True
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
        if self._stopped and isinstance(outcome, Failure) and outcome.check(CancelledError):
            return Failure(Stopped("the service was stopped"))
        return outcome

    def _log_failure(self, failure: Failure) -> None:
        if failure.check(CancelledError, Stopped):
            return
        if failure.check(ChordError):
            self._log.info("given up: {error}", error=failure.getErrorMessage())
        else:
            self._log.failure("work in the background failed", failure=failure)
