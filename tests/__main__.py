"""All tests, in two runs of pytest beside each other: those that hardly wait, and those that wait for real
time. The first kind takes a whole processor, the second one waits a lot.

What the tests that hardly wait print comes when both runs have ended. With arguments it is one run of pytest,
with those arguments.

Ctrl-C ends both and all that they have started: each run is asked once, for pytest ends by that signal what
it has begun, and a second signal would cut that short. What is left then is killed. A second Ctrl-C kills at
once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

ROOT = Path(__file__).parents[1]
#: Folders of tests that hardly wait: nearly all are on virtual time.
COMPUTING = tuple(
    f"tests/{name}" for name in ("chord", "fuzz", "group", "legacy", "mutants", "ring", "sim", "sync", "wire")
)
INTERRUPTED = 128 + signal.SIGINT
#: In the environment of all that the runs start, however far from them: who started it.
MARK = "CHORDTX_TEST_RUN"
_PYTEST = (sys.executable, "-m", "pytest")
_NOTE = "two runs of pytest beside each other; with two processors they take some 30 minutes together\n"
_END_SECONDS = 30.0  # a test may run to its end first, and then clears up
_PROCESSES = Path("/proc")


def both(real: Sequence[str], computing: Sequence[str]) -> int:
    """Run two commands beside each other. What the second one prints comes at the end.

    :returns: an exit status, the first that is not 0.
    """
    with TemporaryFile("w+") as out:
        runs: list[subprocess.Popen[bytes]] = []
        try:
            runs += [_started(real, None)]
            runs += [_started(computing, out)]
            return max(run.wait() for run in runs)
        except KeyboardInterrupt:
            _interrupt(runs)
            return INTERRUPTED
        finally:
            for run in runs:
                run.kill()
                run.wait()
            kill_marked(str(os.getpid()))
            out.seek(0)
            sys.stdout.write(f"\nthe tests that hardly wait:\n{out.read()}")


def _started(command: Sequence[str], out: IO[str] | None) -> subprocess.Popen[bytes]:
    """In a process group of its own: what a terminal sends to us does not reach it a second time."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, MARK: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=None if out is None else subprocess.STDOUT,
        process_group=0,
    )


def _interrupt(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask the runs to end, and wait until they have; a second Ctrl-C waits no longer."""
    sys.stderr.write("interrupted: the tests clear up; again kills them\n")
    for run in runs:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
        for run in runs:
            run.wait(_END_SECONDS)


def kill_marked(mark: str) -> None:
    """Kill every process with this mark in its environment. Only where the system tells environments."""
    for process in _marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _marked(mark: str) -> Iterator[int]:
    entry = f"{MARK}={mark}".encode()
    for folder in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _terminated(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """:returns: an exit status."""
    if arguments:
        os.chdir(ROOT)
        os.execv(sys.executable, [*_PYTEST, *arguments])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    sys.stdout.write(_NOTE)
    sys.stdout.flush()
    real = [*_PYTEST, "tests", *(f"--ignore={folder}" for folder in COMPUTING)]
    return both(real, [*_PYTEST, *COMPUTING])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
