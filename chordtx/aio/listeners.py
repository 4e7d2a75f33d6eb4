"""Listeners and handlers of asyncio programs, called by Twisted's services; and events as an asynchronous
iterator."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from inspect import iscoroutine
from typing import Any, NoReturn

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chordtx.aio.bridge import call_soon
from chordtx.mesh.events import WAITING_MAX, EventEmitter


def begun(result: Any) -> Any:
    """What a listener returned; what it began, as a task of the loop, in the form that Twisted waits for."""
    if not iscoroutine(result) and not isinstance(result, asyncio.Future):
        return result
    work = Deferred.fromFuture(asyncio.ensure_future(result))
    return work.addErrback(_ended_early)


def _ended_early(failure: Failure) -> NoReturn:
    """asyncio's cancellation is no ``Exception``, and nothing in Twisted reckons with it."""
    if failure.check(asyncio.CancelledError):
        raise CancelledError
    failure.raiseException()


@define(frozen=True)
class Listener:
    """A listener as it is registered: called with ``node`` where Twisted's service tells of itself.

    Two are equal when they stand for the same function, so that it can be removed again.
    """

    function: Callable[..., Any]
    node: Any = field(eq=False, repr=False)

    def __call__(self, _: Any, *args: Any) -> Any:
        return begun(self.function(self.node, *args))


class Events(AsyncIterator[tuple[Any, ...]]):
    """Events as they happen, each as a tuple: its name, and what it tells.

    What happens from when it was made waits until it is asked for; past 10,000 the oldest are dropped, and
    that is logged. It ends when the node stops, or with :meth:`close`, once what waits was given. One that
    nobody holds any more, as after a ``break``, is closed.
    """

    def __init__(self, emitter: EventEmitter, names: tuple[str, ...], log: Logger) -> None:
        self._log = log
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._asking: asyncio.Future[None] | None = None
        self._is_over = False
        seen = weakref.WeakMethod(self._happened)
        listeners: list[tuple[str, Callable[..., None]]] = []
        self._remove = partial(_remove, emitter, listeners)
        # In whichever thread it is collected.
        self._collected = weakref.finalize(self, _on_loop, asyncio.get_running_loop(), self._remove)
        for name in names:
            listener = _weakly(seen, name)
            emitter.on(name, listener)  # raises where there is no such event; those before are removed then
            listeners.append((name, listener))

    def close(self) -> None:
        """Hear of nothing more."""
        self._is_over = True
        if self._collected.detach() is not None:
            self._remove()
        self._wake()

    async def __anext__(self) -> tuple[Any, ...]:
        while not self._waiting:
            if self._is_over:
                raise StopAsyncIteration
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._asking)  # several may wait for it
        return self._waiting.popleft()

    def _happened(self, event: tuple[Any, ...]) -> None:
        if len(self._waiting) >= WAITING_MAX:
            name, *_ = self._waiting.popleft()
            self._log.warn("an event {event!r} is dropped: too many wait to be asked for", event=name)
        self._waiting.append(event)
        self._wake()

    def _wake(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None and not asking.done():
            asking.set_result(None)


def _weakly(seen: weakref.WeakMethod[Callable[..., None]], name: str) -> Callable[..., None]:
    """A listener that does not keep the iterator alive."""

    def listener(_: Any, *args: Any) -> None:
        happened = seen()
        if happened is not None:
            happened((name, *args))

    return listener


def _on_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    """Call ``work`` in the loop's thread: at once if this is it."""
    if asyncio._get_running_loop() is loop:
        work()
    else:
        call_soon(loop, work)


def _remove(emitter: EventEmitter, listeners: list[tuple[str, Callable[..., None]]]) -> None:
    for name, listener in listeners:
        emitter.remove_listener(name, listener)
