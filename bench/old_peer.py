"""A py2p node that times itself: JSON lines in, JSON lines out. Run by the Python of py2p's environment.

``{"do": "start", "port": ..., "through": port or null, "leech": ...}`` answers null. ``{"do": "get", "keys":
[...], "value": ...}``, or ``"set"``, answers with the seconds that each took, null where it failed: timed in
here, so that talking to this program costs py2p nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "interop"))

from legacy_py2p import Peer

GET_TIMEOUT_SECONDS = 1.0
#: After so many failures in a row the rest is taken to fail too: each costs a whole time-out.
FAILURES_MAX = 3


def start(peer, command):
    """Listen, connect, and store unless it is to leech."""
    peer.do_start(command["port"], subnet="bench")
    if command["through"] is not None:
        peer.do_connect("127.0.0.1", command["through"])
    if not command["leech"]:
        peer.do_join()


def timed(peer, command):
    """Do each in turn. :returns: seconds or None for each."""
    took = []
    for key in command["keys"]:
        if len(took) >= FAILURES_MAX and not any(took[-FAILURES_MAX:]):
            took.append(None)
            continue
        began = time.perf_counter()
        try:
            if command["do"] == "get":
                right = peer.do_get(key, GET_TIMEOUT_SECONDS) == command["value"]
            else:
                peer.do_set(key, command["value"])
                right = True
        except Exception:
            right = False
        took.append(time.perf_counter() - began if right else None)
    return took


def main():
    """Keep standard output for the answers: py2p prints there."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = Peer()
    for line in sys.stdin:
        command = json.loads(line)
        answer = (start if command["do"] == "start" else timed)(peer, command)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # py2p's threads and destructors would hold the program


if __name__ == "__main__":
    main()
