"""Timers that a change of the system's clock does not move, on a reactor that takes its time from that clock.

Twisted's reactors measure time with ``time.time``. When that clock is set back by an hour, every timer waits
an hour longer; when it is set ahead, every timer fires at once. :func:`steady` wraps such a reactor:

1. :class:`SteadyReactor` keeps the calls that are to come in a heap of its own, by monotonic time. It has the
   wrapped reactor call back once, at the time of the earliest.
2. A clock that is set ahead makes that happen too early: nothing is due, and the rest is waited for.
3. Calls for the next turn, by far the most, never see the heap: they wait in a list, and the wrapped reactor
   calls back once for all of them.
4. A clock that is set back would make all this happen too late, and the reactor sleeps meanwhile. So
   :class:`ClockWatch`, one thread for the whole process, looks once a second and wakes the reactor then.

Services get the real clocks from here, unless they are given others. This module knows nothing of services.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.logger import Logger
from zope.interface import directlyProvides, providedBy

_LOOK_SECONDS = 1.0
#: The clock counts as set back from here on. Corrections that only slow a clock down move timers by less.
_SET_BACK_SECONDS = 0.1
#: Cancelled calls are thrown out of the heap when they are more than this, and more than half of it.
_CANCELLED_MAX = 50


def wall_clock_of(reactor: Any) -> Callable[[], float]:
    """The wall clock of a reactor's world, Unix time in seconds: the system's, which may be set, forward and
    back; a simulated one knows its own time."""
    if IReactorFromThreads.providedBy(reactor):
        return time.time
    seconds: Callable[[], float] = reactor.seconds
    return seconds


def lease_clock_of(reactor: Any) -> Callable[[], float]:
    """A clock for leases in a reactor's world, in seconds: it only runs forward, and counts while the machine
    sleeps, where the system has one that does; a simulated reactor has one clock for all."""
    if not IReactorFromThreads.providedBy(reactor):
        seconds: Callable[[], float] = reactor.seconds
        return seconds
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic


def steady(reactor: Any) -> Any:
    """A reactor whose time only runs forward: ``reactor`` itself, or a wrapper around it.

    Wrapped are reactors that other threads can wake, as all real ones
    (:class:`~twisted.internet.interfaces.IReactorFromThreads`). A simulated one keeps its own time; and one
    whose ``seconds`` is ``time.monotonic`` is steady already.
    """
    is_real: bool = IReactorFromThreads.providedBy(reactor)
    if not is_real or reactor.seconds is time.monotonic:
        return reactor
    return SteadyReactor(reactor, time.monotonic, _WATCH)


def _ignored(call: DelayedCall) -> None:
    """A call for the next turn cannot be moved to before it."""


class SteadyReactor:
    """A reactor with timers of its own; everything else is the wrapped reactor's.

    It provides the interfaces that the wrapped reactor provides, so endpoints and TLS take it too.

    :param reactor: the real reactor. :param seconds: a clock that only runs forward, in seconds.
    :param watch: tells when the clock of ``reactor`` was set back.
    """

    def __init__(self, reactor: Any, seconds: Callable[[], float], watch: ClockWatch) -> None:
        #: Twisted's. An attribute, for each chunk of bytes that comes asks for the time.
        self.seconds = seconds
        self._reactor = reactor
        self._watch = watch
        self._calls: list[DelayedCall] = []  # a heap; those that were cancelled leave it later
        self._new: list[DelayedCall] = []  # made while calls are made: not due before the next turn
        self._active = self._cancelled = 0
        self._timer: IDelayedCall | None = None
        self._due = inf  # when the timer fires; -inf while calls are made, for it is set after them
        self._soon: list[DelayedCall] = []
        self._soon_timer: IDelayedCall | None = None
        self._ahead_seconds = 0.0
        self._is_told = False
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> DelayedCall:
        """Twisted's; the delay is monotonic time, and so is what ``getTime()`` of the call gives."""
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        if not delay:
            return self._call_soon(callable, args, kwargs)
        at = self.seconds() + delay
        call = DelayedCall(at, callable, args, kwargs, self._call_cancelled, self._call_moved, self.seconds)
        self._active += 1
        if self._due == -inf:
            self._new.append(call)
            return call
        heappush(self._calls, call)
        if at < self._due:
            self._set_timer()
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """Twisted's; only the calls that were asked for here, not the wrapped reactor's."""
        return [call for call in (*self._soon, *self._calls, *self._new) if not call.cancelled]

    def _call_moved(self, call: DelayedCall) -> None:
        heapify(self._calls)
        if call.time < self._due:
            self._set_timer()

    def _call_cancelled(self, cancelled: DelayedCall) -> None:
        self._active -= 1
        self._cancelled += 1
        if not self._active or self._cancelled > max(_CANCELLED_MAX, len(self._calls) // 2):
            # The one that is cancelled now is marked only after this.
            self._calls[:] = [call for call in self._calls if not (call.cancelled or call is cancelled)]
            heapify(self._calls)
            self._cancelled = sum(1 for call in self._new if call.cancelled or call is cancelled)
        if not self._active and self._timer is not None:
            self._set_timer()

    def _set_timer(self) -> None:
        """Have the reactor call when the earliest call is due; not at all when there is none."""
        timer = self._timer
        if not self._active:
            self._calls.clear()
            self._cancelled = 0
            self._timer, self._due = None, inf
            if timer is not None:
                timer.cancel()
            self._no_timer()
            return
        now = self.seconds()
        self._due = self._calls[0].time
        self._ahead_seconds = self._reactor.seconds() - now
        wait_seconds = max(0.0, self._due - now)
        if timer is None:
            self._timer = self._reactor.callLater(wait_seconds, self._fired)
            self._watch.add(self)
        else:
            timer.reset(wait_seconds)

    def _no_timer(self) -> None:
        """One of the two timers is not set any more: without the other one the clock is of no concern."""
        if self._timer is None and self._soon_timer is None:
            self._watch.discard(self)

    def _fired(self) -> None:
        """Make the calls that are due by now, if any. What one of them raises is the reactor's to log."""
        self._timer, self._due = None, -inf
        now = self.seconds()
        try:
            while (call := self._next_due(now)) is not None:
                self._active -= 1
                call.called = 1
                call.func(*call.args, **call.kw)
        finally:
            self._due = inf
            new, self._new = self._new, []
            for call in new:
                heappush(self._calls, call)
            self._set_timer()

    def _next_due(self, now: float) -> DelayedCall | None:
        calls = self._calls
        while calls and (calls[0].cancelled or calls[0].time <= now):
            call = heappop(calls)
            if call.cancelled:
                self._cancelled -= 1
            elif call.delayed_time > 0:
                call.activate_delay()
                heappush(calls, call)
            else:
                return call
        return None

    # Calls for the next turn

    def _call_soon(
        self, callable: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DelayedCall:
        now = self.seconds()
        call = DelayedCall(now, callable, args, kwargs, self._soon_cancelled, _ignored, self.seconds)
        self._soon.append(call)
        self._set_soon_timer(now)
        return call

    def _set_soon_timer(self, now: float) -> None:
        if self._soon_timer is None:
            self._soon_timer = self._reactor.callLater(0, self._soon_fired)
            if self._timer is None:
                self._ahead_seconds = self._reactor.seconds() - now
                self._watch.add(self)

    def _soon_cancelled(self, call: DelayedCall) -> None:
        if call in self._soon:  # else its turn has begun
            self._soon.remove(call)
            if not self._soon and self._soon_timer is not None:
                self._soon_timer.cancel()
                self._soon_timer = None
                self._no_timer()

    def _soon_fired(self) -> None:
        """Make the calls for this turn. What one of them raises is the reactor's to log."""
        self._soon_timer = None
        calls, self._soon = self._soon, []
        begun = 0
        try:
            for call in calls:
                begun += 1
                if call.cancelled:
                    continue
                if call.delayed_time > 0:
                    self._put_off(call)
                    continue
                call.called = 1
                call.func(*call.args, **call.kw)
        finally:
            rest = calls[begun:]
            if rest:
                self._soon[:0] = rest
                self._set_soon_timer(self.seconds())
            if self._soon_timer is None:
                self._no_timer()

    def _put_off(self, call: DelayedCall) -> None:
        """It was for this turn, and was moved to a later time."""
        call.activate_delay()
        call.canceller, call.resetter = self._call_cancelled, self._call_moved
        self._active += 1
        heappush(self._calls, call)
        if call.time < self._due:
            self._set_timer()

    # The clock of the wrapped reactor

    def look_at_clock(self) -> None:
        """Wake the reactor if its clock was set back since the timer was set. From the watching thread."""
        ahead_seconds = self._reactor.seconds() - self.seconds()
        if not self._is_told and ahead_seconds < self._ahead_seconds - _SET_BACK_SECONDS:
            self._is_told = True
            self._reactor.callFromThread(self._clock_set_back)

    def _clock_set_back(self) -> None:
        self._is_told = False
        self._ahead_seconds = self._reactor.seconds() - self.seconds()
        if self._timer is not None:
            self._set_timer()
        if self._soon_timer is not None:
            self._soon_timer.reset(0)


class ClockWatch:
    """Looks from a thread whether the clocks of reactors were set back: a sleeping reactor does not notice.

    The thread runs while there are timers to look after, and does not keep the process from ending. In the
    child of a fork it is started again with the first timer that fires.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._watched: set[SteadyReactor] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._forked)

    def add(self, reactor: SteadyReactor) -> None:
        """Look after a reactor that has a timer; nothing when that is done already."""
        if self._thread is not None and reactor in self._watched:
            return
        with self._lock:
            self._watched.add(reactor)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, name="chordtx clock watch", daemon=True)
                self._thread.start()

    def discard(self, reactor: SteadyReactor) -> None:
        """The reactor has no timer any more."""
        with self._lock:
            self._watched.discard(reactor)

    def _look_on(self) -> None:
        pause = threading.Event()  # never set
        while not pause.wait(_LOOK_SECONDS):
            with self._lock:
                watched = list(self._watched)
                if not watched:
                    self._thread = None
                    return
            for reactor in watched:
                self._look_at(reactor)

    def _look_at(self, reactor: SteadyReactor) -> None:
        try:
            reactor.look_at_clock()
        except Exception:
            self._log.failure("the clock of a reactor cannot be read")

    def _forked(self) -> None:
        # The thread is not there in the child, and may have held the lock.
        self._lock = threading.Lock()
        self._thread = None


_WATCH = ClockWatch()
