"""What a program does with its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.selectreactor import SelectReactor

from chordtx.process import use_monotonic_time

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0  # for what should take one: only what hangs gets there


@pytest.fixture
def reactor() -> Any:
    """One that never runs."""
    made: Any = SelectReactor()
    yield made
    for call in made.getDelayedCalls():
        call.cancel()
    made.disconnectAll()
    for reader in made.removeAll():
        reader.connectionLost(None)


def test_timers_are_on_monotonic_time(reactor: Any) -> None:
    use_monotonic_time(reactor)
    before = time.monotonic()
    call = reactor.callLater(5, print)
    assert before + 5 <= call.getTime() <= time.monotonic() + 5


def test_a_reactor_that_has_timers_is_left_alone(reactor: Any) -> None:
    reactor.callLater(5, print)
    use_monotonic_time(reactor)
    assert abs(reactor.seconds() - time.time()) < PATIENCE_SECONDS


def test_a_reactor_that_runs_is_left_alone(running_reactor: Any) -> None:
    seconds = running_reactor.seconds
    use_monotonic_time(running_reactor)
    assert running_reactor.seconds is seconds


#: A clock that is set while the program runs: ``time.time`` before Twisted takes it.
SET_CLOCK = """
import time
real, shift = time.time, [0.0]
time.time = lambda: real() + shift[0]
"""
DAEMON = (
    SET_CLOCK
    + """
import sys
from twisted.scripts import twistd
from chordtx.tap import GuardedNode
started = GuardedNode.startService
def startService(self):
    from twisted.internet import reactor
    started(self)
    reactor.callLater(0.1, shift.__setitem__, 0, SECONDS)
    reactor.callLater(0.2, print, "on time")
    reactor.callLater(0.3, reactor.stop)
    reactor.callLater(3600, print, "too soon")
GuardedNode.startService = startService
sys.argv = ["twistd", "-n", "--pidfile=", "chord", "--listen", "tcp:0:interface=127.0.0.1"]
twistd.run()
"""
)
COMMAND = (
    SET_CLOCK
    + """
from chordtx.cli.running import run
async def work(reactor):
    from twisted.internet.task import deferLater
    reactor.callLater(3600, print, "too soon")
    reactor.callLater(0.1, shift.__setitem__, 0, SECONDS)
    await deferLater(reactor, 0.2)
    print("on time")
    for call in reactor.getDelayedCalls():
        call.cancel()
run(work)
"""
)


@pytest.mark.parametrize("program", [DAEMON, COMMAND], ids=["twistd", "chordtx"])
@pytest.mark.parametrize("seconds", [-7200, 7200])
def test_no_timer_follows_a_clock_that_is_set(tmp_path: Path, program: str, seconds: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", program.replace("SECONDS", str(seconds))],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "on time" in ended.stdout
    assert "too soon" not in ended.stdout
