"""Events, work in the background, and waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from chordtx.errors import ProtocolError, Stopped
from chordtx.mesh.deferreds import Gate, Shared, within
from chordtx.mesh.events import WAITING_MAX, EventEmitter
from chordtx.mesh.tasks import Tasks
from tests.mesh.peers import outcomes

# Events


class Emitter(EventEmitter):
    """With the tasks that end what listeners do."""

    def __init__(self) -> None:
        self.tasks = Tasks(Logger(), Clock())
        super().__init__(("add", "message", "other"), self.tasks, Logger())


def test_listeners_are_called_in_order_with_the_arguments() -> None:
    emitter, calls = Emitter(), []
    emitter.on("add", lambda *args: calls.append(("first", *args)))

    @emitter.on("add")
    def second(*args: Any) -> None:
        calls.append(("second", *args))

    emitter._emit("add", 1, 2)
    emitter._emit("other")
    assert calls == [("first", 1, 2), ("second", 1, 2)]
    assert emitter._has_listeners("add")
    emitter.remove_listener("add", second)
    emitter._emit("add", 3)
    assert calls[2:] == [("first", 3)]


def test_once_is_once_even_when_the_listener_emits() -> None:
    emitter, calls = Emitter(), []

    @emitter.once("message")
    def listener() -> None:
        calls.append(1)
        emitter._emit("message")

    emitter.once("message", lambda: calls.append(2))
    emitter._emit("message")
    assert calls == [1, 2]
    assert not emitter._has_listeners("message")


def test_listener_may_remove_another_one_while_they_are_called() -> None:
    emitter, calls = Emitter(), []

    def removed() -> None:
        calls.append("removed")

    emitter.on("message", lambda: emitter.remove_listener("message", removed))
    emitter.once("message", removed)
    emitter._emit("message")
    assert calls == []


def test_listener_that_fails_is_logged_and_alone(flush_logged_errors: Callable[..., list[Any]]) -> None:
    emitter, calls = Emitter(), []
    emitter.on("message", lambda: 1 / 0)
    emitter.on("message", lambda: calls.append(1))
    emitter._emit("message")
    assert calls == [1]
    assert len(flush_logged_errors(ZeroDivisionError)) == 1


def test_wrong_listeners_are_told() -> None:
    with pytest.raises(TypeError):
        Emitter().on("message", 5)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        Emitter().remove_listener("message", print)


def test_unknown_events_are_told_with_the_nearest() -> None:
    emitter = Emitter()
    for register in (emitter.on, emitter.once, emitter.remove_listener):
        with pytest.raises(
            ValueError, match="'ad': the events are 'add', 'message', 'other'; do you mean 'add'"
        ):
            register("ad", print)
    with pytest.raises(ValueError, match=r"the events are 'add', 'message', 'other'$"):
        emitter.on("zzz")
    with pytest.raises(ValueError, match="5"):
        emitter.on(5, print)  # type: ignore[arg-type]


# Listeners that are awaited


class Waiting:
    """An ``async def`` listener: ``began`` and ``ended`` with which arguments, and what it waits for."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.ended: list[Any] = []
        self.waits: list[Deferred[Any]] = []

    async def listener(self, arg: Any) -> None:
        self.began.append(arg)
        self.waits.append(Deferred())
        await self.waits[-1]
        self.ended.append(arg)


def test_listener_is_awaited_and_takes_one_event_at_a_time_in_order() -> None:
    emitter, slow, quick = Emitter(), Waiting(), []
    emitter.on("add", slow.listener)
    emitter.on("add", quick.append)
    for number in range(3):
        emitter._emit("add", number)
    assert (slow.began, quick) == ([0], [0, 1, 2])
    for number in range(3):
        assert (slow.began[-1], slow.ended) == (number, list(range(number)))
        slow.waits[-1].callback(None)
    assert slow.ended == [0, 1, 2]
    emitter._emit("add", 3)
    assert slow.began[-1] == 3
    emitter.tasks.cancel()


def test_many_events_that_waited_are_told_when_the_listener_need_not_wait_any_more() -> None:
    emitter, wait, told = Emitter(), Deferred[None](), []

    @emitter.on("add")
    async def listener(number: int) -> None:
        await wait
        told.append(number)

    for number in range(5000):
        emitter._emit("add", number)
    wait.callback(None)
    assert told == list(range(5000))


def test_events_that_wait_for_a_slow_listener_are_bounded() -> None:
    emitter, slow = Emitter(), Waiting()
    emitter.on("add", slow.listener)
    for number in range(WAITING_MAX + 6):
        emitter._emit("add", number)
    slow.waits[-1].callback(None)
    assert slow.began == [0, 6]
    emitter.tasks.cancel()


