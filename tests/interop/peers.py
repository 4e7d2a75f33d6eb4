"""Published legacy peers as processes of their own, told what to do in JSON lines.

:class:`LegacyPeer` runs ``legacy_py2p.py`` or ``legacy_js2p.js``; every command is a Deferred with a
time-out. What those programs need, ``make`` puts into ``.interop`` (see ``install.py``).
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.interop.json_values import from_json, to_json

T = TypeVar("T")
HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".interop"
HOST = "127.0.0.1"
COMMAND_TIMEOUT_SECONDS = 30.0
ANSWER_SECONDS = 6.0  # beyond the time-out of a get itself
POLL_SECONDS = 0.05
STDERR_BYTES_KEPT = 64 * 1024
#: Library -> what runs its driver, below its environment.
COMMAND_LINES: dict[str, Callable[[Path], list[str]]] = {
    "py2p": lambda environment: [str(environment / "bin" / "python"), str(HERE / "legacy_py2p.py")],
    "js2p": lambda environment: ["node", str(HERE / "legacy_js2p.js"), str(environment)],
}


class LegacyPeerError(Exception):
    """The legacy peer's library raised.

    :ivar kind: name of its exception: ``KeyError``, ``timeout``, ...
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class LegacyPeerGone(Exception):
    """The process ended; the message holds the last that it said on standard error."""


def require(library: str) -> Path:
    """The environment of ``library``; without one the test is skipped, and under ``CI=true`` it fails."""
    environment = ENVIRONMENTS / library
    if not environment.with_suffix(".stamp").exists():
        reason = f"{library} is not installed: `make test` does it where it can"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return environment


