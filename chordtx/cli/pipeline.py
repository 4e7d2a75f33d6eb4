"""Many Deferreds under way at once, up to a bound."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure


class Pipeline:
    """Keeps up to ``width`` pieces of work under way; the first that fails ends it.

    Used as ``async with``: leaving the block waits for what is under way, and raises the first failure.
    An error inside the block cancels what is under way.
    """

    def __init__(self, width: int) -> None:
        """:param width: how many pieces may be under way at once."""
        self._width = width
        self._free = DeferredSemaphore(width)
        self._under_way: dict[Hashable, Deferred[Any]] = {}
        self._failure: Failure | None = None

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for working in list(self._under_way.values()):
                working.cancel()
        await self._drained()
        if error is None:
            self._raise_failure()

    async def add(self, name: Hashable, start: Callable[[], Deferred[Any]]) -> None:
        """Start a piece of work as soon as there is room.

        :param name: what it works on; two pieces of the same name run one after the other, in order.
        :raises Exception: the failure of an earlier piece; this one is not started then.
        """
        if name in self._under_way:
            await self._drained()
        await self._free.acquire()
        if self._failure is not None:
            self._free.release()
            self._raise_failure()
        working = start()
        self._under_way[name] = working
        working.addBoth(self._ended, name)

    def _ended(self, result: object, name: Hashable) -> None:
        del self._under_way[name]
        if isinstance(result, Failure) and self._failure is None:
            self._failure = result
        self._free.release()

    async def _drained(self) -> None:
        """Wait until nothing is under way: until all room is ours."""
        taken = 0
        try:
            while taken < self._width:
                await self._free.acquire()
                taken += 1
        finally:  # who waits may be cancelled
            for _ in range(taken):
                self._free.release()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()
