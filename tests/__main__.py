"""All tests, in two runs of pytest beside each other: those on virtual time, and those that wait for real
time. The first kind takes a whole processor, the second one waits a lot.

What the tests on virtual time print comes when both runs have ended. With arguments it is one run of pytest,
with those arguments.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

ROOT = Path(__file__).parents[1]
#: Folders of tests that need no real time.
VIRTUAL = ("tests/group", "tests/ring", "tests/sim", "tests/wire")
_PYTEST = (sys.executable, "-m", "pytest")
_NOTE = "two runs of pytest beside each other; with two processors they take some 20 minutes together\n"


def both() -> int:
    """Run all tests. :returns: an exit status, the first that is not 0."""
    sys.stdout.write(_NOTE)
    sys.stdout.flush()
    real = [*_PYTEST, "tests", *(f"--ignore={folder}" for folder in VIRTUAL)]
    with TemporaryFile("w+") as out:
        beside = subprocess.Popen([*_PYTEST, *VIRTUAL], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        try:
            status = subprocess.run(real, cwd=ROOT, check=False).returncode
            beside.wait()
        finally:
            _end(beside)
            out.seek(0)
            sys.stdout.write(f"\nthe tests on virtual time:\n{out.read()}")
    return status or beside.returncode


def _end(run: subprocess.Popen[bytes]) -> None:
    """A run that is not over ends with what it has: pytest ends by this signal what it has begun itself."""
    if run.poll() is None:
        run.send_signal(signal.SIGINT)
        run.wait()


def main(arguments: Sequence[str]) -> int:
    """:returns: an exit status."""
    try:
        if arguments:
            return subprocess.run([*_PYTEST, *arguments], cwd=ROOT, check=False).returncode
        return both()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
