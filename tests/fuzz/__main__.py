"""Fuzzes services by as many inputs as one likes, and runs one seed again.

``python -m tests.fuzz --count 1000000`` goes through all kinds of strangers, seed by seed.
``python -m tests.fuzz --kind chord-ours --seed 5`` is one run. To find the input that shows a fault, give a
smaller ``--count``, then a later ``--from``: inputs are the same whatever was left out before them.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count
from multiprocessing import Pool

from attrs import frozen
from twisted.logger import globalLogBeginner

from tests.fuzz.guest import KINDS
from tests.fuzz.run import Outcome, run
from tests.fuzz.world import Failed

RUN_INPUTS = 2500
RUNS_OF_A_PROCESS = 48
TOLD_SECONDS = 60.0


@frozen
class Job:
    """One run. :ivar count: of inputs. :ivar first: the number of the first."""

    kind: str
    seed: int
    count: int
    first: int


def main(arguments: Sequence[str]) -> int:
    """:returns: 1 when something was found, else 0."""
    options = _parser().parse_args(arguments)
    kinds = [options.kind] if options.kind else sorted(KINDS)
    if options.seed is not None:
        found = [_told(_result(job)) for job in _jobs(options, kinds, [options.seed], options.count)]
        return int(any(found))
    runs = -(-options.count // RUN_INPUTS)
    seeds = range(options.first_seed, options.first_seed + -(-runs // len(kinds)))
    return _fuzz([*_jobs(options, kinds, seeds, RUN_INPUTS)][:runs], options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=RUN_INPUTS, help="inputs in all (%(default)s)")
    parser.add_argument("--kind", choices=sorted(KINDS), help="one kind of stranger (all)")
    parser.add_argument("--seed", type=int, help="this one alone (one after another)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="with --seed: the first input")
    parser.add_argument("--first-seed", type=int, default=0, help="where seeds begin (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    return parser


def _jobs(
    options: argparse.Namespace, kinds: Sequence[str], seeds: Sequence[int], inputs: int
) -> Iterator[Job]:
    for seed in seeds:
        for kind in kinds:
            yield Job(kind, seed, inputs, options.first)


def _result(job: Job) -> tuple[Job, Outcome | str]:
    try:
        return job, run(job.kind, job.seed, job.count, job.first)
    except Failed as error:
        return job, str(error)
    finally:
        gc.collect()


def _told(result: tuple[Job, Outcome | str]) -> bool:
    """Print what came of one run. :returns: whether it was a failure."""
    job, outcome = result
    print(outcome if isinstance(outcome, str) else f"{job.kind} {job.seed}: {outcome}", flush=True)
    return isinstance(outcome, str)


def _begin() -> None:
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _fuzz(jobs: Sequence[Job], processes: int) -> int:
    began, told_at = time.monotonic(), 0.0
    inputs = links = failures = 0
    longest_seconds = 0.0
    with Pool(processes, _begin, maxtasksperchild=RUNS_OF_A_PROCESS) as pool:
        for number, result in zip(count(1), pool.imap_unordered(_result, jobs), strict=False):
            outcome = result[1]
            if isinstance(outcome, str):
                failures += _told(result)
            else:
                inputs, links = inputs + outcome.inputs, links + outcome.links
                longest_seconds = max(longest_seconds, outcome.longest_seconds)
            if time.monotonic() > told_at + TOLD_SECONDS or number == len(jobs):
                told_at = time.monotonic()
                so_far = f"{inputs:,} inputs over {links:,} links in {told_at - began:,.0f} s"
                turn = f"the longest turn took {longest_seconds:.3f} s of the processor"
                print(f"{so_far}; {failures} failures; {turn}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    _begin()
    sys.exit(main(sys.argv[1:]))
