"""Benchmarks: a ring of processes beside a bare request and reply, and beside the old library.

All systems are up at the same time and are measured in turns, in several rounds and each round in another
order, so that whatever else the machine does hits all alike. Ratios are to the bare pair in the same run.
"""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from measuring import WORKLOADS, Samples, Workload
from profiling import profile
from reporting import Row, described, print_table, write_json
from systems import PY2P, Bare, BareServers, OldRing, Ring, System

from chordtx.cli import running

RESULTS = Path(__file__).with_name("results") / "latest.json"
SEED = 44565
ROUNDS, ROUNDS_QUICK = 5, 3
SECONDS, SECONDS_QUICK = 2.0, 0.6
OLD_NODES_MAX = 4
_WARM_UP_SECONDS = 0.3

Case = tuple[System, Workload, list[Samples]]


class Bench:
    """One run.

    :param rings: sizes of the rings. :param seconds: for each load on each system, in all rounds together.
    """

    def __init__(self, reactor: Any, rings: list[int], seconds: float, rounds: int) -> None:
        self._seconds = seconds
        self._rounds = rounds
        self.notes: list[str] = []
        self._systems: list[System] = [Bare(reactor)]
        self._systems += [BareServers(reactor, nodes) for nodes in rings if nodes > 1]
        self._systems += [Ring(reactor, nodes) for nodes in rings]
        if PY2P.with_suffix(".stamp").exists():
            small = [nodes for nodes in rings if nodes <= OLD_NODES_MAX]
            self._systems += [OldRing(reactor, nodes, rounds) for nodes in small]
        else:
            self.notes.append("py2p is not installed (`make test` does it), and was left out")

    async def run(self) -> list[Row]:
        """Start all, measure all, stop all."""
        started: list[System] = []
        try:
            for system in self._systems:
                if await self._start(system):
                    started.append(system)
            return await self._measure(started)
        finally:
            for system in self._systems:
                await system.stop()

    async def _start(self, system: System) -> bool:
        click.echo(f"starting {system.name}, {system.nodes}", err=True)
        try:
            await system.start()
        except Exception as error:
            if not isinstance(system, OldRing):
                raise
            self.notes.append(f"{system.name} with {system.nodes} nodes fails to start: {error}")
            return False
        if system.note and system.note not in self.notes:
            self.notes.append(system.note)
        return True

    async def _measure(self, systems: list[System]) -> list[Row]:
        cases: list[Case] = [
            (system, workload, [Samples() for _ in workload.loads])
            for workload in WORKLOADS
            for system in systems
            if system.takes(workload)
        ]
        rng = random.Random(SEED)
        for number in range(self._rounds + 1):
            name = f"round {number} of {self._rounds}" if number else "warming up"
            click.echo(name, err=True)
            for system, workload, samples in rng.sample(cases, len(cases)):
                await self._round(system, workload, samples, warming_up=not number)
        return [
            Row(system, workload, load, each)
            for system, workload, samples in cases
            for load, each in zip(workload.loads, samples, strict=True)
        ]

    async def _round(
        self, system: System, workload: Workload, samples: list[Samples], warming_up: bool
    ) -> None:
        if warming_up:
            await system.round(workload, _WARM_UP_SECONDS, [Samples() for _ in samples])
        else:
            await system.round(workload, self._seconds / self._rounds, samples)


async def _bench(reactor: Any, rings: list[int], seconds: float, rounds: int, path: Path) -> None:
    began = time.monotonic()
    bench = Bench(reactor, rings, seconds, rounds)
    rows = await bench.run()
    report = described(rows, bench.notes, {"rings": rings, "seconds": seconds, "rounds": rounds})
    print_table(report)
    write_json(report, path)
    click.echo(f"{path} written; {time.monotonic() - began:.0f} s in all", err=True)


def _sizes(context: click.Context, parameter: click.Parameter, text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise click.BadParameter("sizes are numbers with commas between") from None
    if sizes[0] < 1:
        raise click.BadParameter("a ring has a node at least")
    return sizes


@click.command(help=__doc__)
@click.option("--rings", default="1,2,4,8", show_default=True, callback=_sizes, help="Sizes of the rings.")
@click.option(
    "--seconds", type=float, default=SECONDS, show_default=True, help="For each load on each system."
)
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds, for a first look.")
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=RESULTS, help="Where the numbers go."
)
@click.option(
    "--profile", "profiling", is_flag=True, help="Show where the time goes, and measure nothing else."
)
@click.option("--top", default=35, show_default=True, help="Functions that --profile shows.")
def main(rings: list[int], seconds: float, quick: bool, path: Path, profiling: bool, top: int) -> None:
    """See the module."""
    rounds = ROUNDS_QUICK if quick else ROUNDS
    seconds = min(seconds, SECONDS_QUICK) if quick else seconds

    def work(reactor: Any) -> Coroutine[Any, Any, None]:
        if profiling:
            return profile(reactor, seconds, top)
        return _bench(reactor, rings, seconds, rounds, path)

    running.run(work)


if __name__ == "__main__":
    main()
