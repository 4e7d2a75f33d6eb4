"""A queue of jobs: each is done by one worker, and done by another one when that worker dies.

    python examples/job_queue.py --peer HOST:PORT --add 20
    python examples/job_queue.py --peer HOST:PORT --work

The first form adds twenty jobs; the second one works until all are done. Start several, and kill some.
Without ``--peer`` it begins a ring of its own, for a try with ``--add`` and ``--work``.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from chordtx import ABSENT, ChordError, ChordService, Conflict, NoMajority

PAUSE_SECONDS = 0.2
KEPT_SECONDS = 24 * 3600.0  # for so long the result of a job can be read
Do = Callable[[Any], Awaitable[Any]]


class Refused(Exception):
    """Somebody else has taken the job since, or has done it."""


class JobQueue:
    """Jobs in a ring, each a map under a key of its own.

    :param lease_seconds: a worker that is silent for so long loses its job.
    """

    def __init__(self, node: ChordService, name: str, lease_seconds: float = 10.0) -> None:
        self._node = node
        self._prefix = f"job:{name}:"
        self._lease_seconds = lease_seconds

    async def add(self, name: str, task: Any) -> None:
        """Add a job. To add it twice does no harm."""
        job = {"task": task, "token": 0, "is_done": False, "result": None}
        with suppress(Conflict):  # it is there
            await self._node.compare_and_set(self._prefix + name, job, ABSENT)

    async def work(self, do: Do) -> None:
        """Take jobs until all are done. ``do`` gets the task of a job, and returns its result."""
        while True:
            with suppress(NoMajority):  # then we look again
                items = self._node.items(prefix=self._prefix)
                keys = [key.decode() async for key, job in items if not job["is_done"]]
                if not keys:
                    return
                for key in keys:
                    await self._try(key, do)
            await self._node.sleep(PAUSE_SECONDS)

    async def _try(self, key: str, do: Do) -> None:
        lock = self._node.lock(key, ttl=self._lease_seconds)
        if not await lock.acquire(wait=False):
            return  # somebody is at it
        try:
            task = await self._begin(key, lock.token)
            print(f"{key} begun with token {lock.token}", flush=True)
            await self._end(key, lock.token, await do(task))
            print(f"{key} done with token {lock.token}", flush=True)
        except Refused:
            print(f"{key} refused with token {lock.token}", flush=True)
        finally:
            with suppress(ChordError):  # if we are late or cut off: the lease ends by itself
                await lock.release()

    async def _begin(self, key: str, token: int) -> Any:
        """Write down who has it: from now on all who had it before are refused."""

        def begun(job: Any) -> Any:
            if job is None or job["is_done"] or job["token"] > token:
                raise Refused(key)
            return {**job, "token": token}

        return (await self._node.modify(key, begun))["task"]

    async def _end(self, key: str, token: int, result: Any) -> None:
        """Store the result, unless somebody else has taken the job since: the token is the fence."""

        def ended(job: Any) -> Any:
            if job is None or job["token"] != token:
                raise Refused(key)
            return {**job, "is_done": True, "result": result}

        while True:
            with suppress(NoMajority):  # it may be stored or not: to store it once more does no harm
                await self._node.modify(key, ended, ttl=KEPT_SECONDS)
                return
            await self._node.sleep(PAUSE_SECONDS)


async def main(reactor: Any, given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(reactor, listen=listen, peers=given.peer, leech=bool(given.peer)) as node:
        queue = JobQueue(node, "numbers", given.lease)
        for number in range(given.add):
            await queue.add(str(number), number)

        if given.work:
            # The work of a job here: a number's square, after a while.
            await queue.work(lambda n: node.sleep(given.seconds).addCallback(lambda _: n * n))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--add", type=int, default=0, metavar="COUNT", help="add so many jobs")
    parser.add_argument("--work", action="store_true", help="do jobs until all are done")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a job takes")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
