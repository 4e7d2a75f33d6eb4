"""The numbers as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import twisted
from attrs import frozen
from measuring import Load, Samples, Workload
from rich.console import Console
from rich.table import Table
from systems import Bare, System

_WIDTH = 120


@frozen
class Row:
    """What was measured of one load on one system."""

    system: System
    workload: Workload
    load: Load
    samples: Samples

    @property
    def what(self) -> tuple[str, Load]:
        """Rows of the same kind of load compare."""
        return (self.workload.name, self.load)

    def described(self, bare: Samples | None) -> dict[str, Any]:
        """As JSON has it. :param bare: the bare pair's, under the same load."""
        samples = self.samples
        return {
            "system": self.system.name,
            "nodes": self.system.nodes,
            "workload": self.workload.name,
            "operation": self.load.operation,
            "at_once": self.load.at_once,
            "operations": len(samples.latencies_seconds),
            "failures": samples.failures,
            "median_ms": _rounded(samples.median_ms),
            "p95_ms": _rounded(samples.p95_ms),
            "ops_per_second": _rounded(samples.ops_per_second),
            "median_to_bare": _ratio(samples.median_ms, bare and bare.median_ms),
            "ops_to_bare": _ratio(samples.ops_per_second, bare and bare.ops_per_second),
            "ops_per_second_by_round": [_rounded(each) for each in samples.rounds],
        }


def described(rows: list[Row], notes: list[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything, as JSON has it."""
    bare = {row.what: row.samples for row in rows if isinstance(row.system, Bare)}
    return {
        "machine": {
            "cores": os.cpu_count(),
            "load_average": os.getloadavg(),
            "platform": platform.platform(),
            "python": platform.python_version(),
            "twisted": twisted.__version__,
        },
        "settings": settings,
        "notes": notes,
        "rows": [row.described(bare.get(row.what)) for row in rows],
    }


def print_table(report: dict[str, Any]) -> None:
    """The table, and what is to be known of it."""
    machine = report["machine"]
    table = Table(title=f"{machine['cores']} cores, Python {machine['python']}, Twisted {machine['twisted']}")
    table.add_column("load", no_wrap=True)
    table.add_column("system", no_wrap=True)
    for heading in ("nodes", "median ms", "p95 ms", "ops/s", "median : bare", "ops : bare"):
        table.add_column(heading, justify="right")
    previous = ""
    for row in sorted(report["rows"], key=lambda row: (row["workload"], row["at_once"], row["operation"])):
        load = f"{row['operation']} x {row['at_once']}"
        load += " beside the other" if row["workload"] == "both" else ""
        if load != previous:
            table.add_section()
        table.add_row("" if load == previous else load, *_cells(row))
        previous = load
    # Into a file or a pipe it goes unwrapped.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table)
    for note in report["notes"]:
        console.print(note)


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["system"], str(row["nodes"])]
    if row["median_ms"] is None:
        return [*cells, "fails", "", "", "", ""]
    failed = f" ({row['failures']} failed)" if row["failures"] else ""
    cells += [f"{row['median_ms']:.3f}", f"{row['p95_ms']:.3f}", f"{row['ops_per_second']:,.0f}{failed}"]
    return cells + [f"{row[name]:.3g}" if row[name] else "" for name in ("median_to_bare", "ops_to_bare")]


def write_json(report: dict[str, Any], path: Path) -> None:
    """Write it, and the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _ratio(value: float | None, bare: float | None) -> float | None:
    return float(f"{value / bare:.3g}") if value and bare else None
