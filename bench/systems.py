"""What is measured: each can be started, asked and stopped, and is told apart by its name and size."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from bare_pair import HOST, BarePair
from measuring import Load, Samples, Workload, measure
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater

from chordtx.chord import ChordService
from chordtx.cli.client import Client
from chordtx.cli.local_ring import LocalRing
from chordtx.wire import pack_value

KEYS = [b"bench-%06d" % number for number in range(1000)]
VALUE = {"name": "LATIN SMALL LETTER A WITH DIAERESIS", "code": "U+00E4", "category": "Ll"}
VALUE_BYTES_MAX = 1 << 20
SUBNET = "bench"
_SETTLE_SECONDS = 2.0

PY2P = Path(__file__).resolve().parents[1] / ".interop" / "py2p"
PY2P_GETS = 30
_PY2P_COMMAND_SECONDS = 20.0
_PY2P_SETTLE_SECONDS = 1.5


class System:
    """Something that holds keys.

    :ivar name: as the table has it. :ivar nodes: how many processes hold records.
    :ivar note: what is to be known of its numbers.
    """

    name = ""
    nodes = 1
    note = ""

    def takes(self, workload: Workload) -> bool:
        """Whether it can be asked that way."""
        return True

    async def start(self) -> None:
        """Start it, and store :data:`KEYS`."""
        raise NotImplementedError

    async def round(self, workload: Workload, seconds: float, samples: Sequence[Samples]) -> None:
        """Do the loads of ``workload`` at once; one of ``samples`` for each."""
        loads = zip(workload.loads, samples, strict=True)
        await gatherResults([Deferred.fromCoroutine(self._load(load, seconds, each)) for load, each in loads])

    async def _load(self, load: Load, seconds: float, samples: Samples) -> None:
        raise NotImplementedError

    async def stop(self) -> None:
        """End its processes."""
        raise NotImplementedError


class _Dict(System):
    """What has ``get(key)`` and ``set(key, value)`` that return Deferreds."""

    _value: Any = VALUE

    def __init__(self) -> None:
        self._dict: Any = None
        self._numbers = count()

    async def fill(self) -> None:
        """Store :data:`KEYS`."""
        for key in KEYS:
            await self._dict.set(key, self._value)

    async def _load(self, load: Load, seconds: float, samples: Samples) -> None:
        operation = {"get": self._get_next, "set": self._set_next}[load.operation]
        await measure(seconds, operation, load.at_once, samples)

    def _get_next(self) -> Any:
        return self._dict.get(KEYS[next(self._numbers) % len(KEYS)])

    def _set_next(self) -> Any:
        # A key that was not there before, as in loading.
        return self._dict.set(b"new-%09d" % next(self._numbers), self._value)


class Bare(_Dict):
    """See :mod:`bare_pair`."""

    name = "bare pair"
    _value = pack_value(VALUE, VALUE_BYTES_MAX)

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._pair = BarePair(reactor)
        self._dict = self._pair.client

    async def start(self) -> None:
        """See :class:`System`."""
        await self._pair.start()
        await self.fill()

    async def stop(self) -> None:
        """See :class:`System`."""
        await self._pair.stop()


class BareServers(_Dict):
    """As many bare pairs as a ring has nodes, asked in turn: each process rests while the others work, and
    then finds little of what it needs in the processor's caches."""

    name = "bare pairs in turn"
    _value = Bare._value

    def __init__(self, reactor: Any, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self._pairs = [BarePair(reactor) for _ in range(nodes)]

    async def start(self) -> None:
        """See :class:`System`."""
        for pair in self._pairs:
            await pair.start()
            self._dict = pair.client
            await self.fill()

    def _get_next(self) -> Any:
        self._go_on()
        return super()._get_next()

    def _set_next(self) -> Any:
        self._go_on()
        return super()._set_next()

    def _go_on(self) -> None:
        self._pairs.append(self._pairs.pop(0))
        self._dict = self._pairs[0].client

    async def stop(self) -> None:
        """See :class:`System`."""
        for pair in self._pairs:
            await pair.stop()


class Ring(_Dict):
    """``twistd chord`` processes, asked through a node in this process that stores nothing."""

    name = "chordtx"

    def __init__(self, reactor: Any, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self._reactor = reactor
        self._ring = LocalRing(reactor, nodes, free_ports(nodes), subnet=SUBNET)
        self._node: ChordService | None = None

    async def start(self) -> None:
        """See :class:`System`."""
        await self._ring.start()
        self._node = Client(peers=tuple(self._ring.addresses), subnet=SUBNET).start(self._reactor)
        self._dict = self._node
        await self._node.when_joined()
        await deferLater(self._reactor, _SETTLE_SECONDS, lambda: None)
        await self.fill()

    async def stop(self) -> None:
        """See :class:`System`."""
        if self._node is not None:
            await self._node.stopService()
        await self._ring.stop()


class OldRing(System):
    """py2p processes, and one more that stores nothing and asks."""

    name = "py2p 0.7.878"
    note = "py2p: a set is sent on its way and not acknowledged; the time is that of the call"

    def __init__(self, reactor: Any, nodes: int, rounds: int) -> None:
        self.nodes = nodes
        self._reactor = reactor
        self._ports = [free_ports(1) for _ in range(nodes + 1)]
        self._processes = [_OldNode(reactor) for _ in self._ports]
        self._keys = [key.decode() for key in KEYS[: max(1, PY2P_GETS // rounds)]]

    def takes(self, workload: Workload) -> bool:
        """See :class:`System`. It can only be asked one thing at a time."""
        return workload.loads in ((Load("get", 1),), (Load("set", 1),))

    async def start(self) -> None:
        """See :class:`System`."""
        for index, (port, node) in enumerate(zip(self._ports, self._processes, strict=True)):
            through = self._ports[0] if index else None
            leech = index == self.nodes
            await node.command({"do": "start", "port": port, "through": through, "leech": leech})
            await deferLater(self._reactor, _PY2P_SETTLE_SECONDS, lambda: None)
        await self._timed("set")

    async def _timed(self, operation: str) -> list[float | None]:
        took: list[float | None] = await self._processes[-1].command(
            {"do": operation, "keys": self._keys, "value": VALUE}
        )
        return took

    async def _load(self, load: Load, seconds: float, samples: Samples) -> None:
        took = await self._timed(load.operation)
        well = [each for each in took if each is not None]
        samples.add_round(well, len(took) - len(well), sum(well) or 1.0)

    async def stop(self) -> None:
        """See :class:`System`."""
        for node in self._processes:
            await node.stop()


class _OldNode(ProcessProtocol):
    """One ``legacy_peer.py``."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._answer: Deferred[Any] | None = None
        self._said = b""
        self._ended: Deferred[None] = Deferred()
        program = [str(PY2P / "bin" / "python"), str(Path(__file__).with_name("legacy_peer.py"))]
        reactor.spawnProcess(self, program[0], program, env=dict(os.environ, PYTHONPATH=""))

    def command(self, command: dict[str, Any]) -> Deferred[Any]:
        """:returns: fires with the answer; fails when it takes too long."""
        assert self.transport is not None
        self._answer = Deferred()
        self.transport.write(json.dumps(command).encode() + b"\n")
        return self._answer.addTimeout(_PY2P_COMMAND_SECONDS, self._reactor)

    def outReceived(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            if self._answer is not None and not self._answer.called:
                self._answer.callback(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        """What py2p complains of is not ours to tell."""

    def processEnded(self, reason: Any) -> None:
        if self._answer is not None and not self._answer.called:
            self._answer.errback(reason)
        self._ended.callback(None)

    async def stop(self) -> None:
        """Kill it: it has nothing to lose, and its threads may hang."""
        if not self._ended.called and self.transport is not None:
            self.transport.signalProcess("KILL")
            await self._ended


_next_port = 20_000 + os.getpid() % 20_000


def free_ports(length: int) -> int:
    """The first of ``length`` ports in a row that were free just now; none is given twice."""
    global _next_port
    while not all(_is_free(_next_port + index) for index in range(length)):
        _next_port += 1
    _next_port += length
    return _next_port - length


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        try:
            tried.bind((HOST, port))
        except OSError:
            return False
        return True
