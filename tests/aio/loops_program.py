"""One loop after another, loops that end too early, and what must not be done: errors say what to do."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import warnings
from typing import Any

from loops import LOCAL, SETTINGS, Raises, new_loop, peer, run

from chordtx import Stopped
from chordtx.aio import ChordService, MeshService

SHOWN = warnings.showwarning
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]


async def used() -> None:
    signals = [signal.getsignal(each) for each in SIGNALS]
    async with (
        ChordService(LOCAL, settings=SETTINGS) as first,
        ChordService(LOCAL, settings=SETTINGS, peers=[peer(first)]) as second,
    ):
        await first.set("key", 1)
        assert await second.get("key") == 1
        assert [signal.getsignal(each) for each in SIGNALS] == signals


def closed_by_hand(main: Any) -> Any:
    """As programs do that do not shut asynchronous generators down."""
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


async def asked_until_the_end() -> None:
    """A task that asks in a loop keeps nobody from working, and ends with the node."""
    async with ChordService(LOCAL, settings=SETTINGS) as node:

        async def ask() -> None:
            while True:
                await node.get("key")

        task = asyncio.ensure_future(ask())
        await asyncio.sleep(0.05)
        await node.set("key", 1)
    with Raises(Stopped):
        await task


async def made_only() -> MeshService:
    return MeshService(LOCAL)


async def left_running() -> MeshService:
    node = MeshService(LOCAL)
    node.start()
    await node.when_joined()
    return node


def left_when_the_loop_ends() -> None:
    """It is stopped with the loop, where the loop says that it ends; else when the next one takes over."""
    for left in (run, lambda main: closed_by_hand(main())):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            node = left(left_running)
            host, port = node.out_addr
            with asyncio.Runner(loop_factory=new_loop) as runner:
                again = runner.run(listening(f"tcp:{port}:interface={host}"))  # the port is free
            assert again == (host, port)
        assert [each.category for each in caught] == [ResourceWarning]
        assert "was not stopped before its loop ended" in str(caught[0].message)


def left_where_warnings_are_errors() -> None:
    """The node is stopped all the same, and the next loop is not troubled."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(left_running, "an error occurred during closing of asynchronous generator")
        run(used)
        closed_by_hand(left_running())
        with Raises(ResourceWarning, "was not stopped"):
            closed_by_hand(used())
        run(used)


async def listening(on: str) -> tuple[str, int]:
    async with MeshService(on) as node:
        return node.out_addr


def two_loops_at_once() -> None:
    async def with_another() -> None:
        async with MeshService(LOCAL) as node:
            errors: list[BaseException] = []
            for work in (made_only, node.when_joined, node.stop, lambda: begun(node)):
                thread = threading.Thread(target=in_another_loop, args=(work, errors))
                thread.start()
                await asyncio.to_thread(thread.join)
            assert len(errors) == 4, errors
            assert "nodes run on another event loop" in str(errors[0])
            assert "is of another event loop" in str(errors[1])
            assert "is of another event loop" in str(errors[2])
            assert "nodes run on another event loop" in str(errors[3])
            await node.when_joined()

    async def begun(node: MeshService) -> None:
        node.start()

    def in_another_loop(work: Any, errors: list[BaseException]) -> None:
        try:
            closed_by_hand(work())
        except RuntimeError as error:
            errors.append(error)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(with_another())


async def port_taken() -> None:
    async with MeshService(LOCAL) as node:
        with Raises(Exception, "listen"):
            async with ChordService(f"tcp:{node.out_addr[1]}:interface=127.0.0.1"):
                pass


async def stop_cancelled() -> None:
    """A stop goes on when the task that waits for it is cancelled; so does the reactor's end."""
    node = await left_running()
    stopping = asyncio.ensure_future(node.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    await node.stop()
    with Raises(Stopped):
        await node.when_joined()


async def start_cancelled() -> None:
    """A node that nobody answers is stopped when the task that waits for it is cancelled."""
    async with asyncio.timeout(20):
        async with MeshService(LOCAL) as nobody:
            gone = peer(nobody)
        for seconds in (0, 0.05):
            with Raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    async with ChordService(LOCAL, peers=[gone], settings=SETTINGS):
                        raise AssertionError("there is no ring")


with Raises(RuntimeError, "asyncio.run(main())"):
    ChordService(LOCAL)
for _ in range(2):
    run(used)
closed_by_hand(used())
closed_by_hand(made_only())
run(made_only)
run(used)
left_when_the_loop_ends()
left_where_warnings_are_errors()
two_loops_at_once()
run(asked_until_the_end)
run(port_taken, "cannot start: Couldn't listen")
run(stop_cancelled)
run(start_cancelled)
run(used)
assert warnings.showwarning is SHOWN
assert sys.modules["twisted.internet.reactor"].getDelayedCalls() == []
print("done")
