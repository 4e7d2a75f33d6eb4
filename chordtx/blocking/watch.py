"""Watches for programs without an event loop: see :meth:`chordtx.ChordService.watch`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

from twisted.internet.defer import Deferred

from chordtx.blocking import bridge
from chordtx.chord import watching
from chordtx.chord.watching import Event
from chordtx.errors import Stopped


class Watch(Iterator[Event]):
    """What becomes of keys: ``for event in watch`` waits for one event after another.

    It ends with :meth:`close`, which another thread may call, and with the end of a ``with`` block. One
    thread reads it at a time. See :class:`chordtx.Event`.
    """

    def __init__(self, watch: watching.Watch) -> None:
        self._watch = watch
        self._kept: deque[Event] = deque()

    def __next__(self) -> Event:
        if not self._kept:
            bridge.call(lambda: Deferred.fromCoroutine(self._next()))
        if not self._kept:
            raise StopIteration
        return self._kept.popleft()

    async def _next(self) -> None:
        """Fetch an event. What interrupts the wait for it, as Ctrl-C, leaves it to who asks next."""
        async for event in self._watch:
            self._kept.append(event)
            return

    def close(self) -> None:
        """End it. In a forked process this does nothing: the watch goes on in the parent."""
        if not bridge.is_forked():
            with suppress(Stopped):
                bridge.call(lambda: Deferred.fromCoroutine(self._watch.aclose()))

    def __del__(self) -> None:
        # Whoever throws it away half read shall not be told any more. Nothing may wait here: it is called
        # wherever the last reference goes.
        if not bridge.is_forked():
            watch = self._watch
            bridge.reactor().callFromThread(lambda: Deferred.fromCoroutine(watch.aclose()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
