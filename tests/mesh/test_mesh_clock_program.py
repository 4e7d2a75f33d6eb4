"""Services in a program whose clock is set by hours: a real process, with the thread that watches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("clock_program.py")
#: Far less than the hours by which the clock is set, and far more than a busy machine needs.
PATIENCE_SECONDS = 120


def output_of(*arguments: str) -> str:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    ).stdout


def test_timers_of_an_embedded_service_keep_their_time() -> None:
    output = output_of()
    assert output.count("refused:") == 3
    assert output.endswith("fine\n")


def test_timers_keep_their_time_in_the_child_of_a_fork() -> None:
    assert output_of("fork").endswith("fine\n")
