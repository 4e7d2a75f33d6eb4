"""Locks for programs without an event loop: see :class:`chordtx.Lock`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred

from chordtx.blocking import bridge
from chordtx.chord import locking
from chordtx.mesh.deferreds import within


class _TimeIsOver(Exception):
    """The time that somebody would wait for a lock. (A group that does not answer is another matter.)"""


class Lock:
    """A lock with a name: ``with sock.lock("name", ttl=10) as lock``. See :class:`chordtx.Lock`: for what a
    holder that stands still cannot know, and what the token is for.

    The lease is renewed in the reactor's thread, whatever the program's own threads do. An instance is for
    one holder: each thread makes its own.
    """

    def __init__(self, reactor: Any, lock: locking.Lock) -> None:
        self._reactor = reactor
        self._lock = lock

    @property
    def token(self) -> int:
        """Of the present hold, or the last: it only grows."""
        return self._lock.token

    @property
    def is_held(self) -> bool:
        """Whether it is held: until its lease ends nobody else has it."""
        return bool(bridge.call(lambda: self._lock.is_held))

    def acquire(self, wait: bool = True, timeout: float | None = None) -> bool:
        """Hold it. :returns: whether it is held now: not when another has it and ``wait`` is False, nor when
        it was not to be had in ``timeout`` seconds.

        :raises TypeError: when there is something else under the lock's key. :raises chordtx.NoMajority: when
            its group cannot be reached at first. :raises RuntimeError: when this instance holds it.
        """
        begun: list[Deferred[bool]] = []

        def acquire() -> Deferred[bool]:
            begun.append(self._acquire(wait and (timeout is None or timeout > 0), timeout))
            return begun[0]

        try:
            return bool(bridge.call(acquire))
        except BaseException:
            # What interrupts the wait, as Ctrl-C, may come when it is held already.
            if not bridge.is_forked():
                self._reactor.callFromThread(self._given_up, begun)
            raise

    def _given_up(self, begun: list[Deferred[bool]]) -> None:
        if begun:  # else it was somebody else that has it by this instance
            self._lock.given_up()

    def _acquire(self, wait: bool, timeout: float | None) -> Deferred[bool]:
        acquiring = self._lock.acquire(wait)
        if not wait or timeout is None:
            return acquiring
        return within(timeout, self._reactor, acquiring, _TimeIsOver).addErrback(_not_in_time)

    def release(self) -> None:
        """Give it up. Returns once the next one has its turn.

        :raises chordtx.LockLost: when it was lost before. :raises RuntimeError: when it is not held.
        """
        bridge.call(self._lock.release)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        bridge.call(self._lock.left, error)


def _not_in_time(failure: Any) -> bool:
    failure.trap(_TimeIsOver)
    return False
