"""A program with a reactor of its own: what chordtx makes of it. The second argument says which."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from loops import LOCAL, Raises, new_loop
from twisted.internet import asyncioreactor

from chordtx.aio import MeshService


async def another_kind() -> None:
    """The usual one is installed by its import."""
    from twisted.internet import reactor

    with Raises(RuntimeError, f"another reactor, {type(reactor).__name__}, is installed"):
        MeshService(LOCAL)


async def of_another_loop() -> None:
    other = new_loop()
    asyncioreactor.install(other)
    with Raises(RuntimeError, "asyncioreactor.install(asyncio.get_running_loop())"):
        MeshService(LOCAL)
    other.close()


async def of_this_loop() -> None:
    """It is started, and runs on."""
    asyncioreactor.install(asyncio.get_running_loop())
    reactor: Any = sys.modules["twisted.internet.reactor"]
    async with MeshService(LOCAL) as node:
        await node.when_listening()
    assert reactor.running
    called = asyncio.Event()
    reactor.callLater(0, called.set)
    await called.wait()


async def started() -> None:
    """It runs already."""
    asyncioreactor.install(asyncio.get_running_loop())
    reactor: Any = sys.modules["twisted.internet.reactor"]
    reactor.startRunning(installSignalHandlers=False)
    async with MeshService(LOCAL) as node:
        await node.when_listening()
    assert reactor.running


def in_the_foreground() -> None:
    """The program is one of Twisted's, and has a coroutine of asyncio's."""
    loop = new_loop()
    asyncioreactor.install(loop)
    reactor: Any = sys.modules["twisted.internet.reactor"]
    ended: list[Any] = []

    async def work() -> None:
        async with MeshService(LOCAL) as node:
            await node.when_listening()
            assert reactor.running

    def end(task: asyncio.Task[None]) -> None:
        ended.append(task.exception())
        reactor.stop()

    def begin() -> None:
        loop.create_task(work()).add_done_callback(end)

    reactor.callWhenRunning(begin)
    reactor.run()
    assert ended == [None]


COROUTINES: dict[str, Callable[[], Any]] = {
    each.__name__: each for each in (another_kind, of_another_loop, of_this_loop, started)
}
if sys.argv[2] == "in_the_foreground":
    in_the_foreground()
else:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(COROUTINES[sys.argv[2]]())
print("done")
