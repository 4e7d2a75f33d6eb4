"""What a service does again and again for as long as it runs, whatever goes wrong meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.mesh.deferreds import awaited

#: What is done once; True means that there is no more to do.
Round = Callable[[], Awaitable[bool | None] | bool | None]
Pause = Callable[[], float]

_FAILED_SECONDS_MIN = 0.5
_FAILED_SECONDS_MAX = 10.0
_FAILED_FACTOR = 2.0
_TOLD_AGAIN_SECONDS = 300.0
#: What networks do every day. Anything else that a round raises is a bug of ours: its traceback is logged.
_EXPECTED = (ChordError, ConnectError, ConnectionClosed, OSError, CancelledError)


class Loop:
    """Keepalive, one after the other.

    A round that fails is logged: each kind of error once in a while. The next round comes after a pause that
    grows with each failure. So no error ends the loop: it ends with its service, by :meth:`stop`, or when a
    round says that there is no more to do.

    :param name: for the log. :param round: does what there is to do, once; may be a coroutine function.
    :param pause: gives the seconds after a round that went well. :param reactor: for the pauses.
    :param log: where failures go.
    :ivar rounds: how many have been begun.
    """

    def __init__(self, name: str, round: Round, pause: Pause, reactor: Any, log: Logger) -> None:
        self.name = name
        self.rounds = 0
        self._round = round
        self._pause = pause
        self._reactor = reactor
        self._log = log
        self._failures = 0
        self._told_at: dict[type[BaseException], float] = {}
        self._pausing: Deferred[None] | None = None
        self._under_way: Deferred[bool | None] | None = None
        self._due_at = 0.0
        self._wake_at: float | None = None
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether there will be no more rounds."""
        return self._is_over

    async def run(self, first_after_seconds: float) -> None:
        """Go on until the end."""
        if first_after_seconds:
            await self._wait(first_after_seconds)
        while not self._is_over:
            await self._wait(await self._once())

    def stop(self) -> None:
        """No more rounds; one that is under way comes to its end."""
        self._is_over = True
        self._end_pause()

    def cancel(self) -> None:
        """No more rounds, and an end to the one that is under way."""
        self.stop()
        if self._under_way is not None:
            self._under_way.cancel()

    def wake(self, seconds: float) -> None:
        """Let the next round come after this many seconds, unless it comes sooner anyway."""
        at = self._reactor.seconds() + seconds
        if self._pausing is None:
            self._wake_at = at if self._wake_at is None else min(at, self._wake_at)
        elif at < self._due_at:
            self._wake_at = at
            self._end_pause()

    async def _once(self) -> float:
        """One round. :returns: seconds until the next."""
        self.rounds += 1
        try:
            is_done = self._round()
            if isinstance(is_done, Awaitable):
                self._under_way = Deferred.fromCoroutine(awaited(is_done))
                is_done = await self._under_way
            self._is_over |= bool(is_done)
            seconds = self._pause()
        except Exception as error:
            return 0.0 if self._is_over else self._failed(error)
        finally:
            self._under_way = None
        self._failures = 0
        return seconds

    def _failed(self, error: Exception) -> float:
        now = self._reactor.seconds()
        told_at = self._told_at.get(type(error))
        if told_at is None or not 0 <= now - told_at < _TOLD_AGAIN_SECONDS:
            self._told_at[type(error)] = now
            self._tell(error)
        seconds = min(_FAILED_SECONDS_MAX, _FAILED_SECONDS_MIN * _FAILED_FACTOR**self._failures)
        if seconds < _FAILED_SECONDS_MAX:
            self._failures += 1
        return max(seconds, self._pause())

    def _tell(self, error: Exception) -> None:
        if isinstance(error, _EXPECTED):
            said = str(error) or type(error).__name__
            self._log.info("{name} goes on after a failure: {error}", name=self.name, error=said)
        else:
            self._log.failure("{name} goes on after a failure", name=self.name)

    async def _wait(self, seconds: float) -> None:
        """A pause, which :meth:`wake` may shorten."""
        self._due_at = self._reactor.seconds() + seconds
        while not self._is_over:
            if self._wake_at is not None:
                self._due_at = min(self._due_at, self._wake_at)
                self._wake_at = None
            left = self._due_at - self._reactor.seconds()
            await self._sleep(min(max(0.0, left), seconds))
            if self._wake_at is None:
                return

    async def _sleep(self, seconds: float) -> None:
        pausing: Deferred[None] = Deferred(lambda _: timer.cancel())
        self._pausing = pausing
        timer = self._reactor.callLater(seconds, pausing.callback, None)
        try:
            await pausing
        except CancelledError:
            if self._wake_at is None and not self._is_over:
                self._is_over = True  # whoever holds this work has cancelled it
        finally:
            self._pausing = None

    def _end_pause(self) -> None:
        if self._pausing is not None:
            self._pausing.cancel()
