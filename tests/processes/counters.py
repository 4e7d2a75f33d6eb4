"""Ten thousand increments from eight processes, while the five processes of the ring are killed, stand still
and are cut off from each other: no increment may be lost, and none may count twice.

``python -m tests.processes.counters`` splits the network where it may (:mod:`tests.processes.chaos`);
elsewhere all nodes are on the loopback device, and are only killed and stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

from tests.processes.chaos import NODES, PORT, Chaos, Ring, Wires, may_run, said, until
from tests.processes.counters_client import WORKERS
from tests.processes.daemons import ROOT

CLIENTS = 8
#: A counter, and the number that a client was told; None when nobody knows whether it counts.
Call = tuple[str, int | None]


class Loopback:
    """All nodes in one network: each has an address of its own in 127.0.0.0/8."""

    def address(self, number: int) -> str:
        """Of a node: a host and a port."""
        return f"127.0.78.{number}:{PORT}"

    def run(self, number: int, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Run a program."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("ab") as out:
            return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)


def judged(calls: Iterable[Call], finals: dict[str, int]) -> list[str]:
    """What is wrong with these calls, where the counters stand at ``finals`` after them."""
    told: dict[str, list[int]] = defaultdict(list)
    unknown: dict[str, int] = defaultdict(int)
    for counter, number in calls:
        if number is None:
            unknown[counter] += 1
        else:
            told[counter].append(number)
    wrong = []
    for counter in sorted({*told, *unknown, *finals}):
        numbers, final = told[counter], finals.get(counter, 0)
        if len({*numbers}) < len(numbers):
            wrong.append(f"{counter}: two clients were told the same number")
        if max(numbers, default=0) > final:
            wrong.append(f"{counter}: a client was told {max(numbers)}, and it stands at {final}")
        if not len(numbers) <= final <= len(numbers) + unknown[counter]:
            wrong.append(f"{counter}: {len(numbers)} answered, {unknown[counter]} unknown, stands at {final}")
    return wrong


def calls_in(log: Path) -> list[Call]:
    """What a client has written down."""
    return [(counter, number) for counter, number in map(json.loads, log.read_text().splitlines())]


def run(count: int, seconds: float, seed: int, folder: Path) -> int:
    """A ring, its clients, and what goes wrong. :returns: an exit status."""
    with ExitStack() as stack:
        wires = stack.enter_context(Wires(NODES)) if may_run() else None
        places = wires or Loopback()
        ring = Ring(places, folder)
        stack.callback(ring.end)
        for number in range(1, NODES + 1):
            ring.start(number)
        ring.when_healthy()
        peers = [places.address(number) for number in range(1, NODES + 1)]

        def client(at: int, log: Path, increments: int) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "tests.processes.counters_client", str(log), str(increments)]
            process = places.run(at, *command, str(seconds), *peers, log=log.with_suffix(".log"))
            stack.callback(process.kill)
            return process

        logs = [folder / f"client{number}.jsonl" for number in range(CLIENTS)]
        clients = [client(1 + at % NODES, log, count // CLIENTS) for at, log in enumerate(logs)]
        until(lambda: all(log.exists() and log.stat().st_size for log in logs), "no clients")
        chaos = Chaos(wires, ring, Random(seed))
        while any(each.poll() is None for each in clients):
            chaos.one()
        ring.when_healthy()
        finals = folder / "finals.jsonl"
        ended = [each.wait() for each in [*clients, client(3, finals, 0)]]
        calls = [call for log in logs for call in calls_in(log)]
        wrong = judged(calls, {counter: number or 0 for counter, number in calls_in(finals)})
        wrong += [f"a client ended with {status}" for status in ended if status]
        return _told(calls, calls_in(finals), chaos, wrong)


def _told(calls: list[Call], finals: list[Call], chaos: Chaos, wrong: list[str]) -> int:
    told: dict[str, Any] = {
        "faults": dict(chaos.faults),
        "increments": len(calls),
        "answered": sum(number is not None for _, number in calls),
        "unknown": sum(number is None for _, number in calls),
        "sum": sum(number or 0 for _, number in finals),
    }
    return said(told, wrong)


def main() -> None:
    """Run, and exit with 1 when something was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="of increments, of all clients together")
    parser.add_argument("--seconds", type=float, default=90.0, help="for which they are spread out")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.count % (CLIENTS * WORKERS):
        parser.error(f"--count is a multiple of {CLIENTS * WORKERS}")
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _: sys.exit(128 + number))  # and clean up
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(options.count, options.seconds, options.seed, Path(folder)))


if __name__ == "__main__":
    main()
