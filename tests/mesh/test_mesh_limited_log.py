"""Lines that strangers can cause: some of each kind, and the rest counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher

from chordtx.mesh.limited_log import LINES_AT_ONCE, TELL_SECONDS, LimitedLog


@pytest.fixture
def lines() -> Iterator[Callable[[], list[str]]]:
    """Gives what was logged since it was called last."""
    seen: list[LogEvent] = []
    globalLogPublisher.addObserver(seen.append)

    def taken() -> list[str]:
        found = [f"{event['log_level'].name} {formatEvent(event)}" for event in seen]
        seen.clear()
        return found

    yield taken
    globalLogPublisher.removeObserver(seen.append)


Lines = Callable[[], list[str]]


def test_a_flood_is_counted_and_told_once(lines: Lines) -> None:
    clock = Clock()
    log = LimitedLog(clock)
    for number in range(1244):
        log.info("{number} is refused", number=number)
    assert lines() == [f"info {number} is refused" for number in range(LINES_AT_ONCE)]
    clock.advance(TELL_SECONDS)
    assert lines() == ["info ... and 1234 more like it in 10 s: 10 is refused"]
    assert not clock.getDelayedCalls()
    clock.advance(TELL_SECONDS)
    assert lines() == []
    log.info("{number} is refused", number=5)
    assert lines() == ["info 5 is refused"]


def test_one_kind_does_not_hide_another(lines: Lines) -> None:
    log = LimitedLog(Clock())
    for _ in range(100):
        log.info("one")
    lines()
    log.info("another")
    log.warn("one")
    assert lines() == ["info another", "warn one"]


def test_as_many_as_time_allows_go_through(lines: Lines) -> None:
    clock = Clock()
    log = LimitedLog(clock)
    for _ in range(100):
        log.info("one")
        clock.advance(1.0)
    assert len(lines()) == 100
    assert not clock.getDelayedCalls()


def test_clock_that_is_set_back_opens_no_gate_and_closes_none(lines: Lines) -> None:
    clock = Clock()
    clock.advance(1e6)
    log = LimitedLog(clock)
    for _ in range(100):
        log.info("one")
    clock.rightNow -= 7200.0
    log.info("one")
    assert len(lines()) == LINES_AT_ONCE
    clock.rightNow += 3.0
    log.info("one")
    assert lines() == ["info one"]
    log.tell_dropped()
    assert lines() == ["info ... and 91 more like it in 0 s: one"]


def test_at_the_end_what_was_dropped_is_told(lines: Lines) -> None:
    clock = Clock()
    log = LimitedLog(clock)
    for _ in range(LINES_AT_ONCE + 3):
        log.warn("one")
    clock.advance(4.0)
    lines()
    log.tell_dropped()
    log.tell_dropped()
    assert lines() == ["warn ... and 3 more like it in 4 s: one"]
    assert not clock.getDelayedCalls()


def fail(log: Any, error: Exception) -> None:
    try:
        raise error
    except type(error):
        log.failure("a bug")


def test_tracebacks_are_limited_by_the_kind_of_error(
    lines: Lines, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    log = LimitedLog(Clock())
    for _ in range(100):
        fail(log, ValueError())
    fail(log, KeyError())
    assert len(flush_logged_errors(ValueError)) == LINES_AT_ONCE
    assert len(flush_logged_errors(KeyError)) == 1
    assert len(lines()) == LINES_AT_ONCE + 1
    log.tell_dropped()
    assert lines() == ["critical ... and 90 more like it in 0 s: a bug"]


def test_texts_are_escaped_in_lines_and_in_the_sample(lines: Lines) -> None:
    log = LimitedLog(Clock())
    for _ in range(LINES_AT_ONCE + 1):
        log.emit(LogLevel.info, "{text}", text="\x1b[2J\nfake")
    assert set(lines()) == {"info \\x1b[2J\\x0afake"}
    log.tell_dropped()
    assert lines() == ["info ... and 1 more like it in 0 s: \\x1b[2J\\x0afake"]
