"""From other threads into the reactor's, and from there to listeners. Knows nothing of services."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import crochet
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from chordtx.mesh.events import WAITING_MAX

T = TypeVar("T")
_PAGE = 256  # entries that one trip to the reactor's thread fetches


def start() -> None:
    """Have the reactor run in a thread, unless it does already."""
    crochet.setup()


def reactor() -> Any:
    """Twisted's reactor: only to be imported once it is known which one the program wants."""
    from twisted.internet import reactor

    return reactor


def call(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``work`` in the reactor's thread, and wait for its result, or for that of its Deferred.

    In the reactor's thread itself there is no waiting.

    :raises RuntimeError: there, when the result is not there at once.
    """
    if not isInIOThread():
        return crochet.run_in_reactor(work)(*args, **kwargs).wait(threading.TIMEOUT_MAX)
    result = work(*args, **kwargs)
    if not isinstance(result, Deferred):
        return result
    outcome: list[Any] = []
    result.addBoth(outcome.append)
    if not outcome:
        raise RuntimeError("a handler of messages must not wait: start a thread, or use an event")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    return outcome[0]


def start_only(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As :func:`call`; but in the reactor's thread, where nobody can wait, the work is only begun."""
    if not isInIOThread():
        return call(work, *args, **kwargs)
    result = work(*args, **kwargs)
    if isinstance(result, Deferred):
        result.addErrback(lambda failure: Logger().failure("what a handler began has failed", failure))
        return None
    return result


def iterate(begin: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """What an asynchronous iterator gives, fetched a page at a time.

    :param begin: makes the iterator; called in the reactor's thread.
    """
    source: AsyncGenerator[T, None] = call(begin)

    async def page() -> list[T]:
        entries: list[T] = []
        async for entry in source:
            entries.append(entry)
            if len(entries) == _PAGE:
                break
        return entries

    try:
        while entries := cast("list[T]", call(lambda: Deferred.fromCoroutine(page()))):
            yield from entries
    finally:
        call(lambda: Deferred.fromCoroutine(_closed(source)))


async def _closed(source: AsyncGenerator[Any, None]) -> None:
    await source.aclose()


class Listeners:
    """A thread in which listeners are called, in the order of the events, and may wait as they like.

    It is started with the first listener, and does not keep the program from ending.

    :param log: for their failures, and for events that are dropped because too many wait; used in the
        reactor's thread only.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._queue: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def calls(self, listener: Callable[..., Any]) -> Callable[..., None]:
        """:returns: what hands a call of ``listener`` over to the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="chordtx listeners", daemon=True)
            self._thread.start()
        return lambda *args: self._tell(listener, args)

    def stop(self) -> None:
        """End the thread, once all that has happened is told."""
        self._queue.put(None)

    def _tell(self, listener: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if self._queue.qsize() < WAITING_MAX:
            self._queue.put((listener, args))
        else:
            self._log.warn("an event is dropped: too many wait for listeners that are slow")

    def _run(self) -> None:
        while entry := self._queue.get():
            listener, args = entry
            try:
                listener(*args)
            except Exception:
                reactor().callFromThread(self._log.failure, "a listener failed", Failure())
