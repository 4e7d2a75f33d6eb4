"""Plants each fault in whole services, and runs seeds until one finds it.

``python -m tests.sim.hunt [--seeds N] [--jobs N] [--docs] [NAME ...]``: 0 when all are found. A seed counts
only when the same run without the fault is fine, and when it finds what the fault is to be found as.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import NamedTuple

import pytest

from chordtx.sim.run import run_seed
from chordtx.sim.world import Options
from tests.page_table import write_rows
from tests.sim.planted import PLANTED, Planted

#: How the simulator says each thing that a fault is found as.
SAYS = {
    "not linearizable": r": not linearizable: ",
    "S1": r": S1 ",
    "S2": r": S2 ",
    "S3": r": S3 ",
    "S4, the margin": r": S4 ",
    "S5": r": S5 ",
    "S6": r": S6 ",
    "a value is read after its time": r" though it has expired",
    "the time of a partition goes back": r" goes back: ",
    "nobody leads at the end": r" has 0 leaders",
    "groups are too small at the end": r" has \d members",
    "no true ring at the end": r"no true ring at the end",
    "two rings become one": r"two rings have become one",
    "a copy of a folder is not refused": r" is not refused",
    "a value past the limit is taken": r"past the limit",
    "news are missed": r"^news are missed",
    "news that are not true": r"^news that are not true",
    "a watcher does not know the newest": r"does not know the newest",
    "a lock is held twice": r"is held twice",
    "two were given one token": r"were given token",
    "a lock is stuck": r"is stuck",
}


class Found(NamedTuple):
    """What came of one fault.

    :ivar seed: that found it, or None. :ivar violation: as it was told.
    :ivar seconds: that the run took which found it, or all of them.
    """

    planted: Planted
    seed: int | None
    violation: str
    seconds: float


def violation_in(planted: Planted, seed: int) -> str | None:
    """What one run says of the fault, with the fault in it; None when it does not find it."""
    with pytest.MonkeyPatch.context() as patch:
        planted.plant(patch)
        violations = run_seed(seed, planted.options).violations
    says = re.compile(SAYS[planted.found_as])
    return next((violation for violation in violations if says.search(violation)), None)


@cache
def wrong_without(options: Options, seed: int) -> tuple[str, ...]:
    """What is wrong in a run with nothing planted."""
    return tuple(run_seed(seed, options).violations)


def hunt(planted: Planted, seeds: int) -> Found:
    """Run the seed that found it last, and then others."""
    began = time.monotonic()
    for seed in dict.fromkeys([planted.first, *range(seeds)]):
        seed_began = time.monotonic()
        violation = violation_in(planted, seed)
        seconds = time.monotonic() - seed_began
        if violation is not None and not wrong_without(planted.options, seed):
            return Found(planted, seed, violation, seconds)
    return Found(planted, None, "", time.monotonic() - began)


def write_table(all_found: list[Found]) -> None:
    """Put what was found into the page."""
    lines = [
        f"| `{each.planted.plant.__name__}` | {each.planted.found_as} | {each.seed} "
        f"| {max(1, round(each.seconds))} s |"
        for each in all_found
    ]
    write_rows("| fault | found as | seed | after |\n|---|---|---|---|\n", lines)


def main() -> int:
    """Hunt those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.hunt", description=__doc__)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    chosen = [each for each in PLANTED if not options.names or each.plant.__name__ in options.names]
    results = []
    with ProcessPoolExecutor(options.jobs, initializer=partial(gc.set_threshold, 100_000, 20, 100)) as pool:
        for found in pool.map(partial(hunt, seeds=options.seeds), chosen):
            results.append(found)
            name, moved = (
                found.planted.plant.__name__,
                "" if found.seed == found.planted.first else " (moved)",
            )
            print(
                f"{name:40} seed {found.seed}{moved} {found.seconds:6.1f} s  {found.violation[:80]}",
                flush=True,
            )
    if options.docs:
        write_table(results)
    missed = [found.planted.plant.__name__ for found in results if found.seed is None]
    print(f"{len(results)} faults, {len(missed)} not found{': ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
