"""Virtual time: a heap of what is to happen, and a reactor for each simulated node on top of it.

A node's reactor may stand still (a paused process) and may be dead (a crashed one). Its time only runs
forward, as a machine's monotonic clock does; the machine's wall clock is another thing, and may be wrong and
jump. What happens at the same instant happens in an order drawn from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Protocol

from attrs import define
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTCP, IReactorTime
from zope.interface import implementer

#: What an exact wall clock shows when virtual time begins: some Unix time, in seconds. (The world and its
#: monotonic time count from 0, where a float still tells apart what is a tenth of a microsecond apart.)
EPOCH_SECONDS = 1_700_000_000.0

Entry = tuple[float, float, int, "VirtualCall"]


@implementer(IDelayedCall)
class VirtualCall:
    """Something that is to happen.

    :ivar reactor: whose it is; None is the world's own, which never pauses.
    :ivar state: "active", "called" or "cancelled".
    """

    __slots__ = ("_f", "at", "reactor", "state")

    def __init__(self, at: float, reactor: NodeReactor | None, f: Callable[[], Any]) -> None:
        self.at = at
        self.reactor = reactor
        self._f = f
        self.state = "active"

    def run(self) -> None:
        """Do it, unless it was cancelled."""
        if self.state == "active":
            self.state = "called"
            self._f()

    def active(self) -> bool:
        """Twisted's: whether it is still to come."""
        return self.state == "active"

    def cancel(self) -> None:
        """Twisted's: let it not happen."""
        self._must_be_active()
        self.state = "cancelled"

    def getTime(self) -> float:
        """Twisted's: when it is due, by its reactor's clock."""
        return self.at if self.reactor is None else self.at * self.reactor.rate

    def reset(self, seconds: float) -> None:
        """Twisted's: let it happen that long from now instead."""
        self._must_be_active()
        assert self.reactor is not None
        self.at = self.reactor.time.now + seconds / self.reactor.rate
        self.reactor.time.push(self)

    def delay(self, seconds: float) -> None:
        """Twisted's: let it happen that much later."""
        self._must_be_active()
        assert self.reactor is not None
        self.at += seconds / self.reactor.rate
        self.reactor.time.push(self)

    def _must_be_active(self) -> None:
        if self.state == "called":
            raise AlreadyCalled
        if self.state == "cancelled":
            raise AlreadyCancelled


class VirtualTime:
    """The world's clock and what is to happen.

    :param rng: decides the order of what happens at one instant.
    :ivar now: seconds since the beginning. :ivar events: how many have happened.
    """

    def __init__(self, rng: Random) -> None:
        self.now = 0.0
        self.events = 0
        self._random = rng.random
        self._heap: list[Entry] = []
        self._number = 0

    def call_at(self, at: float, f: Callable[[], Any], reactor: NodeReactor | None = None) -> VirtualCall:
        """Let ``f`` happen at a time, for a node (see :class:`NodeReactor`) or for the world itself."""
        now = self.now
        call = VirtualCall(at if at > now else now, reactor, f)
        self._number = number = self._number + 1
        heappush(self._heap, (call.at, self._random(), number, call))
        return call

    def call_later(self, seconds: float, f: Callable[[], Any]) -> VirtualCall:
        """Let ``f`` happen that long from now, for the world itself."""
        return self.call_at(self.now + seconds, f)

    def push(self, call: VirtualCall) -> None:
        """File a call by its time; one that is filed already counts by its latest."""
        self._number += 1
        heappush(self._heap, (call.at, self._random(), self._number, call))

    def run(self, until: float) -> None:
        """Let all happen that is due up to then; it is ``until`` now."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            at, _, _, call = heappop(heap)
            if call.at > at or call.state != "active":
                continue  # moved to later, or cancelled
            if at > self.now:
                self.now = at
            self.events += 1
            reactor = call.reactor
            if reactor is None:
                call.run()
            else:
                reactor.happens(call)
        self.now = max(self.now, until)


@define
class WallClock:
    """What one machine takes for the time of day; it outlives the machine's processes.

    :ivar offset_seconds: how far it is off. It may be set, as by a person or by NTP.
    """

    time: VirtualTime
    offset_seconds: float = 0.0

    def __call__(self) -> float:
        """Unix time, in seconds."""
        return EPOCH_SECONDS + self.time.now + self.offset_seconds


class Connections(Protocol):
    """What a reactor's connections and ports are made by (:class:`chordtx.sim.network.Network`)."""

    def connect(
        self, reactor: NodeReactor, host: str, port: int, factory: Any, timeout_seconds: float
    ) -> Any:
        """See ``connectTCP``."""

    def listen(self, reactor: NodeReactor, port: int, factory: Any) -> Any:
        """See ``listenTCP``."""


@implementer(IReactorTime, IReactorTCP)
class NodeReactor:
    """What one simulated process takes for Twisted's reactor.

    :param host: its address on the network. :param rate: how fast its clock runs, beside true time.
    :ivar is_dead: nothing of it happens any more.
    :ivar is_paused: what is due waits until :meth:`resume`.
    """

    def __init__(self, time: VirtualTime, network: Connections, host: str, rate: float = 1.0) -> None:
        self.time = time
        self.rate = rate
        self.network = network
        self.host = host
        self.is_dead = False
        self.is_paused = False
        self._waiting: list[VirtualCall] = []

    def seconds(self) -> float:
        """Twisted's: time that passes, from when the world began."""
        return self.time.now * self.rate

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> VirtualCall:
        """Twisted's."""
        assert delay >= 0
        call = callable if not args and not kwargs else lambda: callable(*args, **kwargs)
        return self.time.call_at(self.time.now + delay / self.rate, call, self)

    def getDelayedCalls(self) -> list[VirtualCall]:
        """Twisted's; nobody here asks for them."""
        return []

    def happens(self, call: VirtualCall) -> None:
        """Something of this node is due."""
        if self.is_dead:
            return
        if self.is_paused:
            self._waiting.append(call)
        else:
            call.run()

    def resume(self) -> None:
        """Go on: what was due meanwhile happens now, in its order."""
        self.is_paused = False
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            if self.is_paused or self.is_dead:
                self._waiting.append(call)
            else:
                call.run()

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """Twisted's."""
        return self.network.connect(self, host, port, factory, timeout)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Twisted's."""
        return self.network.listen(self, port, factory)
