"""A few threads of our own for one kind of work that blocks, so that no other kind ever waits behind it.

The reactor's pool is shared by all of a process: names that are slow to look up would stop the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from chordtx.errors import ChordError

T = TypeVar("T")


class TooMuchWork(ChordError):
    """Too much waits for the threads already: nothing more is taken."""


class Threads:
    """Threads that are started when there is work, and end when :meth:`stop` is called.

    They are daemons: a call that blocks for long does not keep the process from ending.

    :param name: what they are called. :param count_max: how many work at once.
    :param waiting_max: how much work may wait for them; more is refused. None: any amount.
    """

    def __init__(self, reactor: Any, name: str, count_max: int, waiting_max: int | None = None) -> None:
        self._reactor = reactor
        self._name = name
        self._count_max = count_max
        self._waiting_max = waiting_max
        self._queue: SimpleQueue[tuple[Callable[[], Any], Deferred[Any]] | None] = SimpleQueue()
        self._count = 0
        self._under_way = 0

    def run(self, work: Callable[[], T]) -> Deferred[T]:
        """Call ``work`` in one of the threads.

        :returns: fires with what it returns, or fails with what it raises; fails with :class:`TooMuchWork`
            when too much waits. Cancelling it does not stop the work.
        """
        if self._waiting_max is not None and self._under_way >= self._count_max + self._waiting_max:
            return fail(TooMuchWork(f"too much waits for the threads of {self._name}"))
        self._under_way += 1
        if self._count < min(self._count_max, self._under_way):
            self._count += 1
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        done: Deferred[T] = Deferred()
        self._queue.put((work, done))
        return done

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            work, done = task
            try:
                outcome = work()
            except Exception:
                outcome = Failure()
            self._reactor.callFromThread(self._ended, done, outcome)

    def _ended(self, done: Deferred[Any], outcome: Any) -> None:
        self._under_way -= 1
        done.callback(outcome)  # a Failure makes it fail

    def stop(self) -> None:
        """Each thread ends when it has nothing more to do; nobody waits for that."""
        for _ in range(self._count):
            self._queue.put(None)
        self._count = 0
