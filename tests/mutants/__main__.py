"""Plants each mutant in a copy of the package, and searches until something catches it.

``python -m tests.mutants [--walks N] [--jobs N] [--json FILE] [NAME ...]``: 0 when all are caught.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.mutants.groups import MUTANTS, Mutant
from tests.page_table import write_rows

ROOT = Path(__file__).parents[2]
#: Runs in a process of its own, where the package is the copy with the fault.
HUNT = "import sys; from tests.mutants.hunt import main; main(int(sys.argv[1]))"


def planted(mutant: Mutant, folder: Path) -> None:
    """A copy of the package with the fault in it.

    :raises AssertionError: when the package does not read as the mutant expects.
    """
    shutil.copytree(ROOT / "chordtx", folder / "chordtx", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "chordtx" / "group" / mutant.file
    source = path.read_text()
    for before, after in mutant.changes:
        assert source.count(before) == 1, (
            f"{mutant.name}: {mutant.file} has {source.count(before)} of {before!r}"
        )
        source = source.replace(before, after)
    path.write_text(source)


def hunt(mutant: Mutant, walks: int) -> dict[str, Any]:
    """What caught it, and after how many walks and seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted(mutant, folder)
        (folder / "tests").symlink_to(ROOT / "tests")
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", HUNT, str(walks)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{mutant.name}: {done.stderr}")
        return {"name": mutant.name, "what": mutant.what, "seconds": time.monotonic() - began} | json.loads(
            done.stdout
        )


def write_table(results: list[dict[str, Any]]) -> None:
    """Put what was found into the page."""
    lines = [f"| `{each['name']}` | {each['what']} | {_caught_by(each)} |" for each in results]
    write_rows("| fault | what is wrong then | caught by | after |\n|---|---|---|---|\n", lines)


def _caught_by(result: dict[str, Any]) -> str:
    by, found, seconds = result["by"], result["found"], f"{max(1, round(result['seconds']))} s"
    what = (
        found[:2] if found[:1] == "S" else "a crash" if found.startswith("crash") else "it cannot be played"
    )
    if found.startswith("the time"):
        what = "the time goes back"
    if found.startswith("a watcher"):
        what = "a watcher is told wrongly"
    if not by.startswith("walk"):
        return f"`{by}`: {what} | {seconds}"
    count = int(by.split()[1]) + 1
    return f"walks: {what} | {count} walk{'s' if count > 1 else ''}, {seconds}"


def main() -> int:
    """Hunt those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--walks", type=int, default=5000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", help="write what was found here, too")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/reliability.md")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not options.names or mutant.name in options.names]
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda mutant: hunt(mutant, options.walks), chosen):
            results.append(result)
            print(
                f"{result['name']:26}{result['by']:>12} {result['seconds']:6.1f} s  {result['found'][:110]}",
                flush=True,
            )
    if options.docs:
        write_table(results)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    missed = [result["name"] for result in results if not result["found"]]
    print(f"{len(results)} mutants, {len(missed)} not caught{': ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
