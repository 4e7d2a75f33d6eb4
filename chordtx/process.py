"""What a program of ours does with its process: time, signals, garbage, and the status that it ends with.

For programs whose process is their own, never for one that embeds a node.
"""

from __future__ import annotations

import atexit
import gc
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

from twisted.internet.error import ReactorNotRunning

_SWITCH_SECONDS = 0.001
#: More than the links that a node accepts by default, those that it opens, and its files.
OPEN_FILES = 8192


def prepare_node(reactor: Any) -> None:
    """All that is good for a process that is there for one node, before anything is scheduled."""
    use_monotonic_time(reactor)
    allow_open_files()
    stop_on_signals(reactor)
    reactor.callWhenRunning(collect_less)


def use_monotonic_time(reactor: Any) -> None:
    """Let the reactor's timers run on a clock that is never set.

    Twisted's run on the time of day: when that is set back by an hour, they stand still for an hour. Nothing
    is done to a reactor that runs or has timers, for these would be on another clock.
    """
    if not reactor.running and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def allow_open_files(count: int = OPEN_FILES) -> None:
    """Let the process have this many files and sockets open, as far as the system's hard limit goes.

    The usual soft limit is 1,024. With as many silent connections nobody else could connect: the bound of the
    node (``accepted_max``), at which the oldest of them makes room, would never be met.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_on_signals(reactor: Any) -> None:
    """Let SIGTERM and SIGINT stop the reactor, and nothing else: so the process ends with status 0.

    Twisted's own way is to raise the signal again once the reactor has stopped, which is status 143 or 130. A
    signal that comes before the reactor runs stops it as soon as it does. Further ones change nothing.
    Handlers of anybody else stay: a debugger's, or SIGINT ignored for a job in the background.
    """

    def stop() -> None:
        with suppress(ReactorNotRunning):  # it stops already
            reactor.stop()

    def received(number: int, frame: object) -> None:
        reactor.callFromThread(stop)

    def heed() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            present = signal.getsignal(number)
            is_usual = present in (signal.SIG_DFL, signal.default_int_handler)
            if is_usual or getattr(present, "__self__", None) is reactor:
                signal.signal(number, received)

    heed()
    reactor.callWhenRunning(heed)  # for the reactor has put its own there


def collect_less() -> None:
    """Have Python look for cyclic garbage less often, not in what was loaded at the start, and switch threads
    sooner.

    With Python's own thresholds a loaded node spends up to a quarter of its time looking, in pauses of up to
    50 ms: hundreds of requests under way at once, and ever more records, all of which live on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    # The thread that commits to the disk gets Python's lock within this time, however busy the reactor is.
    sys.setswitchinterval(_SWITCH_SECONDS)


def end_process(reactor: Any, status: int) -> None:
    """Stop the reactor, and let the process end with ``status`` once everything else is done.

    Neither twistd nor twist can be told an exit status, and the reactor swallows SystemExit. So the status is
    set by the last thing that runs, after the services have stopped and twistd has removed its PID file.
    """
    atexit.register(_exit_now, status)
    reactor.callWhenRunning(reactor.stop)


def _exit_now(status: int) -> NoReturn:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None:
            stream.flush()
    os._exit(status)
