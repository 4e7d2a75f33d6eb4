"""One node of a local ring: ``python -m chordtx.cli.child`` is ``twistd``, tied to the life of its parent.

It imports nothing of the command line: five of these start at once.
"""

from __future__ import annotations

import os
import signal
import threading

from twisted.scripts.twistd import run


def main() -> None:
    """Run twistd in a process group of its own, until told to stop or until standard input ends."""
    # Ctrl-C goes to the terminal's whole group: the parent gets it, and asks us to stop in its own time.
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
