"""A command that runs while a lock is held: a process with our standard streams, and with our signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chordtx.cli.running import not_ignored
from chordtx.mesh.deferreds import Shared

_SIGNALED = 128  # and the signal's number, as shells say it
_PASSED_ON = (signal.SIGINT, signal.SIGTERM)
#: Signals that nohup, or a shell, may have had us ignore.
_INHERITED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_STANDARD = {0: 0, 1: 1, 2: 2}
_SHELL = b"/bin/sh"


class HeldCommand(ProcessProtocol):
    """Begins at once. Until it has ended, signals that ask us to end go to it instead.

    :param reactor: the global one, for signals are the process's. :param executable: the program's path.
    :param words: how it is called, its name first.
    :raises OSError: when it cannot be run.
    """

    def __init__(
        self, reactor: Any, executable: bytes, words: Sequence[bytes], environment: Mapping[bytes, bytes]
    ) -> None:
        self._reactor = reactor
        self._exited: Deferred[int] = Deferred()
        self._ended = Shared(self._exited)
        self._killing: Any = None
        self._before = {number: signal.signal(number, self._received) for number in not_ignored(_PASSED_ON)}
        try:
            executable, words = _as_ignoring(executable, words)
            reactor.spawnProcess(self, executable, words, env=environment, childFDs=_STANDARD)
        except BaseException:
            self._give_signals_back()
            raise

    def when_ended(self) -> Deferred[int]:
        """Fires with its exit status, or with 128 and the number of the signal that has ended it."""
        return self._ended.wait()

    def end(self, kill_after_seconds: float) -> None:
        """Send it SIGTERM, if it still runs, and SIGKILL if it does after so many seconds. It alone, and not
        what it has started.
        """
        self._pass_on(signal.SIGTERM)
        if self._killing is None and not self._ended.is_done:
            self._killing = self._reactor.callLater(kill_after_seconds, self._pass_on, signal.SIGKILL)

    def _received(self, number: int, frame: object) -> None:
        # What Ctrl-C sends goes to all that run in the terminal's foreground: the command has it already.
        if number != signal.SIGINT or not _is_in_foreground():
            self._reactor.callFromThread(self._pass_on, number)

    def _pass_on(self, number: int) -> None:
        with suppress(ProcessExitedAlready):
            assert self.transport is not None
            self.transport.signalProcess(number)

    def processEnded(self, reason: Failure) -> None:
        """Twisted's: it is gone."""
        self._give_signals_back()
        if self._killing is not None and self._killing.active():
            self._killing.cancel()
        ended = reason.value
        assert isinstance(ended, ProcessDone | ProcessTerminated)
        self._exited.callback(_SIGNALED + ended.signal if ended.signal else ended.exitCode or 0)

    def _give_signals_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _as_ignoring(executable: bytes, words: Sequence[bytes]) -> tuple[bytes, Sequence[bytes]]:
    """The command, with the signals ignored that we were started to ignore. (Twisted gives each process that
    it starts the defaults.)"""
    ignored = {*_INHERITED} - {*not_ignored(_INHERITED)}
    if not ignored:
        return executable, words
    names = " ".join(number.name.removeprefix("SIG") for number in sorted(ignored))
    return _SHELL, [_SHELL, b"-c", f'trap \'\' {names}; exec "$0" "$@"'.encode(), executable, *words[1:]]


def _is_in_foreground() -> bool:
    """Whether what is typed at a terminal, Ctrl-C too, goes to this process and to those that it starts."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
