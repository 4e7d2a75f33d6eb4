"""What asyncio programs have is what Twisted's services have: each name, with the same parameters.

A method that is new in one of Twisted's services makes these tests fail until ``chordtx.aio`` has it too: one
line in ``chordtx/aio/dictionary.py``, ``chordtx/aio/namespace.py`` or ``chordtx/aio/chord.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from typing import Any, get_type_hints

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger

import chordtx
import chordtx.mesh
from chordtx import aio
from chordtx.aio import standard_logging
from chordtx.aio.bridge import awaited, iterated, plain, result_of
from chordtx.mesh.events import WAITING_MAX

KINDS = ["MeshService", "ChordService", "SyncService"]
#: What is not there, and what is instead.
INSTEAD = {
    "startService": "start",
    "stopService": "stop",
    "privilegedStartService": "start",
    "reactor": "start",  # chordtx.aio has it attached
    "sleep": "asyncio.sleep",
}
#: Operators of a dict.
OPERATORS = {
    "__aenter__",
    "__aexit__",
    "__aiter__",
    "__bool__",
    "__contains__",
    "__delitem__",
    "__getitem__",
    "__iter__",
    "__len__",
    "__setitem__",
}


def names(kind: Any, made: Any) -> set[str]:
    """The public names of a class and of what is made of it, without those of Twisted's ``Service``."""
    found = {*dir(kind), *vars(made)}
    public = {name for name in found if not name.startswith("_")} - {*dir(Service)}
    return (public | (OPERATORS & found)) - INSTEAD.keys()


def methods(name: str) -> list[str]:
    """The methods of one of Twisted's services."""
    kind = getattr(chordtx, name)
    return sorted(
        each for each in names(kind, kind(Clock(), listen=None)) if callable(getattr(kind, each, None))
    )


