"""Work in the background: it ends with its service, and when whoever began it says so."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from chordtx.mesh.tasks import Tasks


class Work:
    """Waits for one thing after another; what happens in each step is done by whoever made it."""

    def __init__(self) -> None:
        self.waits: Deferred[Any] = Deferred()
        self.steps = 0
        self.in_step: Any = lambda: None
        self.is_cancelled = False

    async def run(self) -> None:
        try:
            while True:
                await self.waits
                self.waits = Deferred()
                self.steps += 1
                self.in_step()
        except CancelledError:
            self.is_cancelled = True
            raise


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tasks(clock: Clock) -> Tasks:
    return Tasks(Logger(), clock)


def test_work_that_waits_is_cancelled_at_once(tasks: Tasks) -> None:
    work = Work()
    task = tasks.start(work.run())
    task.cancel()
    assert work.is_cancelled
    assert tasks.count == 0


def test_work_that_cancels_itself_goes_on_to_its_next_wait_and_no_further(tasks: Tasks, clock: Clock) -> None:
    work = Work()
    task = tasks.start(work.run())
    work.in_step = task.cancel
    work.waits.callback(None)
    assert work.steps == 1
    clock.advance(0)
    assert work.is_cancelled
    assert tasks.count == 0
    work.waits.callback(None)
    assert work.steps == 1


def test_work_that_ends_in_the_step_in_which_it_is_cancelled(tasks: Tasks, clock: Clock) -> None:
    first: Deferred[None] = Deferred()
    ended: list[Any] = []

    async def run() -> None:
        await first
        task.cancel()

    task = tasks.start(run())
    task.addBoth(ended.append)
    first.callback(None)
    clock.advance(0)
    assert ended == [None]
    assert tasks.count == 0
