"""Example programs as processes of their own, which end with their test."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02


class Program(ProcessProtocol):
    """One run of a program.

    :param name: of an example, or the path of another program. :param options: of Python.
    :ivar out: what it printed. :ivar status: how it ended, None while it runs.
    """

    def __init__(
        self, reactor: Any, name: str | Path, *arguments: object, options: tuple[str, ...] = ()
    ) -> None:
        self._reactor = reactor
        self.out = self.err = ""
        self.status: int | None = None
        self._ended: Deferred[None] = Deferred()
        command = [sys.executable, *options, str(EXAMPLES / name), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        self._process = reactor.spawnProcess(self, command[0], command, env=environment)

    def outReceived(self, data: bytes) -> None:
        self.out += data.decode()

    def errReceived(self, data: bytes) -> None:
        self.err += data.decode()

    def processEnded(self, reason: Failure) -> None:
        self.status = getattr(reason.value, "exitCode", None) or 0
        self._ended.callback(None)

    def type(self, line: str) -> None:
        """Type a line."""
        self._process.write(f"{line}\n".encode())

    def end_input(self) -> None:
        """Type no more."""
        self._process.closeStdin()

    async def said(self, text: str) -> None:
        """Wait until it has printed this."""
        deadline = self._reactor.seconds() + PATIENCE_SECONDS
        while text not in self.out:
            assert self.status is None, f"ended with {self.status}\n{self.out}{self.err}"
            assert self._reactor.seconds() < deadline, f"never said {text!r}\n{self.out}{self.err}"
            await deferLater(self._reactor, POLL_SECONDS)

    def ended(self) -> Deferred[None]:
        """Fires when it has ended."""
        return self._ended

    async def ended_well(self) -> str:
        """Wait until it has ended. :returns: what it printed."""
        await self._ended
        assert self.status == 0, f"ended with {self.status}\n{self.out}{self.err}"
        assert "Traceback" not in self.err, self.err
        return self.out

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self.signal("INT")

    def signal(self, name: str) -> None:
        """Send it a signal, as ``STOP``, if it runs."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(signal.Signals[f"SIG{name}"].value)

    def kill(self) -> Deferred[None]:
        """End it at once, if it runs. :returns: fires when it is gone."""
        if self.status is None:
            self.signal("KILL")
        return self._ended
