"""For the programs beside this module: which loop they run on, and what must be left when they end.

The first argument of a program is ``asyncio`` or ``uvloop``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from chordtx import ChordSettings

LOCAL = "tcp:0:interface=127.0.0.1"
#: A small ring, so that a program takes no longer than it must.
SETTINGS = ChordSettings(partition_bits=4)
_THREADS_END_SECONDS = 5.0


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop of the kind that was asked for."""
    loop: asyncio.AbstractEventLoop
    if sys.argv[1] == "uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.slow_callback_duration = (
        3600.0  # in development mode slow steps are told, which tells of the machine
    )
    return loop


class Logged(logging.Handler):
    """Warnings and worse, of chordtx and of asyncio itself. :ivar texts: those that nobody expected."""

    def __init__(self, expected: tuple[str, ...]) -> None:
        super().__init__(logging.WARNING)
        self._expected = expected
        self.texts: list[str] = []
        self.seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        known = {each for each in self._expected if each in text}
        self.seen |= known
        if not known:
            self.texts.append(text)


def run(main: Callable[[], Coroutine[Any, Any, Any]], *expected: str) -> Any:
    """As ``asyncio.run``; and nothing may be left when ``main`` has returned.

    :param expected: parts of the warnings that have to be logged; there must be no others.
    """
    logged = Logged(expected)
    logging.getLogger().addHandler(logged)
    try:
        return _run(main)
    finally:
        gc.collect()
        logging.getLogger().removeHandler(logged)
        assert logged.texts == [], logged.texts
        assert logged.seen == {*expected}


def _run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:

    async def alone() -> Any:
        result = await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with asyncio.Runner(loop_factory=new_loop) as runner:
        result = runner.run(alone())
    deadline = time.monotonic() + _THREADS_END_SECONDS
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.enumerate() == [threading.main_thread()]
    return result


def peer(node: Any) -> str:
    """Where others reach a node."""
    host, port = node.out_addr
    return f"{host}:{port}"


class Raises:
    """``with Raises(KeyError):``, as pytest's; ``text`` has to be in what the error says."""

    def __init__(self, kind: type[BaseException], text: str = "") -> None:
        self._kind, self._text = kind, text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        assert error is not None, f"{self._kind.__name__} was not raised"
        if not isinstance(error, self._kind):
            return False
        assert self._text in str(error), error
        return True


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
