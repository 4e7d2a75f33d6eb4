"""A node in an asyncio program: on asyncio's own loop, and awaited by asyncio's coroutines.

python examples/with_asyncio.py [HOST:PORT of a ring]
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet import asyncioreactor
from twisted.internet.defer import Deferred


async def main(peers: list[str]) -> None:
    loop = asyncio.get_running_loop()
    asyncioreactor.install(loop)  # before anything imports the reactor
    from twisted.internet import reactor

    from chordtx import ChordService

    reactor.startRunning(installSignalHandlers=False)

    def wait(deferred: Deferred[Any]) -> asyncio.Future[Any]:
        return deferred.asFuture(loop)

    node = ChordService(reactor, listen="tcp:0:interface=127.0.0.1", peers=peers)
    node.startService()
    try:
        await wait(node.when_joined())
        await asyncio.gather(*(wait(node.set(f"number {number}", number)) for number in range(10)))
        print(sum([await wait(node.get(f"number {number}")) for number in range(10)]))
        async with asyncio.timeout(10):
            # Whatever awaits Deferreds runs as a coroutine of Twisted's.
            print(await wait(Deferred.fromCoroutine(listed(node))))
    finally:
        await wait(node.stopService())


async def listed(node: Any) -> list[str]:
    """All keys, in order."""
    return sorted([key.decode() async for key in node])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
