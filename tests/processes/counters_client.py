"""A client for :mod:`tests.processes.counters`: increments a few counters, and writes down what it was told.

``python -m tests.processes.counters_client LOG COUNT SECONDS PEER...`` makes COUNT increments in at least so
many seconds. A line of LOG is ``[counter, number]``; the number is null where nobody knows whether it counts.
With a COUNT of 0 it reads all counters instead.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, TextIO

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from chordtx import ChordService, NoMajority

COUNTERS = [f"counter {number}" for number in range(16)]
#: At once, in one process.
WORKERS = 5


async def _increment(node: ChordService, log: TextIO, count: int, pause_seconds: float) -> None:
    rng = Random()
    for _ in range(count):
        counter = rng.choice(COUNTERS)
        number: float | None = None
        with suppress(NoMajority):
            number = await node.increment(counter)
        log.write(json.dumps([counter, number]) + "\n")
        log.flush()
        await node.sleep(pause_seconds * 2 * rng.random())


async def _main(reactor: Any, name: str, count: int, seconds: float, *peers: str) -> None:
    async with ChordService(reactor, listen=None, peers=list(peers), leech=True) as node:
        with Path(name).open("w") as log:
            if not count:
                for counter in COUNTERS:
                    log.write(json.dumps([counter, await node.get(counter, 0)]) + "\n")
                return
            each = count // WORKERS
            workers = [_increment(node, log, each, seconds / each) for _ in range(WORKERS)]
            await DeferredList(map(Deferred.fromCoroutine, workers), fireOnOneErrback=True)


if __name__ == "__main__":
    log, count, seconds, *peers = sys.argv[1:]
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, log, int(count), float(seconds), *peers)))
