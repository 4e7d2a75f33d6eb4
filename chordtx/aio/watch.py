"""Watches for asyncio: see :class:`chordtx.Watch`."""

from __future__ import annotations

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

    async def when_ready(self) -> Self:
        """Done once no change that begins later is missed. :returns: this watch."""
        self._node._must_be_on_loop()
        await result_of(self._watch.when_ready())
        return self

    async def __anext__(self) -> watching.Event:
        self._node._must_be_on_loop()
        event = await result_of(Deferred.fromCoroutine(next_of(self._watch)))
        if event is OVER:
            raise StopAsyncIteration
        return event

    def __del__(self) -> None:
        watch = self._watch
        self._node._call_soon(lambda: Deferred.fromCoroutine(watch.aclose()))

    async def aclose(self) -> None:
        """End it."""
        self._node._must_be_on_loop()
        await result_of(Deferred.fromCoroutine(self._watch.aclose()), at_once=True)