METHODS = [(kind, name) for kind in KINDS for name in methods(kind)]


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    signature = inspect.signature(function)
    return [(each.name, each.kind, each.default) for each in signature.parameters.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_name_is_there(kind: str) -> None:
    twisted = getattr(chordtx, kind)
    missing = names(twisted, twisted(Clock(), listen=None)) - {*dir(getattr(aio, kind))}
    assert missing == set(), "one line each: see above"


def test_a_namespace_has_every_name() -> None:
    twisted = chordtx.ChordService(Clock(), listen=None).namespace("names")
    assert names(chordtx.Namespace, twisted) - {*dir(aio.Namespace)} == set()
    for name in names(chordtx.Namespace, twisted) - {"prefix"}:
        assert getattr(aio.Namespace, name) is getattr(aio.ChordService, name), name


def test_a_name_that_is_missing_would_be_found() -> None:
    class More(chordtx.ChordService):
        def something_new(self) -> None:
            pass

    assert "something_new" in names(More, More(Clock(), listen=None))
    assert {"get", "keys", "__getitem__", "id", "settings"} <= names(More, More(Clock(), listen=None))


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_parameters_are_the_same(kind: str, name: str) -> None:
    twisted, ours = getattr(getattr(chordtx, kind), name), getattr(getattr(aio, kind), name)
    assert parameters(ours) == parameters(twisted)


@pytest.mark.parametrize("kind", KINDS)
def test_constructors_take_the_same_but_for_the_reactor(kind: str) -> None:
    reactor, *rest = parameters(getattr(chordtx, kind))
    assert reactor[0] == "reactor"
    assert parameters(getattr(aio, kind)) == rest


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_what_fires_is_a_coroutine(kind: str, name: str) -> None:
    twisted, ours = getattr(getattr(chordtx, kind), name), getattr(getattr(aio, kind), name)
    gives = str(inspect.signature(twisted).return_annotation)
    if inspect.iscoroutinefunction(twisted):
        assert inspect.iscoroutinefunction(ours)
    else:
        assert inspect.iscoroutinefunction(ours) == gives.startswith("Deferred[")
        assert inspect.isasyncgenfunction(ours) == gives.startswith("AsyncIterator[")
    assert "Deferred" not in str(inspect.signature(ours))


@pytest.mark.parametrize("kind", [*KINDS, "Namespace", "Link", "Message", "Events"])
def test_names_are_described(kind: str) -> None:
    described = getattr(aio, kind)
    assert described.__doc__
    for name in dir(described):
        if not name.startswith("_") and name not in {"id", "packets", "sender", "time"}:
            assert inspect.getdoc(getattr(described, name)), name


def test_links_and_messages_have_what_the_others_have() -> None:
    """All of a message; of a link what the reference names."""
    assert {*dir(chordtx.mesh.ReceivedMessage)} - {"_mesh"} == {*dir(aio.Message)} - {"_received"}
    for name in ("send", "close", "when_open"):
        assert parameters(getattr(aio.Link, name)) == parameters(getattr(chordtx.MeshConnection, name))
    assert {"id", "address", "outgoing", "closed"} <= {*dir(aio.Link)}


class Served:
    """One of Twisted's, as small as can be."""

    def __init__(self) -> None:
        self.cancelled: list[Any] = []
        self.closed = 0

    def never(self, key: bytes | str) -> Deferred[int]:
        """Never fires."""
        return Deferred(self.cancelled.append)

    def counted(self, to: int) -> AsyncIterator[int]:
        """Numbers."""
        return self._counted(to)

    async def many(self, to: int) -> AsyncIterator[int]:
        """Numbers, all there."""
        for number in range(to):
            yield number

    async def _counted(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
                if number == 2:
                    await self.never("")
        finally:
            self.closed += 1

    def said(self, text: str = "text") -> str:
        """A text."""
        return text


class Node:
    """Its counterpart."""

    def __init__(self) -> None:
        self._service = Served()

    def _must_be_on_loop(self) -> None:
        pass

    never = awaited(Served.never)
    counted = iterated(Served.counted)
    many = iterated(Served.many)
    said = plain(Served.said)


def test_whoever_cancels_the_task_cancels_the_call() -> None:
    async def main() -> None:
        node = Node()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await node.never("key")
        assert len(node._service.cancelled) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                assert [number async for number in node.counted(5)] == []
        assert (len(node._service.cancelled), node._service.closed) == (2, 1)

    asyncio.run(main())


def test_an_iterator_that_is_left_early_is_closed() -> None:
    async def main() -> None:
        node = Node()
        numbers = node.counted(5)
        assert [await anext(numbers), await anext(numbers)] == [0, 1]
        await numbers.aclose()
        assert node._service.closed == 1
        assert [number async for number in node.counted(2)] == [0, 1]
        assert (node.said(), node.said(text="another")) == ("text", "another")

    asyncio.run(main())


def test_results_and_errors_come_as_they_are() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await result_of(succeed(5)) == 5
        error = chordtx.NoMajorityTimeout("nobody", 2, 1)
        with pytest.raises(TimeoutError) as caught:
            await result_of(fail(error))
        assert caught.value is error
        later: Deferred[str] = Deferred()
        loop.call_soon(later.callback, "later")
        assert await result_of(later) == "later"

    asyncio.run(main())


def test_others_have_a_turn_while_a_program_asks_in_a_loop() -> None:
    """Also when each result is there at once, as with a node that leads the key's group itself."""

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        for _ in range(10):
            await result_of(succeed(None))
        assert turns >= 9
        before = turns
        async for number in Node().many(200):
            assert number >= 0
        assert before < turns < before + 10
        for work in (succeed(None), fail(ValueError())):
            asking = asyncio.ensure_future(result_of(work))
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        task.cancel()

    asyncio.run(main(), debug=True)


def test_what_was_ended_in_the_middle_of_a_loop_is_nobodys() -> None:
    """The loop was closed while somebody waited: whoever answers then is not told of it."""
    late: Deferred[str] = Deferred()
    loop = asyncio.new_event_loop()
    waiting = result_of(late)

    async def main() -> None:
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    loop.run_until_complete(main())
    loop.close()
    late.callback("late")


def test_types_and_descriptions_are_kept() -> None:
    hints = get_type_hints(Node.never.__wrapped__)  # type: ignore[attr-defined]
    assert hints["key"] == bytes | str
    assert Node.never.__doc__ == "Never fires."
    assert str(inspect.signature(Node.never)) == "(self, key: 'bytes | str') -> 'int'"


def test_events_that_nobody_asks_for_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        service = chordtx.MeshService(Clock(), listen=None)
        log = Logger(namespace="chordtx.events", observer=standard_logging.observe)
        events = aio.Events(service, ("message", "connect"), log)
        service._emit("connect", service)
        for number in range(WAITING_MAX):
            service._emit("message", service, number)
        events.close()
        told = [event async for event in events]
        assert told == [("message", number) for number in range(WAITING_MAX)]
        assert caplog.messages == ["an event 'connect' is dropped: too many wait to be asked for"]

    asyncio.run(main())


def test_what_is_logged_goes_to_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = Logger(namespace="chordtx.somewhere", observer=standard_logging.observe)
    log.debug("too little")
    log.info("a peer said {text}", text="\x1b[2J")
    try:
        raise ValueError("a reason")
    except ValueError:
        log.failure("it failed")
    told = [(each.name, each.levelname, each.getMessage()) for each in caplog.records]
    assert told == [
        ("chordtx.somewhere", "INFO", "a peer said \\x1b[2J"),
        ("chordtx.somewhere", "CRITICAL", "it failed"),
    ]
    assert "ValueError: a reason" in caplog.text


def test_a_program_of_twisteds_is_told_what_to_use() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"chordtx\.ChordService\(reactor"):
            aio.ChordService(None)

    asyncio.run(main())
    with pytest.raises(RuntimeError, match=r"asyncio\.run\(main\(\)\)"):
        aio.ChordService(None)
