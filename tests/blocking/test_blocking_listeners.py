"""The thread in which a socket's listeners run."""

from __future__ import annotations

from collections.abc import Callable
from threading import Semaphore
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from chordtx.blocking import bridge
from chordtx.mesh.limited_log import LINES_AT_ONCE, LimitedLog


@pytest_twisted.ensureDeferred
async def test_failures_are_logged_within_the_limit(
    running_reactor: Any, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    log, done = LimitedLog(running_reactor), Deferred[None]()
    listeners = bridge.Listeners(log)

    def fails() -> None:
        raise ZeroDivisionError

    tell, end = listeners.calls(fails), listeners.calls(running_reactor.callFromThread)
    for _ in range(LINES_AT_ONCE + 5):
        tell()
    end(done.callback, None)
    await done
    listeners.stop()
    log.tell_dropped()
    assert len(flush_logged_errors(ZeroDivisionError)) == LINES_AT_ONCE


@pytest_twisted.ensureDeferred
async def test_a_listener_that_would_end_its_thread_ends_nothing(
    running_reactor: Any, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    done = Deferred[None]()
    listeners = bridge.Listeners(LimitedLog(running_reactor))

    def exits() -> None:
        raise SystemExit(1)

    exiting, end = listeners.calls(exits), listeners.calls(running_reactor.callFromThread)
    exiting()
    end(done.callback, None)
    await done
    listeners.stop()
    assert len(flush_logged_errors(SystemExit)) == 1


@pytest_twisted.ensureDeferred
async def test_events_that_wait_for_slow_listeners_are_bounded(
    running_reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "WAITING_MAX", 3)
    log, done = LimitedLog(running_reactor), Deferred[None]()
    listeners, free, begun, told = bridge.Listeners(log), Semaphore(0), Semaphore(0), []

    def slow(number: int) -> None:
        begun.release()
        assert free.acquire(timeout=20)
        told.append(number)
        if number == 3:
            running_reactor.callFromThread(done.callback, None)

    tell = listeners.calls(slow)
    tell(0)
    assert begun.acquire(timeout=20)
    for number in range(1, 10):
        tell(number)
    for _ in range(4):
        free.release()
    await done
    assert told == [0, 1, 2, 3]
    listeners.stop()
    log.tell_dropped()
