"""A rate limiter that many processes share: so many calls for each caller in each window of time.

    python examples/rate_limiter.py --peer HOST:PORT --limit 10 --seconds 60 --calls 15 ann

makes 15 calls for Ann, and prints how many of them were allowed. Start it several times: all together
are allowed ten calls a minute. Without ``--peer`` it begins a ring of its own, for a try.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

from chordtx import NoMajority
from chordtx.aio import ChordService


class RateLimiter:
    """At most ``limit`` calls of each caller in each window of ``seconds``.

    :param clock: the wall clock, which says in which window a call is: those of all processes should agree.
    """

    def __init__(
        self, node: ChordService, limit: int, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._node = node
        self._limit = limit
        self._seconds = seconds
        self._clock = clock

    async def allows(self, caller: str) -> bool:
        """Whether the caller may make one more call now. :raises NoMajority: when nobody can tell."""
        window = int(self._clock() / self._seconds)
        key = f"rate:{caller}:{window}"
        number = await self._node.increment(key)  # no two calls get the same number
        if number == 1:
            # The first one of a window sees to it that its counter goes away. If this process dies just
            # now, a small record stays; nobody is refused for it, for the next window has another key.
            await self._node.touch(key, ttl=2 * self._seconds)
        return number <= self._limit


async def main(given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(listen, peers=given.peer, leech=bool(given.peer)) as node:
        limiter = RateLimiter(node, given.limit, given.seconds)
        allowed = refused = unknown = 0
        for _ in range(given.calls):
            try:
                if await limiter.allows(given.caller):
                    allowed += 1
                else:
                    refused += 1
            except NoMajority:  # it may be counted, so it must be refused
                unknown += 1
        print(f"{allowed} allowed, {refused} refused, {unknown} unknown", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("caller")
    parser.add_argument("--limit", type=int, default=10, help="calls in each window")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a window")
    parser.add_argument("--calls", type=int, default=15, help="how many to make")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    asyncio.run(main(parser.parse_args()))
