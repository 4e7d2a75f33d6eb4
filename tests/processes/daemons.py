"""``twistd chord`` processes for tests, each on a free port of 127.0.0.1, and always ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chordtx import ChordService

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
LOG_BYTES_KEPT = 256 * 1024


class Daemon(ProcessProtocol):
    """One ``twistd -n chord`` process.

    :ivar port: where it listens. :ivar said: the last of its log.
    :ivar status: its exit status, None while it runs.
    """

    def __init__(self, reactor: Any, port: int, arguments: Iterable[str]) -> None:
        self.port = port
        self.said = b""
        self.status: int | None = None
        self._waiting: list[Deferred[None]] = []
        command = [sys.executable, "-m", "twisted", "-n", "--pidfile=", "chord"]
        command += ["--listen", f"tcp:{port}:interface={HOST}", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # with modules compiled once, as operators run it
        command[1:3] = ["-c", "from twisted.scripts.twistd import run; run()"]
        self._process = reactor.spawnProcess(self, command[0], command, env=environment, path=str(ROOT))

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self.port}"

    def outReceived(self, data: bytes) -> None:
        self.said = (self.said + data)[-LOG_BYTES_KEPT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        self.status = getattr(reason.value, "exitCode", None) or 0
        for waiting in self._waiting:
            waiting.callback(None)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(number.value)

    def ended(self) -> Deferred[None]:
        """Fires when the process is gone."""
        waiting: Deferred[None] = Deferred()
        if self.status is not None:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def kill(self) -> Deferred[None]:
        """As ``kill -9`` does. :returns: fires when it is gone."""
        self.signal(signal.SIGKILL)
        return self.ended()


class Daemons:
    """Makes daemons for a test, and clients of theirs; ends all of them."""

    def __init__(self, reactor: Any, free_port: Any, subnet: str = "processes") -> None:
        self._reactor = reactor
        self._free_port = free_port
        self._subnet = subnet
        self._all: list[Daemon] = []
        self._clients: list[ChordService] = []

    def start(self, *arguments: str, port: int | None = None) -> Daemon:
        """Run a process."""
        daemon = Daemon(self._reactor, port or self._free_port(), ["--subnet", self._subnet, *arguments])
        self._all.append(daemon)
        return daemon

    async def ring(self, count: int, *arguments: str) -> list[Daemon]:
        """Run a ring of ``count``, and wait until it is whole."""
        first = self.start(*arguments)
        daemons = [first]
        client = await self.client(first)
        daemons += [self.start("--peer", first.address, *arguments) for _ in range(count - 1)]
        await self.whole(client, count)
        return daemons

    async def whole(self, client: ChordService, count: int) -> None:
        """Wait until the ring has ``count`` nodes and is healthy."""
        deadline = self._reactor.seconds() + 60
        while True:
            health = await client.health(count)
            if health.nodes == count and not health.complaints:
                return
            assert self._reactor.seconds() < deadline, f"no ring of {count}: {health.text}"
            await client.sleep(0.1)

    async def walked(self, client: ChordService, ids: set[str]) -> None:
        """Wait until a walk meets just these nodes: lists of neighbours may be right later than groups."""
        deadline = self._reactor.seconds() + 60
        while (met := {node["id"] for node in await client.ring()}) != ids:
            assert self._reactor.seconds() < deadline, f"{met} are met, and not {ids}"
            await client.sleep(0.1)

    async def client(self, *through: Daemon, encryption: str = "Plaintext") -> ChordService:
        """A leeching node in this process, once it has reached the ring."""
        peers = [daemon.address for daemon in through]
        client = ChordService(
            self._reactor, listen=None, peers=peers, subnet=self._subnet, encryption=encryption, leech=True
        )
        self._clients.append(client)
        client.startService()
        await client.when_joined()
        return client

    def stop(self) -> Deferred[Any]:
        """End everything. :returns: fires when it is gone."""
        stopped = [client.stopService() for client in self._clients]
        return DeferredList([*stopped, *(daemon.kill() for daemon in self._all)])
