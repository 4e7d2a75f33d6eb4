"""Timing operations: who does them does not matter here. Pure but for the clock and Deferreds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults

Operation = Callable[[], Awaitable[Any]]


@frozen
class Load:
    """One operation, done by several callers each of which waits for its answer before the next.

    :ivar operation: ``get`` or ``set``. :ivar at_once: how many callers.
    """

    operation: str
    at_once: int


@frozen
class Workload:
    """What goes on at the same time, and how it is called in the table."""

    name: str
    loads: tuple[Load, ...]


WORKLOADS = (
    Workload("alone", (Load("get", 1),)),
    Workload("alone", (Load("set", 1),)),
    Workload("alone", (Load("get", 64),)),
    Workload("alone", (Load("set", 64),)),
    # Loading and serving at once: what a node in use does.
    Workload("both", (Load("set", 64), Load("get", 1))),
)


@define
class Samples:
    """What was measured of one load on one system, in all rounds.

    :ivar latencies_seconds: of each operation that succeeded. :ivar failures: how many did not.
    :ivar rounds: operations a second, by round.
    """

    latencies_seconds: list[float] = field(factory=list)
    failures: int = 0
    rounds: list[float] = field(factory=list)

    def add_round(self, latencies_seconds: Sequence[float], failures: int, seconds: float) -> None:
        """Take in one round that lasted ``seconds``."""
        self.latencies_seconds.extend(latencies_seconds)
        self.failures += failures
        self.rounds.append(len(latencies_seconds) / seconds)

    @property
    def median_ms(self) -> float | None:
        """None when nothing succeeded."""
        return statistics.median(self.latencies_seconds) * 1000 if self.latencies_seconds else None

    @property
    def p95_ms(self) -> float | None:
        """What 19 of 20 stay under; None when nothing succeeded."""
        if not self.latencies_seconds:
            return None
        ordered = sorted(self.latencies_seconds)
        return ordered[int(0.95 * (len(ordered) - 1))] * 1000

    @property
    def ops_per_second(self) -> float:
        """The median of the rounds: one bad moment of the machine does not count."""
        return statistics.median(self.rounds) if self.rounds else 0.0


async def measure(seconds: float, operation: Operation, at_once: int, samples: Samples) -> None:
    """One round: ``at_once`` callers repeat ``operation`` for so many seconds."""
    latencies: list[float] = []
    failures = 0
    clock = time.perf_counter
    began = clock()
    end = began + seconds

    async def caller() -> None:
        nonlocal failures
        while (asked := clock()) < end:
            try:
                await operation()
            except Exception:
                failures += 1
            else:
                latencies.append(clock() - asked)

    await gatherResults([Deferred.fromCoroutine(caller()) for _ in range(at_once)])
    samples.add_round(latencies, failures, clock() - began)
