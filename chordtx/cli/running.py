"""Runs one command's coroutine on the reactor, and turns how it ended into an exit status."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import click

from chordtx.errors import ChordError, NoMajority, StorageFull, ValueTooLarge
from chordtx.escaping import escaped, escaped_lines

if TYPE_CHECKING:  # a command that only says what is wrong with its options loads nothing of Twisted
    from twisted.internet.defer import Deferred
    from twisted.python.failure import Failure

Work = Callable[[Any], Coroutine[Any, Any, None]]

EXIT_DONE = 0
EXIT_NO_SUCH_KEY = 1
EXIT_USAGE = 2
EXIT_NO_RING = 3
EXIT_NO_MAJORITY = 4
EXIT_NOT_HEALTHY = 5
EXIT_BUG = 70
EXIT_OUTPUT = 74  # as in sysexits.h
EXIT_LOCK_LOST = 75  # as well
EXIT_CANNOT_RUN = 126  # as shells say it
EXIT_NO_COMMAND = 127
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE


def say(text: str, *, end: str = "\n") -> None:
    """Tell a person, on standard error. Where that cannot be written nobody is told: what was done is done,
    and the exit status says so."""
    with suppress(OSError):
        click.echo(text + end, err=True, nl=False)


class NoSuchKey(KeyError):
    """The key that the command is about is not there."""


class Failed(click.ClickException):
    """The command ends with ``status``, for a reason that is to be told; before the reactor runs, too."""

    def __init__(self, message: str, status: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = status  # type: ignore[misc]  # click has one for each class

    def show(self, file: IO[Any] | None = None) -> None:
        """Click's: say why."""
        say(f"chordtx: {text_of(self)}")


class Ended(Exception):
    """The command ends with ``status``, and there is nothing to be told."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class PortTaken(Failed):
    """A port that a ring on this machine needs is in use."""


def run(work: Work) -> None:
    """Run ``work(reactor)`` to its end on the global reactor, and exit with what became of it.

    SIGINT and SIGTERM cancel the work, and it has the time that it needs to clean up; a second one kills.

    :raises SystemExit: always.
    """
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred

    from chordtx.process import use_monotonic_time

    use_monotonic_time(reactor)
    statuses: list[int] = []

    def start() -> None:
        working = Deferred.fromCoroutine(work(reactor))
        _cancel_on_signals(reactor, working)
        ended = working.addCallbacks(lambda _: EXIT_DONE, lambda failure: report(failure))
        ended.addCallback(statuses.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(_collect_less)
    reactor.callWhenRunning(start)
    reactor.run()
    sys.exit(_flushed(statuses[0] if statuses else EXIT_BUG))


def _collect_less() -> None:
    """As :func:`chordtx.process.collect_less`, without what takes its time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _cancel_on_signals(reactor: Any, working: Deferred[Any]) -> None:
    def received(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        reactor.callFromThread(working.cancel)

    for number in not_ignored((signal.SIGINT, signal.SIGTERM)):
        signal.signal(number, received)


def not_ignored(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those of some signals that we were not started to ignore, as nohup does with SIGHUP, and a shell with
    SIGINT for what runs in the background."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def report(failure: Failure) -> int:
    """Say on standard error why a command failed.

    :returns: its exit status.
    """
    from twisted.internet.defer import CancelledError

    error = failure.value
    assert error is not None
    if isinstance(error, CancelledError):
        return EXIT_INTERRUPTED
    if isinstance(error, Ended):
        return error.status
    if isinstance(error, BrokenPipeError):  # the reader has what it wanted
        return EXIT_BROKEN_PIPE
    status = status_of(error)
    if status == EXIT_BUG:
        say(escaped_lines(failure.getTraceback()), end="")
    say(f"chordtx: {text_of(error)}")
    return status


def status_of(error: BaseException) -> int:
    """The exit status for an error; :data:`EXIT_BUG` for one that should not happen."""
    if isinstance(error, Failed):
        return error.status
    if isinstance(error, NoSuchKey):
        return EXIT_NO_SUCH_KEY
    if isinstance(error, NoMajority):
        return EXIT_NO_MAJORITY
    if isinstance(error, ValueTooLarge | StorageFull | OSError):
        return EXIT_USAGE
    return EXIT_NO_RING if isinstance(error, ChordError) else EXIT_BUG


def text_of(error: BaseException) -> str:
    """The error in one line, whatever it was made of."""
    if isinstance(error, NoSuchKey):
        return f"no such key: {escaped(error.args[0])}"
    return escaped(" ".join(str(error).split())) or type(error).__name__


def _flushed(status: int) -> int:
    """``status``, once standard output has taken all, or another when it does not."""
    if sys.stdout is None:
        return status
    try:
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter would try once more as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        if status == EXIT_DONE:
            say(f"chordtx: cannot write to standard output: {error.strerror}")
            return EXIT_OUTPUT
    return status
