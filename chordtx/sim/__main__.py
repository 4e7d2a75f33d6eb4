"""``python -m chordtx.sim``: runs one seed or many, says which failed, and replays one with its log."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import click
from twisted.logger import globalLogBeginner

from chordtx.sim import results
from chordtx.sim.plan import Fault
from chordtx.sim.run import Report, run_seed
from chordtx.sim.world import Options

_FAULTS = {fault.name.lower().replace("_", "-"): fault for fault in Fault}


def _range(_context: click.Context, _parameter: click.Parameter, text: str) -> range:
    first, _, last = text.partition(":")
    try:
        seeds = range(int(first), int(last))
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise click.BadParameter(f"{text!r} is not FIRST:LAST, two numbers in order")
    return seeds


@click.command()
@click.option("--seed", type=int, help="Replay one seed, with its log.")
@click.option(
    "--seeds",
    default="0:20",
    show_default=True,
    metavar="FIRST:LAST",
    callback=_range,
    help="Run all from FIRST up to LAST (excluded).",
)
@click.option(
    "--nodes", type=click.IntRange(min=2), help="Nodes at the start.  [default: 8 to 24, by the seed]"
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Virtual minutes with faults.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(sorted(_FAULTS)),
    help="Leave a fault out.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes to run seeds in."
)
@click.option(
    "--results",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Add what comes of each seed to this file, leave out those that are in it, and sum up all of it.",
)
@click.option("--debug", is_flag=True, help="With --seed: what nodes log for debugging too.")
def main(
    seed: int | None,
    seeds: range,
    nodes: int | None,
    minutes: float,
    without: tuple[str, ...],
    jobs: int,
    path: Path | None,
    debug: bool,
) -> None:
    """Run simulated rings and check what they promise."""
    options = Options(nodes=nodes, seconds=minutes * 60, without=frozenset(_FAULTS[name] for name in without))
    if seed is None and debug:
        raise click.UsageError("--debug goes with --seed")
    if seed is not None:
        if path is not None:
            raise click.UsageError("--results goes with --seeds")
        sys.exit(_replay(seed, options, debug))
    if path is not None and not path.parent.is_dir():
        raise click.UsageError(f"there is no folder {path.parent}")
    sys.exit(_run_many(seeds, options, jobs, path))


def _replay(seed: int, options: Options, debug: bool) -> int:
    click.echo(f"seed {seed}")
    _quiet()
    report = run_seed(seed, options, click.echo, wants_debug=debug)
    _print_report(report)
    return 1 if report.violations else 0


def _run_many(seeds: Iterable[int], options: Options, jobs: int, path: Path | None) -> int:
    begun = time.perf_counter()
    reports = [] if path is None else results.read(path)
    done = {report.seed for report in reports}
    for report in _reports([seed for seed in seeds if seed not in done], options, jobs):
        _print_report(report)
        reports.append(report)
        if path is not None:
            results.append(path, report)
    for line in results.summed_up(reports):
        click.echo(line)
    click.echo(f"took {time.perf_counter() - begun:.0f} s")
    return 1 if any(report.violations for report in reports) else 0


def _reports(seeds: list[int], options: Options, jobs: int) -> Iterable[Report]:
    run = partial(_run_and_clear, options=options)
    if jobs == 1:
        _quiet()
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        yield from pool.map(run, seeds)


def _run_and_clear(seed: int, options: Options) -> Report:
    report = run_seed(seed, options)
    gc.collect()  # a world that is over is one large circle of objects, 20 MB of them
    return report


def _quiet() -> None:
    # Hundreds of thousands of objects live on while a world does, and hardly any garbage is cyclic: looking
    # for it less often saves a fifth of the time.
    gc.set_threshold(100_000, 20, 100)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def _print_report(report: Report) -> None:
    verdict = f"FAILED ({len(report.violations)})" if report.violations else "fine"
    click.echo(
        f"seed {report.seed}: {verdict}; {report.nodes} nodes, {report.events} events, "
        f"{report.virtual_seconds:.0f} s, well after {report.well_seconds:.1f} s, {report.digest[:16]}"
    )
    for violation in report.violations:
        click.echo(f"    {violation}")


if __name__ == "__main__":
    main()
