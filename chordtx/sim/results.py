"""What came of many runs, in a file that grows: so that a long search may be interrupted and go on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from math import inf
from pathlib import Path

from attrs import asdict

from chordtx.sim.plan import Fault
from chordtx.sim.run import Report


def read(path: Path) -> list[Report]:
    """The reports in a file, none when it is not there.

    A line that was cut off, or that another version has written, is left out: its seed is run again.
    """
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            found.append(_report(line))
    return found


def append(path: Path, report: Report) -> None:
    """Add one, on a line of its own."""
    fields = asdict(report)
    fields["faults"] = {fault.name: count for fault, count in report.faults.items()}
    with path.open("a") as file:
        file.write("\n" + json.dumps(fields))


def _report(line: str) -> Report:
    fields = json.loads(line)
    faults = Counter({Fault[name]: count for name, count in fields.pop("faults").items()})
    return Report(**{**fields, "faults": faults, "outcomes": Counter(fields["outcomes"])})


def summed_up(reports: Iterable[Report]) -> list[str]:
    """Lines that tell of all of them: sums, faults by kind, and the seeds that failed."""
    total, faults, failed = Counter[str](), Counter[Fault](), []
    count, seconds, margin = 0, 0.0, inf
    for report in reports:
        count += 1
        seconds += report.virtual_seconds
        total.update(report.outcomes)
        total["events"] += report.events
        total["nodes"] += report.nodes
        total["looks at groups"] += report.looks
        total["leaders"] += report.leaders
        margin = min(margin, report.lease_margin_seconds)
        total["too hard to judge"] += report.too_hard
        faults.update(report.faults)
        if report.violations:
            failed.append(report.seed)
    by_name = {fault.name.lower(): faults[fault] for fault in Fault}
    return [
        f"{count} seeds, {seconds / 3600:.1f} virtual hours: {dict(total)}",
        f"faults: {by_name}",
        f"the least margin of a lease: {margin:.3f} s",
        f"failed: {' '.join(map(str, failed)) or 'none'}",
    ]
