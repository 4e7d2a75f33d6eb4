"""Waiting for what other processes do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 60.0  # for what should take one: only what hangs gets there


def until(is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until it is so, while the process runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert process is None or process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def says(path: Path, text: str) -> Callable[[], bool]:
    """Whether a file has this text by now."""
    return lambda: path.exists() and text in path.read_text()
