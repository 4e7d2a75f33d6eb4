"""What clients notice when a node leaves, or dies: real processes under a steady load.

    python bench/changes.py --nodes 5 --times 2

Each of some keys is set and read again and again, with pauses. Prints how long calls took that began while
the ring changed, and for how long each key could not be set. Times are of this machine as it is just now;
those without a change stand beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from attrs import define, field
from systems import free_ports
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater, react

from chordtx import ChordError, ChordService
from chordtx.cli.client import Client
from chordtx.cli.local_ring import LocalRing

SUBNET = "changes"
KEYS = 120
PAUSE_SECONDS = 0.02
CALM_SECONDS = 4.0
CHANGED_SECONDS = 8.0
_SETTLE_SECONDS = 3.0


@define
class Load:
    """What a client does, and how it goes.

    :ivar calls: (began at, seconds) of each. :ivar done: when sets of each key were acknowledged.
    """

    reactor: Any
    node: ChordService
    calls: list[tuple[float, float]] = field(factory=list)
    done: dict[str, list[float]] = field(factory=dict)
    failed: list[str] = field(factory=list)
    is_over: bool = False

    async def run(self) -> None:
        """Until it is over."""
        keys = [f"key {number}" for number in range(KEYS)]
        await DeferredList([Deferred.fromCoroutine(self._one(key)) for key in keys])

    async def _one(self, key: str) -> None:
        done = self.done[key] = []
        number = 0
        while not self.is_over:
            number += 1
            began = self.reactor.seconds()
            try:
                if number % 2:
                    await self.node.set(key, number)
                    done.append(self.reactor.seconds())
                else:
                    await self.node.get(key)
            except ChordError as error:
                self.failed.append(repr(error))
            self.calls.append((began, self.reactor.seconds() - began))
            await deferLater(self.reactor, PAUSE_SECONDS, lambda: None)

    def took(self, begin: float, end: float) -> list[float]:
        """Seconds of the calls that began then, sorted."""
        return sorted(seconds for began, seconds in self.calls if begin <= began < end)

    def gaps(self, begin: float) -> list[float]:
        """The longest time without an acknowledged set of each key since then, sorted."""
        found = []
        for moments in self.done.values():
            since = [moment for moment in moments if moment >= begin - 4 * PAUSE_SECONDS]
            found.append(max((b - a for a, b in pairwise(since)), default=0.0))
        return sorted(found)


def share(sorted_values: Sequence[float], part: float) -> float:
    """The value that a part of all do not pass."""
    return (
        sorted_values[min(int(len(sorted_values) * part), len(sorted_values) - 1)] if sorted_values else 0.0
    )


def told(seconds: Sequence[float]) -> str:
    """Shares of them, in ms."""
    parts = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return ", ".join(f"{name} {share(seconds, part) * 1000:.1f}" for name, part in parts.items()) + " ms"


async def measure(reactor: Any, nodes: int, how: str, data: str | None) -> None:
    """One change of a fresh ring."""
    ring = LocalRing(reactor, nodes, free_ports(nodes), subnet=SUBNET, data=data)
    await ring.start()
    node = Client(peers=(ring.addresses[0], ring.addresses[1]), subnet=SUBNET).start(reactor)
    try:
        await node.when_joined()
        await deferLater(reactor, _SETTLE_SECONDS, lambda: None)
        load = Load(reactor, node)
        running = Deferred.fromCoroutine(load.run())
        await deferLater(reactor, CALM_SECONDS, lambda: None)
        at = reactor.seconds()
        ring._nodes[2].stop(how)
        await deferLater(reactor, CHANGED_SECONDS, lambda: None)
        load.is_over = True
        await running
        what = "with disks" if data else "in memory"
        verb = {"TERM": "leaves", "KILL": "is killed"}[how]
        print(f"one of {nodes} {verb}, {what}: {len(load.failed)} calls failed {load.failed[:1]}")
        print(f"  calls before: {told(load.took(0.0, at - 1))}")
        print(f"  calls that began in the 3 s after: {told(load.took(at, at + 3))}")
        gaps = [gap for gap in load.gaps(at) if gap > 10 * PAUSE_SECONDS]
        longest = f", median {share(gaps, 0.5):.2f} s, max {gaps[-1]:.2f} s" if gaps else ""
        print(f"  keys that could not be set for {10 * PAUSE_SECONDS:.1f} s or more: {len(gaps)}{longest}")
    finally:
        await node.stopService()
        await ring.stop()


async def main(reactor: Any, nodes: int, times: int) -> None:
    for _ in range(times):
        for how in ("TERM", "KILL"):
            await measure(reactor, nodes, how, None)
            with tempfile.TemporaryDirectory() as folder:
                await measure(reactor, nodes, how, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What clients notice when a node leaves, or dies.")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--times", type=int, default=1)
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, given.nodes, given.times)))
