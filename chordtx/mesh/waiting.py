"""Small helps with Deferreds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

T = TypeVar("T")


def within(seconds: float, reactor: Any, work: Deferred[T], error: Callable[[], Exception]) -> Deferred[T]:
    """Cancel ``work`` when it takes longer than this, and fail with ``error()`` then."""

    def late(*_: Any) -> NoReturn:
        raise error()

    return work.addTimeout(seconds, reactor, onTimeoutCancel=late)


class Shared(Generic[T]):
    """Work that several wait for, each with a Deferred of their own.

    Whoever cancels theirs leaves the others waiting. A failure goes to all who wait, and is no more than
    that when nobody does.
    """

    def __init__(self, work: Deferred[T]) -> None:
        self._work = work
        self._waiting: list[Deferred[T]] = []
        self._outcome: Any = None
        self.is_done = False
        work.addBoth(self._ended)

    def wait(self) -> Deferred[T]:
        """Fires, or fails, as the work does."""
        waiting: Deferred[T] = Deferred()
        if self.is_done:
            waiting.callback(self._outcome)
        else:
            self._waiting.append(waiting)
        return waiting

    def cancel(self) -> None:
        """Give the work up."""
        self._work.cancel()

    def _ended(self, outcome: Any) -> None:
        self.is_done, self._outcome = True, outcome
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(outcome)  # a Failure makes it fail


class Gate:
    """Something that many wait for, before it happens or long after."""

    def __init__(self) -> None:
        self._is_open = False
        self._error: Exception | None = None
        self._waiting: list[Deferred[None]] = []

    def when_open(self) -> Deferred[None]:
        """Fires once it has happened; fails once it is known that it cannot."""
        if self._error is not None:
            return fail(self._error)
        if self._is_open:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def opened(self) -> None:
        """It has happened."""
        self._is_open = True
        for waiting in self._taken():
            waiting.callback(None)

    def failed(self, error: Exception) -> bool:
        """It cannot happen, or holds no more.

        :returns: whether anybody was waiting, and so was told.
        """
        self._is_open, self._error = False, error
        told = self._taken()
        for waiting in told:
            waiting.errback(error)
        return bool(told)

    def reset(self) -> None:
        """Forget what happened; those who wait go on waiting."""
        self._is_open, self._error = False, None

    def _taken(self) -> list[Deferred[None]]:
        waiting, self._waiting = self._waiting, []
        return [each for each in waiting if not each.called]
