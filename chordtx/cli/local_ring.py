"""A ring of processes on this machine, as ``chordtx local`` and the demo run it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from chordtx.cli.running import EXIT_NO_RING, Failed, PortTaken
from chordtx.tap import READY, TOLD

HOST = "127.0.0.1"
STOP_TIMEOUT_SECONDS = 25.0  # above the time that a polite leave may take

OnLine = Callable[[str, str], None]
OnEnd = Callable[[Failed], None]


class NodeProcess(ProcessProtocol):
    """One ``twistd chord``.

    :ivar address: where it listens.
    :ivar ready: fires when it is in the ring; fails with :class:`Failed` when it ends before.
    :ivar ended: fires with None, or with the :class:`Failed` that says why it ended unasked.
    """

    def __init__(self, address: str, on_line: OnLine) -> None:
        """:param on_line: called with the address and each line that the node writes."""
        self.address = address
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[Failed | None] = Deferred()
        self._on_line = on_line
        self._stopping = False
        self._rests = {1: b"", 2: b""}
        self._last_line = ""
        self._complaint = ""

    def stop(self, signal_name: str = "TERM") -> None:
        """Ask it to end."""
        self._stopping = True
        assert self.transport is not None
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(signal_name)

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """Twisted's: output came."""
        *lines, self._rests[descriptor] = (self._rests[descriptor] + data).split(b"\n")
        for line in lines:
            self._line_received(descriptor, line.decode(errors="replace"))

    def _line_received(self, descriptor: int, line: str) -> None:
        self._last_line = line
        if descriptor == 2 and line.startswith(TOLD):
            self._complaint = line
        if READY in line and not self.ready.called:
            self.ready.callback(None)
        self._on_line(self.address, line)

    def processEnded(self, reason: Failure) -> None:
        """Twisted's: it is gone, and all its output has come."""
        failed = None if self._stopping else self._failed(reason)
        if not self.ready.called:
            self.ready.errback(failed or Failed(f"node {self.address} was stopped", EXIT_NO_RING))
        self.ready.addErrback(lambda _: None)  # told through `ended` as well
        self.ended.callback(failed)

    def _failed(self, reason: Failure) -> Failed:
        if os.strerror(errno.EADDRINUSE) in self._complaint:
            return PortTaken(f"another program uses {self.address}", EXIT_NO_RING)
        return Failed(self._why(reason), EXIT_NO_RING)

    def _why(self, reason: Failure) -> str:
        said = self._complaint or f"its last line: {self._last_line}"
        ended = reason.value
        assert isinstance(ended, ProcessDone | ProcessTerminated)
        how = f"signal {ended.signal}" if ended.signal else f"status {ended.exitCode}"
        return f"node {self.address} ended with {how}: {said}"


class LocalRing:
    """A ring of ``twistd chord`` processes on one port after another.

    :ivar addresses: where the nodes listen, in the order of their ports.
    """

    def __init__(
        self,
        reactor: Any,
        size: int,
        port: int,
        *,
        subnet: str = "chord",
        encryption: str = "Plaintext",
        data: str | None = None,
        on_line: OnLine = lambda address, line: None,
        on_end: OnEnd = lambda why: None,
    ) -> None:
        """:param size: how many nodes. :param port: of the first one.
        :param data: folder for the data folders of all, None keeps nothing.
        :param on_line: called with a node's address and each line that it writes.
        :param on_end: called when a node of the started ring ends unasked; the others go on.
        """
        self.addresses = [f"{HOST}:{port + index}" for index in range(size)]
        self._reactor = reactor
        self._options = ["--subnet", subnet, "--encryption", encryption]
        self._data = None if data is None else Path(data).absolute()
        self._on_line = on_line
        self._on_end = on_end
        self._nodes: list[NodeProcess] = []
        self._living = size
        self._started = False
        self._stopping = False
        self._gone: Deferred[None] = Deferred()

    async def start(self) -> None:
        """Start all; done when each is in the ring.

        :raises Failed: when one of them cannot start: a :class:`PortTaken` when its port is in use.
        """
        starting: list[Deferred[None]] = []
        if self._ran_before():
            # They wait for each other, and one begins the ring when it sees that they are there.
            starting.append(self._spawn(0).ready)
        else:
            # The others need one to join through, which is there once the first is ready.
            await self._spawn(0).ready
        starting += [self._spawn(index).ready for index in range(1, len(self.addresses))]
        try:
            await gatherResults(starting, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        self._started = True

    def _ran_before(self) -> bool:
        folders = [self._folder(index) for index in range(len(self.addresses))]
        return any(folder is not None and folder.exists() for folder in folders)

    def _folder(self, index: int) -> Path | None:
        """A node's own, named by its port, so that it is the same node the next time."""
        return None if self._data is None else self._data / self.addresses[index].rpartition(":")[2]

    def when_gone(self) -> Deferred[None]:
        """Fails with :class:`Failed` when the last node has ended unasked. To be asked for once."""
        return self._gone

    async def stop(self) -> None:
        """Have every node leave politely and end; a node that takes too long is killed."""
        self._stopping = True
        for node in self._nodes:
            node.stop()
        killing = self._reactor.callLater(STOP_TIMEOUT_SECONDS, self._kill)
        for node in self._nodes:
            await node.ended
        if killing.active():
            killing.cancel()

    def _kill(self) -> None:
        for node in self._nodes:
            node.stop("KILL")

    def _spawn(self, index: int) -> NodeProcess:
        node = NodeProcess(self.addresses[index], self._on_line)
        self._nodes.append(node)
        node.ended.addCallback(self._node_ended)
        self._reactor.spawnProcess(node, sys.executable, self._command(index), env=dict(os.environ))
        return node

    def _command(self, index: int) -> list[str]:
        port = self.addresses[index].rpartition(":")[2]
        twistd = [sys.executable, "-m", "chordtx.cli.child", "--nodaemon", "--pidfile="]
        listen = ["--listen", f"tcp:{port}:interface={HOST}"]
        # Through the first, and one more in case that one is gone when it matters.
        through = sorted({0, index - 1}) if index else []
        peers = [text for each in through for text in ("--peer", self.addresses[each])]
        folder = self._folder(index)
        data = [] if folder is None else ["--data", str(folder)]
        return [*twistd, "chord", *listen, *peers, *self._options, *data]

    def _node_ended(self, failed: Failed | None) -> None:
        if failed is None or not self._started or self._stopping:
            return
        self._living -= 1
        self._on_end(failed)
        if not self._living and not self._gone.called:
            self._gone.errback(Failed("no node of the ring is left", EXIT_NO_RING))
