"""From other threads into the reactor's, and from there to listeners. Knows nothing of services."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import crochet
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python import threadable
from twisted.python.failure import Failure
from twisted.python.threadable import isInIOThread

from chordtx.errors import Stopped
from chordtx.mesh.events import WAITING_MAX

T = TypeVar("T")
Stop = Callable[[], Deferred[None]]
_PAGE = 256  # entries that one trip to the reactor's thread fetches
_FORKED = (
    "this process was forked from one that uses sockets, and they do not work here: threads do not survive a"
    " fork. Make the first socket after the fork, or start processes afresh (with multiprocessing, its start"
    ' method "spawn")'
)
_IN_THE_REACTOR = (
    "the reactor runs in this thread, which must not wait: use chordtx.ChordService and its like, or make"
    " sockets in another thread (twisted.internet.threads.deferToThread)"
)
_MUST_NOT_WAIT = (
    "nothing may wait in the reactor's thread, which calls handlers: start a thread, or use an event"
)
_RAN_BEFORE = "the reactor was stopped, and cannot run again: make sockets before that"


class _Process:
    """What there is once in a process.

    :ivar user: process id of who uses the reactor; None before the first socket. :ivar open: what ends the
        sockets that are open; touched in the reactor's thread only.
    """

    def __init__(self) -> None:
        self.user: int | None = None
        self.open: list[Stop] = []
        self.lock = threading.Lock()


_process = _Process()


def start() -> None:
    """Have the reactor run in a thread, unless it does already; it may be the program that runs it.

    :raises RuntimeError: in the reactor's thread, where nothing may wait; in a process that was forked from
        one with sockets; and when the reactor was stopped.
    """
    _must_not_be_forked()
    if isInIOThread():
        raise RuntimeError(_IN_THE_REACTOR if reactor().running else _RAN_BEFORE)
    with _process.lock:
        if _process.user is not None:
            return
        known = reactor()
        if getattr(known, "_startedBefore", False):
            raise RuntimeError(_RAN_BEFORE)
        if getattr(threadable, "ioThread", None) is None:  # nobody runs it yet
            crochet.setup()
        else:
            with suppress(RuntimeError):  # it is crochet that runs it, for the program
                crochet.no_setup()
        known.callFromThread(known.addSystemEventTrigger, "before", "shutdown", _end_all)
        _process.user = os.getpid()


def is_forked() -> bool:
    """Whether this process was forked from one that uses the reactor: it does not run here."""
    return _process.user not in (None, os.getpid())


def reactor() -> Any:
    """Twisted's reactor: only to be imported once it is known which one the program wants."""
    from twisted.internet import reactor

    return reactor


def call(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``work`` in the reactor's thread, and wait for its result, or for that of its Deferred.

    In the reactor's thread itself there is no waiting. What is interrupted (by Ctrl-C, say) is cancelled.

    :raises RuntimeError: there, when the result is not there at once; and in a forked process.
    :raises chordtx.errors.Stopped: when the reactor has stopped, as it does when the program ends.
    """
    _must_not_be_forked()
    result = _at_once(work, args, kwargs) if isInIOThread() else _waited_for(work, args, kwargs)
    if isinstance(result, Failure):
        result.raiseException()
    return result


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
        # Also reached when an iterator is thrown away half read, wherever and however late that happens.
        # Nothing may wait here: whoever throws it away may hold what the reactor's thread waits for.
        if not is_forked():
            reactor().callFromThread(lambda: Deferred.fromCoroutine(_closed(source)))


def opened(stop: Stop) -> None:
    """Remember what ends a socket, in case that the program ends first. In the reactor's thread."""
    _process.open.append(stop)


def closed(stop: Stop) -> None:
    """Forget it again. In the reactor's thread."""
    with suppress(ValueError):
        _process.open.remove(stop)


def _end_all() -> Deferred[None]:
    """End the sockets that a program leaves open. The reactor waits for it."""
    return Deferred.fromCoroutine(_end_one_after_another())


async def _end_one_after_another() -> None:
    """The newest first: each can hand over what it has to those that are left."""
    while _process.open:
        stop = _process.open.pop()
        try:
            await stop()
        except Exception:
            Logger().failure("a socket did not end as it should")


def _must_not_be_forked() -> None:
    if is_forked():
        raise RuntimeError(_FORKED)


def _at_once(work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """:returns: the result, or its Failure."""
    outcome: list[Any] = []
    begun = maybeDeferred(work, *args, **kwargs).addBoth(outcome.append)
    if not outcome:
        begun.cancel()
        raise RuntimeError(_MUST_NOT_WAIT)
    return outcome[0]


def _waited_for(work: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """:returns: the result, or its Failure. (crochet would log a failure that nobody fetches.)"""
    kept: list[Failure] = []

    def begin() -> Deferred[Any]:
        return maybeDeferred(work, *args, **kwargs).addErrback(kept.append)

    try:
        waiting = crochet.run_in_reactor(begin)()
        try:
            result = waiting.wait(threading.TIMEOUT_MAX)
        except BaseException:
            waiting.cancel()
            raise
    except crochet.ReactorStopped:
        raise Stopped("the reactor has stopped, as it does when the program's main thread ends") from None
    return kept[0] if kept else result


async def _closed(source: AsyncGenerator[Any, None]) -> None:
    # It may be in the middle of a page, for which nobody waits any more; or the socket is closed.
    with suppress(RuntimeError, Stopped):
        await source.aclose()


class Listeners:
    """A thread in which listeners are called, in the order of the events, and may wait as they like.

    It is started with the first call, and does not keep the program from ending.

    :param log: for their failures, and for events that are dropped because too many wait; used in the
        reactor's thread only.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._queue: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def calls(self, listener: Callable[..., Any]) -> Callable[..., None]:
        """To be called in the reactor's thread.

        :returns: what hands a call of ``listener`` over to the thread of listeners.
        """
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
            except BaseException:  # SystemExit too: it would end the thread, and nobody would hear of it
                reactor().callFromThread(self._log.failure, "a listener failed", Failure())
