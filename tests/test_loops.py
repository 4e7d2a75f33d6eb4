"""Every loop of every service lives on after whatever a transport may raise, and none is kept in another way.

The loops are found in the source. For each, some world below has to run it: a new one without a world fails
here, and so does a loop that does not go through ``keep``.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory, Protocol

from chordtx import ChordService, MeshService, NoMajority, SyncService
from chordtx.config import ChordSettings, MeshSettings, SyncSettings
from chordtx.discovery import Advertisement, Servers
from chordtx.sim.virtual import WallClock
from tests.failing import failing_once
from tests.sim.cluster import PORT, Cluster

PACKAGE = Path(__file__).parents[1] / "chordtx"
SERVICES = ("mesh", "chord", "sync", "discovery.py", "dictionary.py", "assignments.py")
#: Where a coroutine goes on in a ``while``: why it ends.
ENDS = {
    "mesh/loop.py Loop.run": "the loop itself",
    "mesh/loop.py Loop._wait": "the loop itself",
    "mesh/events.py EventEmitter._one_after_another": "when no event waits; a listener's failure is logged",
    "mesh/first_link.py FirstLink._wait": "with the first link, or when time is over",
    "chord/departure.py Departure.leave_groups": "when others keep all of it, or time is over",
    "chord/departure.py Departure.give_leads_away": "when it leads nothing, or time is over",
    "chord/service.py ChordService._when_hearing": "a caller waits; with a watch that is ready",
    "chord/ring_view.py RingView.set_aside": "a caller waits; after the last page",
    "chord/walk.py RingWalk.walk": "a caller waits; once round",
    "chord/dictionary.py RingDict._entry_pages": "a caller waits; after the last page",
    "chord/watching.py Watch.__anext__": "a caller waits; with the watch",
    "chord/watching.py _Subscription._follow": "somebody watches; with the last watch, or the service",
    "chord/exact.py ExactOperations._modify": "a caller waits; when nobody came between",
    "chord/locking.py Lock._wait": "a caller waits; when the lock is held",
    "chord/locking.py Lock._renew": "with the hold, or the service; an error leaves it to the lease's end",
    "chord/locking.py Lock._look": "with the hold, or the service",
    "chord/routing.py Routing.everyone": "once round",
    "sync/anti_entropy.py AntiEntropy._until_done": "when nothing has changed since",
    "sync/bulk.py fetch_all": "when all has come, or nothing more comes",
    "dictionary.py DictMixin._pages": "a caller waits; after the last page",
    "dictionary.py DictMixin._setdefault": "a caller waits; when a value is there",
}
#: Where a call is put off: none puts itself off again, but in ``Loop`` and in ``Turns``, which no error ends.
PUT_OFF = {
    "mesh/connection.py MeshConnection.connectionMade",
    "mesh/connection.py MeshConnection.close",
    "mesh/receive_buffer.py ReceiveBuffer._spend",
    "mesh/limited_log.py LimitedLog._drop",
    "mesh/loop.py Loop._sleep",
    "mesh/tasks.py Tasks._cancel",
    "mesh/keepalive.py Keepalive.wants_flush",
    "mesh/service.py MeshService._close_links",
    "mesh/service.py MeshService.sleep",
    "mesh/steady.py SteadyReactor._set_soon_timer",
    "mesh/steady.py SteadyReactor._set_timer",
    "mesh/turns.py Turns._call_next",
    "chord/hosting.py Hosting._gather",
    "chord/hosting.py Hosting._schedule",
    "chord/hosting.py Hosting.links_worked",
    "chord/hosting.py Hosting.wants_end",
    "chord/node_parts.py NodeParts.refused",
}


def found_in_services(wanted: Callable[[ast.AST], bool]) -> Iterator[tuple[str, ast.AST]]:
    """Where there is something that is wanted: ``FILE CLASS.METHOD``."""
    for part in SERVICES:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name = str(file.relative_to(PACKAGE))
            yield from (
                (f"{name} {place}", node) for place, node in _walk(ast.parse(file.read_text()), wanted)
            )


def _walk(node: ast.AST, wanted: Callable[[ast.AST], bool], place: str = "") -> Iterator[tuple[str, ast.AST]]:
    for inner in ast.iter_child_nodes(node):
        within = place
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            within = f"{place}.{inner.name}".strip(".")
        if wanted(inner):
            yield within, inner
        yield from _walk(inner, wanted, within)


def is_waiting_loop(node: ast.AST) -> bool:
    waits = ast.Await | ast.AsyncFor | ast.AsyncWith
    return isinstance(node, ast.While) and any(isinstance(each, waits) for each in ast.walk(node))


def is_call_of(*names: str) -> Callable[[ast.AST], bool]:
    return lambda node: (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names
    )


def names_of_loops() -> set[str]:
    """All that are kept, by their names; what follows in a name that is made goes by ``*``."""
    found = set()
    for place, node in found_in_services(is_call_of("keep", "_keep")):
        assert isinstance(node, ast.Call)
        if len(node.args) < 3 or place.startswith("mesh/service.py"):
            continue  # another keep, or the one that hands this on
        name = node.args[0]
        found.add(str(name.value) if isinstance(name, ast.Constant) else "advertising *")
    return found


def test_what_goes_on_and_on_is_kept() -> None:
    assert {place for place, _ in found_in_services(is_waiting_loop)} == {*ENDS}
    assert {place for place, _ in found_in_services(is_call_of("callLater"))} == PUT_OFF


def test_no_loop_of_twisted_which_dies_of_one_error_is_used() -> None:
    for file in PACKAGE.rglob("*.py"):
        assert "LoopingCall" not in (text := file.read_text()), file
        assert "TimerService" not in text, file


def test_every_loop_has_a_world_that_runs_it() -> None:
    assert names_of_loops() == {name for world in WORLDS for name in world.loops} | {
        "noting in the data folder"
    }


# Each killed once with each error

ERRORS: tuple[Exception, ...] = (
    ConnectionLost(),
    ConnectionDone(),
    ConnectionRefusedError(),
    TimeoutError(),
    OSError("no route"),
    AttributeError("a bug"),
)
QUICK = MeshSettings(first_link_timeout_seconds=5.0)


class Healed:
    """A world whose loops have each failed once.

    :cvar loops: what runs in it.
    """

    kind: Any
    loops: frozenset[str]
    settings: Any

    def __init__(self) -> None:
        self.world = Cluster(
            lambda reactor, **options: self.kind(reactor, settings=self.settings, **options), seed=3
        )
        self.nodes: list[Any] = []

    def begin(self) -> None:
        """Have the loops run."""
        self.nodes = [self.world.start()]
        self.nodes += [self.world.start(self.nodes[0]) for _ in range(3)]
        for node in self.nodes:
            self.world.result(node.when_joined())
        self.world.run(5)

    def fail_once(self, error: Exception) -> None:
        """Let the next round of every loop fail, and see that there is another."""
        loops = [loop for node in self.nodes for loop in node._tasks.loops]
        assert self.loops == {_plain(loop.name) for loop in loops}
        failed = [failing_once(loop, error) for loop in loops]
        self.world.run(80)
        assert all(failed), "some loop has not come to another round"
        before = [loop.rounds for loop in loops]
        self.world.run(80)
        for loop, rounds in zip(loops, before, strict=True):
            assert loop.is_over or loop.rounds > rounds, f"{loop.name} is dead"

    def heal(self) -> None:
        """Do what needs the loops, and see that it is done."""
        raise NotImplementedError


def _plain(name: str) -> str:
    return "advertising *" if name.startswith("advertising ") else name


class MeshHealed(Healed):
    """Halves of a mesh that was split find each other, and a dead node is noticed."""

    kind = MeshService
    loops = frozenset({"keeping connected", "looking after links"})
    settings = QUICK

    def heal(self) -> None:
        self.world.split(self.nodes[:2], self.nodes[2:])
        self.world.run(30)
        assert all(len(node.routing_table) == 1 for node in self.nodes), "a silent link is not noticed"
        self.world.heal()
        self.world.run(120)
        assert all(len(node.routing_table) > 1 for node in self.nodes)


class RingHealed(Healed):
    """The half of a split ring without a majority refuses, and works again once there is one ring."""

    kind = ChordService
    loops = frozenset(
        {
            "keeping connected",
            "looking after links",
            "membership",
            "placing groups",
            "ring merge",
            "seeking owners",
        }
    )
    settings = ChordSettings(mesh=QUICK, restart_grace_seconds=1.0, partition_bits=2)

    def heal(self) -> None:
        world = self.world
        world.result(self.nodes[0].set("before", 1))
        world.split(self.nodes[:2], self.nodes[2:])
        world.run(60)
        refused: list[Any] = []
        for node in (self.nodes[0], self.nodes[2]):
            node.set("before", 2).addErrback(refused.append)
        world.run(20)
        assert refused, "both halves have a majority"
        for failure in refused:
            failure.trap(NoMajority)
        world.heal()
        world.run(120)
        for number, node in enumerate(self.nodes):
            world.result(node.set(f"key {number}", number))
        for node in self.nodes:
            assert len(world.result(node.ring())) == len(self.nodes)
            assert world.result(node.get("before")) in (1, 2)  # it may have been done all the same
            assert [world.result(node.get(f"key {number}")) for number in range(4)] == [0, 1, 2, 3]


class JoiningHealed(RingHealed):
    """Nodes that look for a ring that is not there yet find it."""

    loops = frozenset({"keeping connected", "looking after links", "joining the ring"})

    def begin(self) -> None:
        peers = ["10.1.1.1:4000"]
        for number in range(2, 5):
            host = f"10.1.1.{number}"
            reactor = self.world.network.process(host)
            listen = f"tcp:{PORT}:interface={host}"
            node = ChordService(
                reactor,
                listen=listen,
                peers=peers,
                settings=self.settings,
                rng=self.world.rng,
                wall_clock=WallClock(self.world.time),
            )
            self.nodes.append(node)
            node.startService()
        self.world.run(1)

    def heal(self) -> None:
        self.nodes.append(self.world.start(host="10.1.1.1"))
        self.world.run(60)  # they try ever less often
        for node in self.nodes:
            self.world.result(node.when_joined())
        super().heal()


class AdvertisementHealed(Healed):
    """A server goes on saying where it is."""

    kind = ChordService
    loops = RingHealed.loops | {"advertising *"}
    settings = RingHealed.settings

    def begin(self) -> None:
        super().begin()
        self.server = Advertisement(self.nodes[0], "web", "10.0.0.1:80", ttl_seconds=6.0)
        for node in self.nodes[1:]:
            Advertisement(node, "other", "10.0.0.1:81").startService()
        self.server.startService()

    def heal(self) -> None:
        servers = Servers(self.nodes[1], "web")
        addresses = self.world.result(servers.addresses())
        servers.stop()
        assert [str(address) for address in addresses] == ["10.0.0.1:80"]


class SyncHealed(Healed):
    """Halves of a synchronized dict become one; what expires is told, and what is old forgotten."""

    kind = SyncService
    loops = frozenset({"keeping connected", "looking after links", "anti-entropy", "expiry", "forgetting"})
    settings = SyncSettings(mesh=QUICK, compare_interval_seconds=5.0, tombstone_seconds=600.0)

    def heal(self) -> None:
        world, told = self.world, []
        for node in self.nodes:
            node.on("delete", lambda _, key: told.append(key))
        world.split(self.nodes[:2], self.nodes[2:])
        world.run(30)
        world.result(self.nodes[0].set("one", 1))
        world.result(self.nodes[-1].set("two", 2, ttl=200.0))
        world.heal()
        world.run(120)
        for node in self.nodes:
            assert dict(node.data) == {b"one": 1, b"two": 2}
        world.run(1500)
        for node in self.nodes:
            assert dict(node.data) == {b"one": 1}
            assert len(node._replica) == 1
        assert told == [b"two"] * len(self.nodes)


WORLDS: tuple[type[Healed], ...] = (
    MeshHealed,
    RingHealed,
    JoiningHealed,
    AdvertisementHealed,
    SyncHealed,
)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_each_loop_survives_each_error(
    world: type[Healed], error: Exception, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    healed = world()
    healed.begin()
    healed.fail_once(error)
    told = flush_logged_errors(AttributeError)
    assert bool(told) is isinstance(error, AttributeError), (
        "bugs have a traceback in the log, and nothing else"
    )
    healed.heal()


# What concerns one link


@pytest.mark.parametrize("part", ["watch", "flush"])
def test_a_link_that_cannot_be_looked_after_is_ended_alone(
    part: str, flush_logged_errors: Callable[..., list[Any]]
) -> None:
    healed = MeshHealed()
    healed.begin()
    node = healed.nodes[0]
    broken, *others = node.routing_table.values()

    def fails(*_: Any) -> None:
        raise AttributeError("a bug")

    if part == "watch":
        broken.watch = fails
    else:
        broken.calls.flush = fails
        for link in (broken, *others):
            link.call("ping", timeout_seconds=5.0).addErrback(lambda _: None)
    healed.world.run(0.5)
    assert broken.closed
    assert not any(link.closed for link in others)
    healed.world.run(10)
    assert len(node.routing_table) == 3, "the others connect again"
    assert flush_logged_errors(AttributeError)


# What a transport does


class Rude(Protocol):
    """Hangs up on whoever connects, as a proxy does behind which nobody is."""

    def __init__(self, how: str) -> None:
        self._how = how

    def connectionMade(self) -> None:
        self._hang_up("at once")

    def dataReceived(self, data: bytes) -> None:
        self._hang_up("after a word")

    def _hang_up(self, when: str) -> None:
        transport: Any = self.transport
        if self._how == f"reset {when}":
            transport.abortConnection()
        elif self._how == f"close {when}":
            transport.loseConnection()


class _RudeFactory(Factory):
    def __init__(self, how: str) -> None:
        self.how = how
        self.count = 0

    def buildProtocol(self, addr: Any) -> Rude:
        self.count += 1
        return Rude(self.how)


RUDENESS = ["reset at once", "close at once", "reset after a word", "close after a word", "says nothing"]


@pytest.mark.parametrize("how", [*RUDENESS, "refuses", "is gone", "cannot be connected to"])
@pytest.mark.parametrize("kind", [ChordService, SyncService])
def test_a_rude_address_ends_nothing_but_each_attempt(
    kind: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    healed = RingHealed() if kind is ChordService else SyncHealed()
    world = healed.world
    healed.begin()
    gone = healed.nodes.pop()
    host = gone.reactor.host
    world.kill(gone)
    factory = _RudeFactory(how)
    if how != "is gone":
        reactor = world.network.process(host)
        if how in RUDENESS:
            world.network.listen(reactor, PORT, factory)
    true_connect = world.network.connect

    def connect(reactor: Any, to: str, *rest: Any) -> Any:
        if to == host and how == "cannot be connected to":
            factory.count += 1
            raise OSError("no buffer space")
        return true_connect(reactor, to, *rest)

    monkeypatch.setattr(world.network, "connect", connect)
    world.run(60)
    assert factory.count > 3 or how in ("refuses", "is gone")
    assert {_plain(loop.name) for node in healed.nodes for loop in node._tasks.loops} == healed.loops
    if kind is ChordService:
        healed.nodes.append(world.start(*healed.nodes))
        world.result(healed.nodes[-1].when_joined())
    healed.heal()
