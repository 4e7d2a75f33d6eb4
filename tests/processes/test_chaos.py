"""Real processes, whose network falls apart; and the judge of what clients were told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chordtx.sim.history import Kind, Operation
from tests.processes.chaos import NOT_HERE, judged
from tests.processes.daemons import ROOT

SECONDS = os.environ.get("CHORDTX_CHAOS", "20")


def test_nothing_is_lost_and_nothing_is_made_up_whatever_happens_to_processes_and_their_network() -> None:
    command = [sys.executable, "-m", "tests.processes.chaos", "--seconds", SECONDS, "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == NOT_HERE:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(done.stdout)


def operation(kind: Kind, value: str | None, began_at: float, ended_at: float) -> Operation:
    return Operation("client", kind, b"key", value, began_at, ended_at)


def test_a_stale_read_is_seen() -> None:
    written = [operation(Kind.SET, "one", 0, 1), operation(Kind.SET, "two", 2, 3)]
    assert judged([*written, operation(Kind.GET, "two", 4, 5)]) == []
    assert judged([*written, operation(Kind.GET, "one", 2.5, 3.5)]) == []
    (wrong,) = judged([*written, operation(Kind.GET, "one", 4, 5)])
    assert "not linearizable" in wrong
