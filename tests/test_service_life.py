"""Each service started and stopped in every order, on virtual time.

Whoever waits is always told, and calls that cannot work fail at once.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory

from chordtx import ChordService, MeshService, SyncService
from chordtx.config import ChordSettings, MeshSettings, SyncSettings
from chordtx.errors import ChordError, NotJoined, Stopped, WrongSubnet
from chordtx.sim.virtual import WallClock
from tests.mesh.peers import outcomes
from tests.sim.cluster import PORT, Cluster

KINDS = [MeshService, ChordService, SyncService]
DICTS = [ChordService, SyncService]
_MESH = MeshSettings(first_link_timeout_seconds=3.0)
SETTINGS: dict[Any, Any] = {
    MeshService: _MESH,
    ChordService: ChordSettings(join_timeout_seconds=3.0, partition_bits=4, mesh=_MESH),
    SyncService: SyncSettings(mesh=_MESH),
}
#: Every public call that returns a Deferred.
MESH_CALLS: dict[str, Callable[[Any], Any]] = {
    "connect": lambda node: node.connect("10.0.0.9", PORT),
    "send_to": lambda node: node.send_to("abc", "x"),
    "when_listening": lambda node: node.when_listening(),
    "when_joined": lambda node: node.when_joined(),
}
DICT_CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda node: node.get("key"),
    "__getitem__": lambda node: node["key"],
    "contains": lambda node: node.contains("key"),
    "set": lambda node: node.set("key", 1),
    "delete": lambda node: node.delete("key"),
    "pop": lambda node: node.pop("key"),
    "popitem": lambda node: node.popitem(),
    "apply_delta": lambda node: node.apply_delta("key", {1: 2}),
    "setdefault": lambda node: node.setdefault("key", 1),
    "update": lambda node: node.update({"key": 1}),
    "clear": lambda node: node.clear(),
    "get_many": lambda node: node.get_many(["key"]),
    "count": lambda node: node.count(),
    "copy": lambda node: node.copy(),
    "flush": lambda node: node.flush(),
    "keys": lambda node: _first_of(node.keys()),
    "values": lambda node: _first_of(node.values()),
    "items": lambda node: _first_of(node.items()),
    "iteration": lambda node: _first_of(node),
}
RING_CALLS: dict[str, Callable[[Any], Any]] = {
    "ring": lambda node: node.ring(),
    "join": lambda node: node.join(),
    "unjoin": lambda node: node.unjoin(),
}
CALLS: dict[Any, dict[str, Callable[[Any], Any]]] = {
    MeshService: MESH_CALLS,
    SyncService: {**MESH_CALLS, **DICT_CALLS},
    ChordService: {**MESH_CALLS, **DICT_CALLS, **RING_CALLS},
}
EACH_CALL = [(kind, name) for kind in KINDS for name in CALLS[kind]]


def _first_of(keys: Any) -> Deferred[Any]:
    async def first() -> Any:
        async for key in keys:
            return key
        return None

    return Deferred.fromCoroutine(first())


def world_of(kind: Any) -> Cluster:
    return Cluster(lambda reactor, **options: kind(reactor, settings=SETTINGS[kind], **options))


def not_started(world: Cluster, kind: Any, host: str = "10.0.9.1", **options: Any) -> Any:
    """A node that was never started, on a host of its own."""
    options.setdefault("listen", f"tcp:{PORT}:interface={host}")
    reactor, clock = world.network.process(host), WallClock(world.time)
    return kind(reactor, settings=SETTINGS[kind], rng=Random(5), wall_clock=clock, **options)


def occupied(world: Cluster, host: str = "10.0.9.1") -> Any:
    """The port of a host, taken by something else."""
    return world.network.listen(world.network._processes[host], PORT, Factory())


def at_once(call: Deferred[Any]) -> Any:
    """The error that a call has failed with already."""
    found = outcomes(call)
    assert found, "the call is under way"
    return found[0]


def nothing_is_left(world: Cluster, node: Any) -> None:
    """The node is down: nothing of it is under way, and nothing open."""
    assert not node.running
    assert not node._links
    assert not node.routing_table
    assert not node.awaiting_ids
    assert not node._tasks.count
    assert not node._tasks.loops
    assert not [gate for gate in node._life._gates if gate.count]
    assert (node.reactor.host, PORT) not in world.network._ports
    world.run(1)  # what was closed leaves
    assert not [t for t in world.network.transports if t.reactor is node.reactor]
    waiting = [entry[3] for entry in world.time._heap if entry[3].state == "active"]
    assert not [call for call in waiting if call.reactor is node.reactor], "calls are left on the reactor"


def nothing_is_left_and_it_starts_again(world: Cluster, node: Any) -> None:
    nothing_is_left(world, node)
    node.startService()
    works(world, node)


def works(world: Cluster, node: Any, other: Any = None) -> None:
    """The node is joined, and of use."""
    assert world.result(node.when_joined()) is None
    assert world.result(node.when_listening()) is None
    if hasattr(node, "set"):
        world.result(node.set("works", 1))
        assert world.result(node.get("works")) == 1
    if other is not None:
        world.result(other.connect(*node.out_addr))


# Calls when there is no service


@pytest.mark.parametrize(("kind", "name"), EACH_CALL)
def test_calls_before_the_start_fail_at_once(kind: Any, name: str) -> None:
    node = not_started(world_of(kind), kind)
    error = at_once(CALLS[kind][name](node))
    assert isinstance(error, NotJoined)
    assert "not started" in str(error)


@pytest.mark.parametrize(("kind", "name"), EACH_CALL)
def test_calls_from_the_stop_on_fail_at_once(kind: Any, name: str) -> None:
    world = world_of(kind)
    others = [world.start()]
    node = world.start(others[0])
    works(world, node)
    stopped = node.stopService()
    assert isinstance(at_once(CALLS[kind][name](node)), Stopped)
    world.result(stopped)
    assert isinstance(at_once(CALLS[kind][name](node)), Stopped)
    nothing_is_left(world, node)


@pytest.mark.parametrize(("kind", "name"), EACH_CALL)
def test_calls_after_a_start_that_failed_fail_at_once(kind: Any, name: str) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    occupied(world)
    node.startService()
    error = at_once(CALLS[kind][name](node))
    if name in ("when_listening", "when_joined", "join"):
        assert isinstance(error, CannotListenError)
    else:
        assert isinstance(error, NotJoined)
        assert isinstance(error.__cause__, CannotListenError)


@pytest.mark.parametrize("kind", DICTS)
def test_what_was_started_before_the_start_is_told_by_flush(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    node["key"] = 1
    del node["key"]
    assert isinstance(at_once(node.flush()), NotJoined)


# Why a node has not joined


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_is_taken_is_told_to_all_who_wait_and_the_start_may_be_tried_again(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    port = occupied(world)
    node.startService()
    for waiting in (node.when_joined(), node.when_listening()):
        with pytest.raises(CannotListenError):
            world.result(waiting)
    node.startService()
    with pytest.raises(CannotListenError):
        world.result(node.when_joined())
    port.stopListening()
    node.startService()
    works(world, node)
    world.result(node.stopService())
    nothing_is_left(world, node)


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_whose_start_failed_can_be_stopped(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    port = occupied(world)
    node.startService()
    with pytest.raises(CannotListenError):
        world.result(node.when_joined())
    world.result(node.stopService())
    assert isinstance(at_once(node.when_joined()), Stopped)
    port.stopListening()
    nothing_is_left_and_it_starts_again(world, node)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_reached_in_time_is_told_and_a_peer_that_comes_later_is_found(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind, peers=[f"10.0.0.2:{PORT}", f"10.0.0.3:{PORT}"])
    node.startService()
    for _ in range(2):
        with pytest.raises(NotJoined, match=r"was reached \(10.0.0.2:4000: .*; 10.0.0.3:4000: "):
            world.result(node.when_joined())
    world.start(host="10.0.0.3")
    world.run(60)
    assert world.result(node.when_joined()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_all_peers_refused_is_told(kind: Any) -> None:
    world = world_of(kind)
    world.start(host="10.0.0.2", subnet="another")
    node = not_started(world, kind, peers=[f"10.0.0.2:{PORT}"])
    node.startService()
    began = world.time.now
    with pytest.raises(WrongSubnet):
        world.result(node.when_joined())
    assert world.time.now - began < 2.0
    world.result(node.stopService())
    node.startService()
    waiting = outcomes(node.when_joined())
    assert not waiting, "refused by what happened before"
    world.run(5)
    assert isinstance(waiting[0], WrongSubnet)


@pytest.mark.parametrize("kind", [MeshService, SyncService])
def test_without_peers_a_node_has_joined_when_it_listens(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    node.startService()
    assert outcomes(node.when_joined()) == [None]
    itself = not_started(world, kind, "10.0.9.2", peers=[f"10.0.9.2:{PORT}"])
    itself.startService()
    assert outcomes(itself.when_joined()) == [None]
    unheard = not_started(world, kind, "10.0.9.3", listen=None)
    unheard.startService()
    assert outcomes(unheard.when_joined()) == [None]


def test_a_synchronized_dict_has_joined_when_the_first_copy_is_here() -> None:
    world = world_of(SyncService)
    other = world.start()
    for number in range(1000):
        world.result(other.set(f"key {number}", number))
    node = world.start(other)
    world.result(node.when_joined())
    assert len(node.data) == 1000


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_first_peer_that_dies_while_its_copy_comes_is_none(is_silent: bool) -> None:
    world = world_of(SyncService)
    first, second = world.several(2)
    world.run(5)
    for number in range(1000):
        world.result(second.set(f"key {number}", number))
    node = not_started(world, SyncService, peers=[f"{each.reactor.host}:{PORT}" for each in (first, second)])
    first._methods["sync_tree"] = lambda *_: Deferred()
    node.startService()
    world.network.cut(second.reactor.host, "10.0.9.1")
    world.run(1)
    waiting = outcomes(node.when_joined())
    assert first.id in node.routing_table
    world.network.kill(first.reactor.host, is_silent)
    world.run(1)
    assert waiting == []
    world.network.mend(second.reactor.host, "10.0.9.1")
    world.run(60)
    assert world.result(node.when_joined()) is None
    assert len(node.data) == 1000


@pytest.mark.parametrize("kind", [MeshService, SyncService])
def test_with_peers_a_node_has_joined_with_its_first_link(kind: Any) -> None:
    world = world_of(kind)
    other = world.start()
    node = world.start(other)
    joined = outcomes(node.when_joined())
    assert joined == []
    assert world.result(node.when_joined()) is None
    assert joined == [None]
    assert list(node.routing_table) == [other.id]


def test_a_data_folder_that_cannot_be_used_is_told(tmp_path: Any) -> None:
    world = world_of(ChordService)
    (tmp_path / "data").write_text("no folder")
    node = not_started(world, ChordService, data=str(tmp_path / "data"))
    node.startService()
    for waiting in (node.when_joined(), node.when_listening(), node.get("key")):
        assert "is not a folder: name another one" in str(at_once(waiting))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bug_in_the_start_is_told_to_those_who_wait(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)

    def prepare() -> None:
        raise AttributeError("a bug")

    node._prepare = prepare
    node.startService()
    with pytest.raises(AttributeError):
        world.result(node.when_joined())
    del node._prepare
    node.startService()
    works(world, node)


# In every order


@pytest.mark.parametrize("kind", KINDS)
def test_start_during_stop(kind: Any) -> None:
    world = world_of(kind)
    other = world.start()
    node = world.start(other)
    works(world, node)
    stopped = outcomes(node.stopService())
    assert stopped == []
    node.startService()
    joined = node.when_joined()
    call = node.get("works") if hasattr(node, "get") else node.connect(*other.out_addr)
    world.result(joined)
    assert stopped == [None]
    assert world.result(call) is not None
    works(world, node, other)
    world.result(node.stopService())
    nothing_is_left(world, node)


@pytest.mark.parametrize("kind", KINDS)
def test_start_during_stop_taken_back(kind: Any) -> None:
    world = world_of(kind)
    node = world.start(world.start())
    works(world, node)
    stopped = [outcomes(node.stopService())]
    node.startService()
    joined = outcomes(node.when_joined())
    call = outcomes(node.connect("10.0.0.2", PORT))
    stopped.append(outcomes(node.stopService()))
    assert isinstance(joined[0], Stopped)
    assert isinstance(call[0], Stopped)
    world.run(10)
    assert stopped == [[None], [None]]
    nothing_is_left_and_it_starts_again(world, node)


@pytest.mark.parametrize("kind", KINDS)
def test_start_again_in_a_callback_of_the_stop(kind: Any) -> None:
    world = world_of(kind)
    node = world.start(world.start())
    works(world, node)
    world.result(node.stopService().addCallback(lambda _: node.startService()))
    works(world, node)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wait", ["when_listening", "when_joined"])
@pytest.mark.parametrize("has_peers", [False, True])
def test_stop_in_a_callback_of_the_start(kind: Any, wait: str, has_peers: bool) -> None:
    world = world_of(kind)
    node = not_started(world, kind, peers=[f"10.0.0.2:{PORT}"] if has_peers else [])
    if has_peers:
        world.start(host="10.0.0.2")
    node.startService()
    stopped: list[Any] = []

    def stop(_: Any) -> None:
        node.stopService().addCallback(stopped.append)

    world.result(getattr(node, wait)().addCallback(stop))
    world.run(30)
    assert stopped == [None]
    nothing_is_left_and_it_starts_again(world, node)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after_seconds", [0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.04, 0.08, 0.2, 0.5])
def test_stop_while_joining(kind: Any, after_seconds: float) -> None:
    world = world_of(kind)
    others = world.several(3)
    world.run(10)
    node = world.start(*others)
    waiting = [outcomes(node.when_joined()), outcomes(node.when_listening())]
    world.run(after_seconds)
    world.result(node.stopService())
    assert all(waiting)
    nothing_is_left(world, node)
    node.startService()
    works(world, node, others[0])
    if kind is ChordService:
        world.run(10)
        assert len(world.result(node.ring())) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_stop_before_the_port_is_open(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    opening: list[Deferred[None]] = [Deferred(), Deferred()]
    true_open, opened = node._listening.open, iter(opening)

    async def open_slowly() -> None:
        await next(opened)
        await true_open()

    node._listening.open = open_slowly
    node.startService()
    call = outcomes(node.connect("10.0.0.2", PORT))
    waiting = outcomes(node.when_joined())
    world.result(node.stopService())
    assert isinstance(waiting[0], Stopped)
    assert isinstance(call[0], Stopped)
    nothing_is_left(world, node)
    node.startService()
    call = outcomes(node.connect("10.0.0.2", PORT))
    assert call == []
    opening[1].callback(None)
    works(world, node)
    world.run(10)
    assert call  # it was made once that could be


@pytest.mark.parametrize("kind", KINDS)
def test_twice_is_as_good_as_once(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind)
    assert outcomes(node.stopService()) == [None]  # was never started
    assert isinstance(at_once(node.when_joined()), NotJoined)
    node.startService()
    node.startService()
    works(world, node)
    node.startService()
    works(world, node)
    both = [outcomes(node.stopService()), outcomes(node.stopService())]
    world.run(5)
    assert both == [[None], [None]]
    assert outcomes(node.stopService()) == [None]
    nothing_is_left(world, node)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_any_order_ends_well(kind: Any, seed: int) -> None:
    world, rng = world_of(kind), Random(seed)
    others = world.several(2)
    world.run(5)
    node = not_started(world, kind, peers=[f"{others[0].reactor.host}:{PORT}"])
    asked: list[list[Any]] = []
    for _ in range(40):
        draw = rng.random()
        if draw < 0.35:
            node.startService()
        elif draw < 0.65:
            asked.append(outcomes(node.stopService()))
        elif draw < 0.8:
            asked += [outcomes(node.when_joined()), outcomes(node.when_listening())]
        else:
            world.run(rng.choice([0.0, 0.005, 0.02, 0.1, 1.0, 6.0]))
    node.startService()
    works(world, node, others[1])
    assert all(asked), "somebody waits for ever"
    world.result(node.stopService())
    nothing_is_left(world, node)


# What is left of those who have given up waiting, and of the run before


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_cancel_leave_nothing_behind(kind: Any) -> None:
    world = world_of(kind)
    node = not_started(world, kind, peers=[f"10.0.0.2:{PORT}"])
    node.startService()
    stays = outcomes(node.when_joined())
    for _ in range(1000):
        waiting = node.when_joined()
        outcomes(waiting)
        waiting.cancel()
    late = outcomes(node.when_joined().addTimeout(0.5, node.reactor))
    world.run(1)
    assert late
    assert node._life.joined.count == 1
    world.start(host="10.0.0.2")
    world.run(60)
    assert stays
    stopping = [node.stopService() for _ in range(10)]
    for waiting in stopping[1:]:
        outcomes(waiting)
        waiting.cancel()
    world.result(stopping[0])
    nothing_is_left(world, node)


def test_a_node_without_a_disk_is_another_one_when_it_starts_again() -> None:
    world = world_of(ChordService)
    node = world.start()
    world.result(node.set("key", "value"))
    world.run(1)
    told: list[Any] = []
    node.on("add", lambda _, key: told.append(key))
    before = node.id
    world.result(node.stopService())
    node.startService()
    world.result(node.when_joined())
    assert node.id != before, "what it has promised it has forgotten"
    assert world.result(node.get("key")) is None
    world.result(node.set("another", 1))
    world.run(1)
    assert told == [b"another"], "listeners stay"


def test_a_node_that_met_others_looks_for_their_ring_when_it_starts_again() -> None:
    world = world_of(ChordService)
    first = world.start()
    world.result(first.when_joined())
    second = world.start(first)
    world.result(second.when_joined())
    world.run(5)
    world.result(first.stopService())
    world.result(second.set("key", "meanwhile"))
    first.startService()
    world.result(first.when_joined())
    assert world.result(first.get("key")) == "meanwhile"
    assert len(world.result(first.ring())) == 2


def test_a_stop_that_fails_in_one_step_does_the_others(flush_logged_errors: Any) -> None:
    world = world_of(ChordService)
    node = world.start(world.start())
    works(world, node)

    async def fails() -> None:
        raise AttributeError("a bug")

    node._leave = node._finish = fails
    world.result(node.stopService())
    assert len(flush_logged_errors(AttributeError)) == 2
    node._membership.stop()
    assert not node._links
    del node._leave, node._finish
    node.startService()
    works(world, node)


def test_a_transport_that_tells_nothing_does_not_keep_the_service(flush_logged_errors: Any) -> None:
    world = world_of(MeshService)
    node = world.start(world.start())
    works(world, node)
    link = next(iter(node.routing_table.values()))
    link.connectionLost = lambda *_: None
    world.result(node.stopService())
    assert len(flush_logged_errors(ChordError)) == 1


def test_an_event_that_stops_the_service_stops_the_loop_that_tells_it() -> None:
    world = world_of(SyncService)
    node = world.start()
    works(world, node)
    stopped: list[Any] = []
    node.on("delete", lambda *_: stopped.append(outcomes(node.stopService())))
    world.result(node.set("key", 1, ttl=1.0))
    world.run(5)
    assert stopped == [[None]]
    nothing_is_left(world, node)


# Storing, and not


def test_a_cancelled_unjoin_goes_on_all_the_same() -> None:
    world = world_of(ChordService)
    others = world.several(3)
    node = world.start(*others)
    works(world, node)
    world.run(5)
    leaving = node.unjoin()
    outcomes(leaving)
    leaving.cancel()
    assert world.result(node.unjoin()) is None
    assert not node._ring.is_member
    assert world.result(node.get("works")) == 1
    assert len(world.result(others[0].ring())) == 3


def test_join_while_it_leaves_and_leave_while_it_joins() -> None:
    world = world_of(ChordService)
    others = world.several(3)
    node = world.start(*others)
    works(world, node)
    world.run(5)
    for _ in range(3):
        left = node.unjoin()
        joined = node.join()
        world.result(left)
        world.result(joined)
        assert node._ring.is_member
    node.unjoin()
    outcomes(node.join())
    world.result(node.unjoin())
    world.run(5)
    assert not node._ring.is_member
    assert world.result(node.get("works")) == 1
    joined = outcomes(node.join())
    world.result(node.stopService())
    assert isinstance(joined[0], Stopped)
    nothing_is_left(world, node)


@pytest.mark.parametrize("after_seconds", [0.0, 0.01, 0.02, 0.05, 0.2])
def test_unjoin_before_it_has_joined(after_seconds: float) -> None:
    world = world_of(ChordService)
    others = world.several(3)
    world.run(5)
    node = world.start(*others)
    waiting = outcomes(node.when_joined())
    world.run(after_seconds)
    world.result(node.unjoin())
    world.run(5)
    assert waiting == [None]
    assert not node._ring.is_member
    assert world.result(node.get("key", "nothing")) == "nothing"
    assert len(world.result(others[0].ring())) == 3