def test_failures_of_what_is_awaited_are_logged_and_the_next_event_is_told(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    emitter, slow = Emitter(), Waiting()
    emitter.on("add", slow.listener)
    for number in range(3):
        emitter._emit("add", number)
    for error in (ZeroDivisionError(), CancelledError(), Stopped("of another service")):
        slow.waits[-1].errback(error)
        assert len(flush_logged_errors(type(error))) == 1
    assert (slow.began, slow.ended) == ([0, 1, 2], [])


def test_what_is_awaited_is_cancelled_when_the_service_stops() -> None:
    emitter, slow = Emitter(), Waiting()
    emitter.on("add", slow.listener)
    emitter._emit("add", 0)
    emitter._emit("add", 1)
    emitter.tasks.cancel()
    assert slow.waits[0].called
    emitter._emit("add", 2)  # too late: it is not gone on with, and nothing complains
    assert (slow.began, slow.ended) == ([0], [])
    emitter.tasks.restart()
    emitter._emit("add", 3)
    slow.waits[-1].callback(None)
    assert slow.ended == [3]


def test_listener_may_return_a_deferred(flush_logged_errors: Callable[..., list[Any]]) -> None:
    emitter, waits = Emitter(), [Deferred[None](), Deferred[None]()]
    emitter.on("add", lambda number: waits[number])
    emitter._emit("add", 0)
    waits[0].errback(ZeroDivisionError())
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    emitter._emit("add", 1)
    emitter.tasks.cancel()
    assert waits[1].called


def test_removed_listener_is_told_nothing_more_and_goes_on_with_what_it_does() -> None:
    emitter, slow = Emitter(), Waiting()
    emitter.once("add", slow.listener)
    emitter.on("add", slow.listener)
    emitter._emit("add", 0)
    emitter._emit("add", 1)
    assert slow.began == [0, 0]
    emitter.remove_listener("add", slow.listener)
    for wait in slow.waits:
        wait.callback(None)
    assert (slow.began, slow.ended) == ([0, 0], [0, 0])


# Work in the background


async def waits_for(deferred: Deferred[Any]) -> Any:
    return await deferred


def test_work_ends_with_its_service() -> None:
    tasks = Tasks(Logger(), Clock())
    found = outcomes(tasks.run(waits_for(Deferred())))
    tasks.start(waits_for(Deferred()))
    tasks.cancel()
    assert isinstance(found[0], Stopped)
    assert isinstance(outcomes(tasks.run(waits_for(Deferred())))[0], Stopped)
    tasks.restart()
    assert outcomes(tasks.run(waits_for(Deferred()))) == []
    tasks.cancel()


def test_work_that_swallows_a_cancellation_is_cancelled_again() -> None:
    tasks, ended = Tasks(Logger(), Clock()), []

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await Deferred()
            except CancelledError:
                ended.append(1)

    tasks.start(stubborn())
    tasks.cancel()
    assert ended == [1, 1, 1]


def test_caller_may_cancel_the_work() -> None:
    inner: Deferred[Any] = Deferred()
    work = Tasks(Logger(), Clock()).run(waits_for(inner))
    found = outcomes(work)
    work.cancel()
    assert isinstance(found[0], CancelledError)
    assert inner.called


def test_failure_of_a_peer_is_no_bug_and_anything_else_is(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    tasks = Tasks(Logger(), Clock())

    async def fails(error: Exception) -> None:
        raise error

    tasks.start(fails(ProtocolError("its doing")))
    assert flush_logged_errors() == []
    tasks.start(fails(AttributeError("ours")))
    assert len(flush_logged_errors(AttributeError)) == 1


# Waiting


def test_work_past_its_time_fails_as_told() -> None:
    clock, work = Clock(), Deferred[None]()
    found = outcomes(within(2.0, clock, work, lambda: Stopped("late")))
    clock.advance(1.9)
    assert found == []
    clock.advance(0.2)
    assert isinstance(found[0], Stopped)


def test_each_who_shares_work_has_the_result_or_the_failure() -> None:
    for outcome in (5, ValueError("x")):
        work: Deferred[int] = Deferred()
        shared = Shared(work)
        first, cancelled, second = shared.wait(), shared.wait(), shared.wait()
        found = [outcomes(first), outcomes(second)]
        outcomes(cancelled)
        cancelled.cancel()
        assert found == [[], []]
        work.callback(outcome) if isinstance(outcome, int) else work.errback(outcome)
        found.append(outcomes(shared.wait()))
        assert found == [[outcome]] * 3


def test_shared_work_that_nobody_waits_for_may_fail() -> None:
    work: Deferred[int] = Deferred()
    Shared(work)
    work.errback(ValueError("x"))


def test_gate_opens_for_those_before_and_after() -> None:
    gate = Gate()
    early = outcomes(gate.when_open())
    gate.opened()
    assert [early, outcomes(gate.when_open())] == [[None], [None]]
    assert not gate.failed(Stopped("closed"))
    assert isinstance(outcomes(gate.when_open())[0], Stopped)
    gate.reset()
    waiting = gate.when_open()
    found = outcomes(waiting)
    waiting.cancel()
    gate.opened()
    assert isinstance(found[0], CancelledError)
