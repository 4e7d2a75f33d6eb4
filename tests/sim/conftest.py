"""Runs the many seeds beside the other tests: virtual time does not care who else runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = 60
#: The test that looks at what came of them, which goes last.
SEEDS_TEST = "test_nothing_promised_is_broken_under_any_fault"
_NICENESS = 10


class Seeds:
    """The run, from when it is known that its test is wanted."""

    def __init__(self) -> None:
        self._out: IO[str] = TemporaryFile("w+")  # noqa: SIM115  # closed at the end
        seeds = ["--seeds", f"0:{SEEDS}", "--jobs", "2"]
        command = ["nice", "-n", str(_NICENESS), sys.executable, "-m", "chordtx.sim", *seeds]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self._out, stderr=subprocess.STDOUT)

    def ended(self) -> tuple[int, str]:
        """Wait for it. :returns: its status, and what it printed."""
        status = self._process.wait()
        self._out.seek(0)
        return status, self._out.read()

    def end(self) -> None:
        """End it, if it runs."""
        self._process.terminate()
        self._process.wait()
        self._out.close()


_STARTED = pytest.StashKey[Seeds]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the test last."""
    items.sort(key=lambda item: item.name == SEEDS_TEST)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the run, when its test is among those wanted."""
    if session.items and session.items[-1].name == SEEDS_TEST and not session.config.option.collectonly:
        session.config.stash[_STARTED] = Seeds()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it, if nobody waited for it."""
    started = config.stash.get(_STARTED, None)
    if started is not None:
        started.end()


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """``seeds()`` waits for the run, and gives its status and what it printed."""
    return request.config.stash[_STARTED].ended
