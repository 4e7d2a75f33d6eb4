"""Handlers of messages that are awaited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from chordtx.config import MeshSettings
from chordtx.mesh.inbox import Inbox
from chordtx.mesh.tasks import Tasks
from tests.mesh.peers import outcomes


def settings(count_max: int) -> MeshSettings:
    return MeshSettings(received_messages_max=count_max, received_bytes_max=1000)


class Asked:
    """An inbox, and what is found of messages: ``answers`` are what the handler that is awaited waits for."""

    def __init__(self, count_max: int = 10) -> None:
        self.tasks = Tasks(Logger(), Clock())
        self.inbox = Inbox(settings(count_max), self.tasks, Logger())
        self.answers: list[Deferred[Any]] = []
        self.log: list[Any] = []

    async def waits(self, message: Any, link: Any) -> Any:
        self.log.append(("waits", message))
        self.answers.append(Deferred())
        return await self.answers[-1]

    def last(self, message: Any, link: Any) -> None:
        self.log.append(("last", message))

    def offer(self, message: str) -> list[Any]:
        taken = self.inbox.is_taken(cast("Any", message), cast("Any", None), 10)
        return outcomes(taken) if isinstance(taken, Deferred) else [taken]


def asked(**options: Any) -> Asked:
    case = Asked(**options)
    case.inbox.register(case.waits)
    case.inbox.register(case.last)
    return case


def test_those_after_it_are_asked_once_it_has_answered() -> None:
    case = asked()
    first, second = case.offer("first"), case.offer("second")
    assert case.log == [("waits", "first"), ("waits", "second")]
    case.answers[1].callback(False)
    assert case.log[2:] == [("last", "second")]
    assert (first, second) == ([], [False])
    case.answers[0].callback("a true value")
    assert case.log[3:] == []
    assert first == [True]


def test_several_may_be_awaited_and_a_failure_takes_nothing(
    flush_logged_errors: Callable[..., list[Any]],
) -> None:
    case = asked()
    case.inbox.register(case.waits)
    found = case.offer("it")
    case.answers[0].errback(ZeroDivisionError())
    assert len(flush_logged_errors(ZeroDivisionError)) == 1
    case.answers[1].callback(True)
    assert case.log == [("waits", "it"), ("last", "it"), ("waits", "it")]
    assert found == [True]


def test_handler_may_return_a_deferred() -> None:
    case, wait = Asked(), Deferred[bool]()
    case.inbox.register(lambda message, link: wait)
    found = case.offer("it")
    wait.callback(True)
    assert found == [True]


def test_when_the_service_stops_they_are_cancelled_and_nobody_else_is_asked() -> None:
    case = asked()
    found = case.offer("it")
    case.tasks.cancel()
    assert case.offer("too late") == found == [True]
    assert case.answers[0].called
    assert case.log == [("waits", "it")]


def test_messages_whose_handlers_are_awaited_are_bounded() -> None:
    case = asked(count_max=3)
    for number in range(5):
        case.offer(str(number))
    assert len(case.log) == 3
    case.answers[0].callback(True)
    case.offer("again")
    assert len(case.log) == 4
    case.tasks.cancel()


def test_nothing_is_kept_for_nobody() -> None:
    inbox = Inbox(settings(10), Tasks(Logger(), Clock()), Logger(), is_wanted=False)
    inbox.keep(cast("Any", "early"), 10)
    assert inbox.read(5) == []  # which asks for what comes from now on
    inbox.keep(cast("Any", "late"), 10)
    assert inbox.read(5) == ["late"]
