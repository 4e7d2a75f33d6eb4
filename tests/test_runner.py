"""``make test``: what becomes of the tests, and of what they have started, when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.__main__ import INTERRUPTED, both
from tests.processes.patience import until

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 60.0
RUNNER = """
import sys
from tests.__main__ import both
sys.exit(both([sys.executable, "-c", sys.argv[1]], [sys.executable, "-c", sys.argv[2]]))
"""
#: A test: it has started a process that lives on its own, and clears up when it is interrupted.
TEST = """
import pathlib, subprocess, sys, time
folder = pathlib.Path({folder!r})
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
(folder / "{name}.pid").write_text(str(other.pid))
(folder / "{name}.started").touch()
try:
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep({clears_up_seconds})
    (folder / "{name}.cleared").touch()
"""


def test_status_is_that_of_the_run_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    for statuses in ((0, 0), (3, 0), (0, 4)):
        commands = [[sys.executable, "-c", f"print({number}); exit({number})"] for number in statuses]
        assert both(*commands) == max(statuses)
        first, _, second = capfd.readouterr().out.partition("the tests that hardly wait:")
        assert (first.strip(), second.strip()) == (str(statuses[0]), str(statuses[1]))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run of two such tests, the second of which takes far too long to clear up."""
    tests = [
        TEST.format(folder=str(tmp_path), name=name, clears_up_seconds=seconds)
        for name, seconds in (("quick", 1), ("slow", 600))
    ]
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, *tests], cwd=ROOT, start_new_session=True
    ) as process:
        until(lambda: len(list(tmp_path.glob("*.started"))) == 2)
        yield process
        process.kill()


def is_running(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the system does not tell environments")
def test_interrupted_it_ends_with_all_that_it_has_started(
    runner: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    started = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert [is_running(each) for each in started] == [True, True]
    os.killpg(runner.pid, signal.SIGINT)  # as a terminal does it
    until((tmp_path / "quick.cleared").exists)
    assert runner.poll() is None
    os.killpg(runner.pid, signal.SIGINT)
    assert runner.wait(PATIENCE_SECONDS) == INTERRUPTED
    assert not (tmp_path / "slow.cleared").exists()
    until(lambda: not any(is_running(each) for each in started))


#: Tests of which the first one is interrupted while Twisted runs a call, and logs what the call raises.
SWALLOWED = """
import os, signal
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

@pytest_twisted.ensureDeferred
async def test_interrupted():
    reactor.callLater(0.1, os.kill, os.getpid(), signal.SIGINT)
    await deferLater(reactor, 0.3)

def test_next():
    print("goes on")
    raise AssertionError
"""


def test_an_interruption_that_twisted_logs_ends_the_session(tmp_path: Path) -> None:
    (tmp_path / "test_swallowed.py").write_text(SWALLOWED)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_sessionstart\n")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-q",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ended.returncode == pytest.ExitCode.INTERRUPTED
    assert "Interrupted: interrupted" in ended.stdout
    assert "goes on" not in ended.stdout
