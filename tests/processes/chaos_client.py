"""A client for :mod:`tests.processes.chaos`: sets and gets a few keys, and writes down what it was told.

``python -m tests.processes.chaos_client LOG STOP PEER...`` runs until there is a file STOP. A line of LOG is
``[client, kind, key, value, began, ended]``, in seconds of the machine's monotonic clock; ``ended`` is null
where there was no answer.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any, TextIO

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react

from chordtx import ChordError, ChordService, ChordSettings

KEYS = [f"key {number}" for number in range(8)]
WORKERS = 6
#: Of the workers. They go on while all others wait for a write that does not end.
READERS = 2
THINK_SECONDS = 0.02


class Client:
    """The workers of one process."""

    def __init__(self, node: ChordService, log: TextIO, stop: Path) -> None:
        self._node = node
        self._log = log
        self._stop = stop
        self._name = f"{os.getpid()}"
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        """Until it is to stop; then each key is read once more."""
        await DeferredList(
            [
                Deferred.fromCoroutine(self._work(f"{self._name}.{number}", Random(), number < READERS))
                for number in range(WORKERS)
            ],
            fireOnOneErrback=True,
        )
        for key in KEYS:
            await self._one(self._name, "GET", key, None)

    async def _work(self, name: str, rng: Random, only_reads: bool) -> None:
        while not self._stop.exists():
            kind = "GET" if only_reads else rng.choice(["GET", "SET"])
            value = f"{self._name} {next(self._numbers)}" if kind == "SET" else None
            await self._one(name, kind, rng.choice(KEYS), value)
            await self._node.sleep(THINK_SECONDS * 2 * rng.random())

    async def _one(self, name: str, kind: str, key: str, value: str | None) -> None:
        began_at = time.monotonic()
        ended_at: float | None = None
        try:
            if kind == "SET":
                await self._node.set(key, value)
            else:
                value = await self._node.get(key)
            ended_at = time.monotonic()
        except ChordError:
            pass
        self._log.write(json.dumps([name, kind, key, value, began_at, ended_at]) + "\n")
        self._log.flush()


async def _main(reactor: Any, log: str, stop: str, *peers: str) -> None:
    settings = ChordSettings(operation_timeout_seconds=4.0)
    node = ChordService(reactor, listen=None, peers=list(peers), leech=True, settings=settings)
    node.startService()
    await node.when_joined()
    with Path(log).open("w") as file:
        await Client(node, file, Path(stop)).run()
    await node.stopService()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_main(reactor, *sys.argv[1:])))
