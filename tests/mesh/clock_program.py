"""A program with services of its own, on Twisted's reactor, the clock of which is set by hours while it runs.

Prints ``fine`` when all timers kept their time.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from twisted.internet import reactor as real
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from chordtx import MeshService, MeshSettings

HOUR = 3600.0
PAUSE_SECONDS = 1.0
STEPS = [-HOUR] if "fork" in sys.argv else [-HOUR, HOUR, -30 * HOUR]

reactor: Any = real
ahead_seconds = 0.0
reactor.seconds = lambda: time.time() + ahead_seconds


def fork() -> None:
    """Go on in a child; the parent ends as it does."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status))


async def main(_: Any) -> None:
    global ahead_seconds
    mute = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    settings = MeshSettings(handshake_timeout_seconds=PAUSE_SECONDS, connect_timeout_seconds=PAUSE_SECONDS)
    node = MeshService(reactor, "tcp:0:interface=127.0.0.1", settings=settings)
    node.startService()
    await node.when_listening()
    if "fork" in sys.argv:
        fork()
        await node.sleep(0.5)  # the clock is watched again with the first timer that fires
    for by in STEPS:
        began = time.monotonic()
        refused: Deferred[Any] = node.connect("127.0.0.1", mute.getHost().port)
        pause = node.sleep(PAUSE_SECONDS)
        ahead_seconds += by  # also while Twisted connects, whose own timers follow this clock
        await pause
        assert time.monotonic() - began >= PAUSE_SECONDS
        try:
            await refused
        except Exception as error:
            sys.stdout.write(f"refused: {error}\n")
        else:
            raise AssertionError("a peer that says nothing was taken for one")
    ahead_seconds = 0.0
    await node.stopService()
    await mute.stopListening()
    sys.stdout.write("fine\n")


react(main)
