"""Deferreds with a time limit, and Deferreds that several wait for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, NoReturn, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

T = TypeVar("T")


async def awaited(work: Awaitable[T]) -> T:
    """The result of whatever can be awaited, as a coroutine: Twisted runs nothing else."""
    return await work


def within(seconds: float, reactor: Any, work: Deferred[T], error: Callable[[], Exception]) -> Deferred[T]:
    """Cancel ``work`` when it takes longer than this, and fail with ``error()`` then."""

    def late(*_: Any) -> NoReturn:
        raise error()

    return work.addTimeout(seconds, reactor, onTimeoutCancel=late)


class _Waiting(Generic[T]):
    """Those who wait for one thing, each with a Deferred of their own, which may be cancelled."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[T], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def one_more(self) -> Deferred[T]:
        waiting: Deferred[T] = Deferred(self._forget)
        self._waiting[waiting] = None
        return waiting

    def tell(self, outcome: Any) -> bool:
        """:returns: whether anybody was told; a Failure makes the Deferreds fail."""
        waiting, self._waiting = self._waiting, {}
        told = [each for each in waiting if not each.called]
        for each in told:
            if not each.called:  # what one of them does may cancel another
                each.callback(outcome)
        return bool(told)

    def fail(self, error: Exception) -> bool:
        """:returns: whether anybody was told."""
        return self.tell(Failure(error))

    def _forget(self, waiting: Deferred[T]) -> None:
        self._waiting.pop(waiting, None)


class Shared(Generic[T]):
    """Work that several wait for, each with a Deferred of their own.

    Whoever cancels theirs leaves the others waiting, and the work under way. A failure goes to all who wait,
    and is no more than that when nobody does.
    """

    def __init__(self, work: Deferred[T]) -> None:
        self._work = work
        self._waiting: _Waiting[T] = _Waiting()
        self._outcome: Any = None
        self.is_done = False
        work.addBoth(self._ended)

    def wait(self) -> Deferred[T]:
        """Fires, or fails, as the work does."""
        if not self.is_done:
            return self._waiting.one_more()
        waiting: Deferred[T] = Deferred()
        waiting.callback(self._outcome)
        return waiting

    def cancel(self) -> None:
        """Give the work up."""
        self._work.cancel()

    def _ended(self, outcome: Any) -> None:
        self.is_done, self._outcome = True, outcome
        self._waiting.tell(outcome)


class Gate:
    """Something that many wait for, before it happens or long after.

    :param error: why it cannot happen for now; None when it can.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self._waiting: _Waiting[None] = _Waiting()
        self.is_open = False

    @property
    def error(self) -> Exception | None:
        """Why it cannot happen, or has not happened in time; None otherwise."""
        return self._error

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def when_open(self) -> Deferred[None]:
        """Fires once it has happened; fails once it is known that it cannot."""
        if self._error is not None:
            return fail(self._error)
        if self.is_open:
            return succeed(None)
        return self._waiting.one_more()

    def opened(self) -> None:
        """It has happened."""
        self.is_open, self._error = True, None
        self._waiting.tell(None)

    def failed(self, error: Exception) -> bool:
        """It cannot happen, or holds no more.

        :returns: whether anybody was waiting, and so was told.
        """
        self.is_open, self._error = False, error
        return self._waiting.fail(error)

    def reset(self) -> None:
        """Forget what happened; those who wait go on waiting."""
        self.is_open, self._error = False, None
