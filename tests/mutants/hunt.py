"""Looks for what is wrong with the package on the path: scripted schedules first, then random walks."""

from __future__ import annotations

import json
import traceback

from chordtx.sim.group_search import Walk
from chordtx.sim.group_watch import Violation
from tests.group.schedules import SCHEDULES


def main(walks: int) -> None:
    """Print what was found, by what."""
    by, found = "", ""
    for schedule in SCHEDULES:
        try:
            schedule()
        except Violation as violation:
            by, found = schedule.__name__, str(violation)
        except Exception as error:
            by, found = schedule.__name__, f"cannot be played: {error!r}"
        if found:
            walks = 0
            break
    for seed in range(walks):
        walk = Walk(seed)
        try:
            walk.run()
        except Violation as violation:
            by, found = f"walk {seed}", str(violation)
        except Exception:
            by, found = f"walk {seed}", "crash: " + traceback.format_exc().strip().splitlines()[-1]
        if found:
            break
    print(json.dumps({"by": by, "found": found}))