class LegacyPeer(ProcessProtocol):
    """One node of an old library in a process of its own.

    :param reactor: the real one: it spawns the process.
    :param library: ``py2p`` or ``js2p``.
    :ivar id: its node id's text, once it was started. :ivar protocol: its protocol id. :ivar port: where it
        listens.
    """

    def __init__(self, reactor: Any, library: str) -> None:
        self.package = library
        self.id = ""
        self.protocol = ""
        self.port = 0
        self.said = b""
        self._reactor = reactor
        self._waiting: dict[int, Deferred[Any]] = {}
        self._number = 0
        self._torn = b""
        self._gone: LegacyPeerGone | None = None
        self._ended: list[Deferred[None]] = []
        command_line = COMMAND_LINES[library](require(library))
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NODE_NO_WARNINGS": "1"}
        self._process = reactor.spawnProcess(self, command_line[0], command_line, env=environment)

    # What the process does.

    def outReceived(self, data: bytes) -> None:
        *lines, self._torn = (self._torn + data).split(b"\n")
        for line in lines:
            self._answer_received(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        self.said = (self.said + data)[-STDERR_BYTES_KEPT:]

    def processEnded(self, reason: Failure) -> None:
        said = self.said.decode(errors="replace")
        self._gone = LegacyPeerGone(f"{self.package}: {reason.getErrorMessage()}\n{said}")
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.errback(self._gone)
        for ended in self._ended:
            ended.callback(None)

    def _answer_received(self, answer: dict[str, Any]) -> None:
        waiting = self._waiting.pop(answer["number"], None)
        if waiting is None:
            return  # timed out
        if "error" in answer:
            waiting.errback(LegacyPeerError(answer["error"], answer["message"]))
        else:
            waiting.callback(from_json(answer["result"]))

    # What is asked of it.

    def command(
        self, do: str, *, within_seconds: float = COMMAND_TIMEOUT_SECONDS, **arguments: Any
    ) -> Deferred[Any]:
        """Do ``do`` with ``arguments``, as in the drivers.

        :returns: fires with the result, or fails with :class:`LegacyPeerError`, :class:`LegacyPeerGone` or
            :class:`TimeoutError`.
        """
        self._number += 1
        number = self._number
        waiting: Deferred[Any] = Deferred(lambda _: self._waiting.pop(number, None))
        if self._gone is not None:
            waiting.errback(self._gone)
            return waiting
        self._waiting[number] = waiting
        values = {name: to_json(value) for name, value in arguments.items()}
        self._process.write(json.dumps({"number": number, "do": do, **values}).encode() + b"\n")

        def late(*_: Any) -> Any:
            said = self.said.decode(errors="replace")
            raise TimeoutError(f"{self.package} has not done {do} in {within_seconds} s\n{said}")

        return waiting.addTimeout(within_seconds, self._reactor, onTimeoutCancel=late)

    def start(
        self, *, port: int = 0, compression: list[int] | None = None, **arguments: Any
    ) -> Deferred[LegacyPeer]:
        """Listen: ``subnet``, ``encryption`` (``Plaintext``), ``kind`` (``chord``, ``mesh``, ``sync``).

        :param port: 0 for a free one. :param compression: methods to offer instead of all.
        :returns: fires with this peer.
        """
        return Deferred.fromCoroutine(self._start(port or free_port(), compression, arguments))

    async def _start(self, port: int, compression: list[int] | None, arguments: dict[str, Any]) -> LegacyPeer:
        if compression is not None:
            await self.command("compression", methods=compression)
        about = await self.command("start", port=port, **arguments)
        self.id, self.protocol, self.port = about["id"], about["protocol"], port
        return self

    def connect(self, port: int, host: str = HOST) -> Deferred[None]:
        """Connect to whoever listens there."""
        return self.command("connect", host=host, port=port)

    def join(self) -> Deferred[None]:
        """Begin to store."""
        return self.command("join")

    def unjoin(self) -> Deferred[None]:
        """Cease to store."""
        return self.command("unjoin")

    def get(self, key: bytes, timeout_seconds: float = 10) -> Deferred[Any]:
        """The value; :class:`LegacyPeerError` when there is none (py2p then mostly says ``timeout``)."""
        patience = timeout_seconds + ANSWER_SECONDS
        return self.command("get", within_seconds=patience, key=key, timeout_seconds=timeout_seconds)

    def set(self, key: bytes, value: Any) -> Deferred[None]:
        """Send a value on its way. It has arrived nowhere yet when this fires."""
        return self.command("set", key=key, value=value)

    def delete(self, key: bytes) -> Deferred[None]:
        """Send a deletion on its way."""
        return self.command("delete", key=key)

    def apply_delta(self, key: bytes, delta: dict[str, Any]) -> Deferred[Any]:
        """Merge a map into the stored one. :returns: what the peer takes to be the result."""
        return self.command("apply_delta", key=key, delta=delta)

    def keys(self) -> Deferred[list[bytes]]:
        """The keys it has heard of."""
        return self.command("keys")

    def send(self, *args: Any) -> Deferred[None]:
        """Broadcast a user's message."""
        return self.command("send", args=list(args))

    def whisper(self, peer: str, *packets: Any) -> Deferred[None]:
        """Send ``packets``, the sub-flag first, to the connected ``peer`` alone."""
        return self.command("whisper", peer=peer, packets=list(packets))

    def recv(self, quantity: int = 1) -> Deferred[list[dict[str, Any]]]:
        """Messages: ``index``, ``packets`` (sub-flag first), ``sender``, ``time``, ``id``."""
        return self.command("recv", quantity=quantity)

    def reply(self, index: int, *args: Any) -> Deferred[None]:
        """Answer the message of that ``index``."""
        return self.command("reply", index=index, args=list(args))

    def routing_table(self) -> Deferred[list[dict[str, Any]]]:
        """Its peers: ``id``, ``addr``, ``outgoing``, ``leeching``, ``compression``."""
        return self.command("routing_table")

    def stored(self) -> Deferred[list[tuple[str, str, Any]]]:
        """What lies in its tables: method, decimal position, value."""
        return self.command("stored")

    def events(self) -> Deferred[list[list[Any]]]:
        """All events so far: name, then arguments."""
        return self.command("events")

    def status(self) -> Deferred[str | list[str]]:
        """``Nominal``, or what went wrong."""
        return self.command("status")

    def close(self) -> Deferred[None]:
        """Close the socket as its library does; the process ends."""
        return self.command("close")

    def hang(self, hangs: bool = True) -> None:
        """Have the process stand still, or go on."""
        self._process.signalProcess(signal.SIGSTOP if hangs else signal.SIGCONT)

    def kill(self) -> Deferred[None]:
        """End the process at once. :returns: fires when it is gone."""
        ended: Deferred[None] = Deferred()
        if self._gone is not None:
            ended.callback(None)
            return ended
        self._ended.append(ended)
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")
        return ended


class LegacyPeers:
    """Makes legacy peers for a test, and kills them all at its end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._peers: list[LegacyPeer] = []

    def start(self, library: str, **arguments: Any) -> Deferred[LegacyPeer]:
        """Run a node of ``library``; the arguments are those of :meth:`LegacyPeer.start`."""
        peer = LegacyPeer(self._reactor, library)
        self._peers.append(peer)
        return peer.start(**arguments)

    def py2p(self, **arguments: Any) -> Deferred[LegacyPeer]:
        """Run a py2p node."""
        return self.start("py2p", **arguments)

    def js2p(self, **arguments: Any) -> Deferred[LegacyPeer]:
        """Run a js2p node."""
        return self.start("js2p", **arguments)

    def kill(self) -> Deferred[Any]:
        """End all the processes. :returns: fires when they are gone."""
        return DeferredList([peer.kill() for peer in self._peers])


async def until(
    reactor: Any, ask: Callable[[], Awaitable[T]], good: Callable[[T], Any], seconds: float = 30
) -> T:
    """Ask again and again, as legacy peers tell nobody when they are done, until the answer is ``good``.

    :returns: the good answer. :raises AssertionError: with the last answer, when ``seconds`` have passed.
    """
    deadline = reactor.seconds() + seconds
    while True:
        answer = await ask()
        if good(answer):
            return answer
        assert reactor.seconds() < deadline, f"still {answer!r} after {seconds} s"
        await deferLater(reactor, POLL_SECONDS)


def free_port() -> int:
    """A port that nobody listens on: the legacy peers must know theirs beforehand."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
