"""Nodes on virtual time and a simulated network, for tests that need no whole simulated run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.mesh import MeshService
from chordtx.sim.network import Network
from chordtx.sim.virtual import VirtualTime, WallClock

PORT = 4000
DELAY_SECONDS = 0.005


class Cluster:
    """A network of nodes.

    :param make: makes a service of a reactor and further arguments. :ivar nodes: by their hosts.
    :ivar wall_clocks: by the same.
    """

    def __init__(self, make: Callable[..., Any], seed: int = 1) -> None:
        self.rng = Random(seed)
        self.time = VirtualTime(Random(self.rng.random()))
        self.network = Network(self.time, Random(self.rng.random()), lambda *_: DELAY_SECONDS)
        self.nodes: dict[str, Any] = {}
        self.wall_clocks: dict[str, WallClock] = {}
        self._make = make
        self._started = 0
        self._cut: list[tuple[str, str]] = []

    def start(
        self, *through: MeshService, offset_seconds: float = 0.0, host: str | None = None, **options: Any
    ) -> Any:
        """A node that connects to others."""
        self._started += 1
        host = host or f"10.0.{self._started // 250}.{self._started % 250 + 1}"
        reactor = self.network.process(host)
        clock = self.wall_clocks[host] = WallClock(self.time, offset_seconds)
        options.setdefault("listen", f"tcp:{PORT}:interface={host}")
        peers = [f"{node.reactor.host}:{PORT}" for node in through]
        node = self._make(reactor, peers=peers, rng=Random(self.rng.random()), wall_clock=clock, **options)
        self.nodes[host] = node
        node.startService()
        return node

    def ring(self, count: int, seconds: float) -> list[Any]:
        """Nodes of which all have joined the ring of the first, as they are so many seconds later."""
        nodes = [self.start()]
        nodes += [self.start(nodes[0]) for _ in range(count - 1)]
        for node in nodes:
            self.result(node.when_joined())
        self.run(seconds)
        return nodes

    def several(self, count: int, links: int = 3, **options: Any) -> list[Any]:
        """Nodes each of which connects to some of those before it."""
        nodes: list[Any] = []
        for _ in range(count):
            through = self.rng.sample(nodes, min(links, len(nodes)))
            nodes.append(self.start(*through, **options))
        return nodes

    def set_clock(self, node: MeshService, offset_seconds: float) -> None:
        """Set the wall clock of a node's host, to be off by that much."""
        self.wall_clocks[node.reactor.host].offset_seconds = offset_seconds

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.time.run(self.time.now + seconds)

    def result(self, work: Awaitable[Any] | Deferred[Any], patience_seconds: float = 60.0) -> Any:
        """What a call comes to; time passes while it is under way. :raises: as the call."""
        found: list[Any] = []
        Deferred.fromCoroutine(_awaited(work)).addCallbacks(
            lambda value: found.append((value, None)), lambda failure: found.append((None, failure.value))
        )
        late = self.time.now + patience_seconds
        while not found and self.time.now < late:
            self.run(0.01)
        assert found, "no result in time"
        value, error = found[0]
        if error is not None:
            raise error
        return value

    def split(self, *sides: Iterable[MeshService]) -> None:
        """Let nothing get from one side to another."""
        hosts = [[node.reactor.host for node in side] for side in sides]
        for side in hosts:
            for other in hosts:
                if side is not other:
                    self._cut += [(a, b) for a in side for b in other]
        for source, target in self._cut:
            self.network.cut(source, target)

    def heal(self) -> None:
        """Undo :meth:`split`."""
        for source, target in self._cut:
            self.network.mend(source, target)
        self._cut = []

    def kill(self, node: MeshService) -> None:
        """End a node without a word."""
        host = node.reactor.host
        del self.nodes[host]
        self.network.kill(host, is_silent=True)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
