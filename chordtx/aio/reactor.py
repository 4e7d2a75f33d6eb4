"""Twisted's reactor on the loop that runs, for programs that need not know of it.

A process has one reactor, and a program may run several loops one after another: ``asyncio.run`` twice, or
a test suite with a loop for each test. So :class:`LoopReactor` is installed once, and moves:

1. The first node that is made on a loop attaches the reactor to it. The loop runs already, and stays the
   program's: the reactor neither runs nor stops it, and takes no signals.
2. The reactor runs from when a node starts until the last one has stopped. Then it gives back what it
   holds: threads, connections, the pipe that wakes it.
3. Whoever lets a loop end with nodes running is told by a ``ResourceWarning``, and they are stopped: by the
   loop's own end (``shutdown_asyncgens``, as ``asyncio.run`` does), or when the next loop takes over.
4. While nodes run on a loop that is open, no other loop can have the reactor.

A program that has installed Twisted's own asyncio reactor keeps it: it is started if need be, and left as
it is.
"""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.main import CONNECTION_LOST, installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure

from chordtx.aio import standard_logging


class Stoppable(Protocol):
    """What runs on the reactor: a node."""

    def stop(self) -> Awaitable[None]:
        """Leave, and end everything."""


class LoopReactor(AsyncioSelectorReactor):
    """See the module. Made once in a process."""

    #: Monotonic time, as the loop's own: no change of the system's clock moves a timer.
    seconds = staticmethod(time.monotonic)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._users: dict[Stoppable, None] = {}
        self._is_open = True
        super().__init__(loop)

    # Loops, one after another

    #: Is told of the end of the loop that the reactor is on.
    _end: AsyncGenerator[None, None] | None = None
    _end_is_of: asyncio.AbstractEventLoop | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be on this loop, which runs.

        :raises RuntimeError: while nodes run on another one.
        """
        if self.loop is not loop or not self._is_open:
            if self._users and not self.loop.is_closed():
                raise RuntimeError(
                    "nodes run on another event loop of this process: stop those first, for all are on one"
                )
            self._move(loop)
        if self._end_is_of is not loop:
            self._end_is_of, self._end = loop, self._at_end(object())
            with suppress(StopIteration):
                self._end.asend(None).send(None)  # begins it, which the loop notes

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        nodes = tuple(self._users)
        left: list[Any] = self.removeAll()  # type: ignore[no-untyped-call]
        self._close_waker()
        type(self).__init__(self, loop)  # all state is new, and everybody who has imported the reactor has it
        for each in left:
            each.connectionLost(Failure(CONNECTION_LOST))
        _warn_of(nodes)

    async def _at_end(self, turn: object) -> AsyncGenerator[None, None]:
        """Ends when the loop shuts its asynchronous generators down, which is all that a loop tells of its
        end.

        :param turn: stands for the reactor's stay on this loop: one that is over is of no concern.
        """
        self._turn = turn
        try:
            yield
        finally:
            if self._turn is turn:
                await self._stop_all()

    async def _stop_all(self) -> None:
        nodes = tuple(self._users)
        for node in nodes:
            await node.stop()
        self._close()
        _warn_of(nodes)

    # Nodes

    def begin(self, node: Stoppable) -> None:
        """A node starts: run, from the first one on."""
        self._users[node] = None
        if not self.running:
            self.startRunning(installSignalHandlers=False)

    def end(self, node: Stoppable) -> None:
        """A node has stopped: end, with the last one."""
        if node not in self._users:
            return
        del self._users[node]
        if not self._users:
            self.addSystemEventTrigger("after", "shutdown", self._close)
            self.fireSystemEvent("shutdown")

    def crash(self) -> None:
        """Twisted's: do not run any more. The loop is not ours to stop."""
        PosixReactorBase.crash(self)

    def callFromThread(  # type: ignore[override]
        self, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> None:
        """Twisted's; once the loop is closed nobody waits for a thread's result any more."""
        with suppress(RuntimeError):
            super().callFromThread(callable, *args, **kwargs)  # type: ignore[no-untyped-call]

    def _close(self) -> None:
        if not self._users and self._is_open:
            self._is_open = False
            for call in self.getDelayedCalls():
                call.cancel()
            self._close_waker()

    def _close_waker(self) -> None:
        waker, self.waker = self.waker, None
        if waker is not None:
            self._removeInternalReader(waker)
            waker.connectionLost(Failure(CONNECTION_LOST))


def _warn_of(nodes: Iterable[Stoppable]) -> None:
    """To be called last: a program may have warnings raised as errors."""
    for node in nodes:
        warnings.warn(f"{node!r} was not stopped before its loop ended", ResourceWarning, stacklevel=2)


def attached() -> Any:
    """The reactor, on the loop that runs; it is installed when there is none.

    :raises RuntimeError: when no loop runs, when nodes run on another one, or when another reactor is
        installed; the text says what to do.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop runs: make and use nodes in a coroutine, as in asyncio.run(main())"
        ) from None
    installed: Any = sys.modules.get("twisted.internet.reactor")
    if installed is None:
        installed = LoopReactor(loop)
        installReactor(installed)
        standard_logging.begin()
    if isinstance(installed, LoopReactor):
        installed.attach(loop)
    elif not isinstance(installed, AsyncioSelectorReactor):
        raise RuntimeError(
            f"another reactor, {type(installed).__name__}, is installed in this process already: something"
            " has imported twisted.internet.reactor. Make the first node before that import; or, in a program"
            " of Twisted's, use chordtx.ChordService(reactor, ...)"
        )
    elif installed._asyncioEventloop is not loop:
        raise RuntimeError(
            "Twisted's reactor was installed on another event loop than the one that runs: write"
            " asyncioreactor.install(asyncio.get_running_loop()) in the coroutine, or leave it out"
        )
    elif not installed.running:
        installed.startRunning(installSignalHandlers=False)
    return installed
