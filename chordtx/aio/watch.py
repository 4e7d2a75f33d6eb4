"""Watches for asyncio: see :class:`chordtx.Watch`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Self

from twisted.internet.defer import Deferred

from chordtx.aio.bridge import OVER, Node, next_of, result_of
from chordtx.chord import watching


class Watch(AsyncIterator[watching.Event]):
    """One watch: ``async for event in watch``. It begins when it is made, and ends with :meth:`aclose`, or
    soon after nobody has it any more, as a generator of asyncio's does. See :class:`chordtx.Watch`.
    """

    def __init__(self, node: Node, watch: watching.Watch) -> None:
        self._node = node
        self._watch = watch
        self._kept: deque[watching.Event] = deque()

    async def when_ready(self) -> Self:
        """Done once no change that begins later is missed. :returns: this watch."""
        self._node._must_be_on_loop()
        await result_of(self._watch.when_ready())
        return self

    async def __anext__(self) -> watching.Event:
        self._node._must_be_on_loop()
        if not self._kept:
            await result_of(Deferred.fromCoroutine(self._next()))
        event = self._kept.popleft()
        if event is OVER:
            raise StopAsyncIteration
        return event

    async def _next(self) -> None:
        """Fetch an event. Who is cancelled before it has that leaves it to who asks next."""
        self._kept.append(await next_of(self._watch))

    def __del__(self) -> None:
        watch = self._watch
        self._node._call_soon(lambda: Deferred.fromCoroutine(watch.aclose()))

    async def aclose(self) -> None:
        """End it."""
        self._node._must_be_on_loop()
        await result_of(Deferred.fromCoroutine(self._watch.aclose()), at_once=True)
