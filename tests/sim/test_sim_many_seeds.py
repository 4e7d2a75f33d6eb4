"""Whole rings under every fault: many seeds, by the program that runs any of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from chordtx.sim.plan import Fault

ROOT = Path(__file__).parents[2]
SEEDS = 60


def test_nothing_promised_is_broken_under_any_fault() -> None:
    command = [sys.executable, "-m", "chordtx.sim", "--seeds", f"0:{SEEDS}", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert len(re.findall(r"^seed \d+: fine", said, re.MULTILINE)) == SEEDS
    for fault in Fault:
        assert f"'{fault.name.lower()}': " in said
