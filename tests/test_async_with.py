"""``async with`` a service, and what cannot be done with one as with a dict."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError

from chordtx import ChordService, MeshService, NotJoined, Stopped, SyncService
from tests.sim.cluster import PORT, Cluster

KINDS = [MeshService, ChordService, SyncService]
DICTS = [ChordService, SyncService]
HOST = "10.0.9.1"


def made(world: Cluster, kind: Any, **options: Any) -> Any:
    """A service that nobody has started."""
    options.setdefault("listen", f"tcp:{PORT}:interface={HOST}")
    return kind(world.network.process(HOST), rng=Random(1), **options)


def is_over(world: Cluster, node: Any) -> bool:
    """Whether nothing of the service is left: no port and no link."""
    with pytest.raises(Stopped):
        world.result(node.connect("10.0.0.1", PORT))
    return not node.running and not node._links and (HOST, PORT) not in world.network._ports


@pytest.mark.parametrize("kind", KINDS)
def test_service_runs_within_and_is_stopped_at_the_end(kind: Any) -> None:
    world = Cluster(kind)
    node = made(world, kind)

    async def within() -> Any:
        async with node as entered:
            assert entered is node
            assert node.running
            assert node.out_addr == (HOST, PORT)
            if kind in DICTS:
                await node.set("key", 1)
                return await node["key"]
        return 1

    for _ in range(2):  # and again
        assert world.result(within()) == 1
        assert is_over(world, node)


@pytest.mark.parametrize("kind", KINDS)
def test_error_within_stops_the_service_and_comes_out(kind: Any) -> None:
    world = Cluster(kind)
    node = made(world, kind)

    async def within() -> None:
        async with node:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        world.result(within())
    assert is_over(world, node)


async def enter(node: Any) -> None:
    async with node:
        pytest.fail("it was entered")


@pytest.mark.parametrize("kind", KINDS)
def test_port_that_is_taken_is_the_reason(kind: Any) -> None:
    world = Cluster(kind)
    first = world.start(host=HOST)
    world.run(1)
    node = kind(first.reactor, listen=f"tcp:{PORT}:interface={HOST}", rng=Random(2))
    with pytest.raises(CannotListenError):
        world.result(enter(node))
    assert not node.running
    assert not node._links
    assert not node._tasks._running
    assert first.running


def test_ring_that_is_not_reached_is_the_reason() -> None:
    world = Cluster(ChordService)
    node = made(world, ChordService, peers=["10.0.0.77:4000"])
    with pytest.raises(NotJoined):
        world.result(enter(node))
    assert is_over(world, node)


def test_failure_to_stop_does_not_hide_the_reason(flush_logged_errors: Any) -> None:
    world = Cluster(ChordService)

    class Unstoppable(ChordService):
        async def _finish(self) -> None:
            await super()._finish()
            raise ZeroDivisionError

    node = made(world, Unstoppable, peers=["10.0.0.77:4000"])
    with pytest.raises(NotJoined):
        world.result(enter(node))
    assert flush_logged_errors(ZeroDivisionError)


def test_who_gives_up_entering_leaves_nothing_behind() -> None:
    world = Cluster(ChordService)
    node = made(world, ChordService, peers=["10.0.0.77:4000"])
    entering = Deferred.fromCoroutine(enter(node))
    world.run(0.1)
    entering.cancel()
    with pytest.raises(CancelledError):
        world.result(entering)
    assert is_over(world, node)


# No dict


@pytest.mark.parametrize("kind", DICTS)
def test_what_would_ask_the_network_without_await_says_what_to_write(kind: Any) -> None:
    node = made(Cluster(kind), kind)
    with pytest.raises(TypeError, match=r"await node\.contains\('k'\)"):
        "k" in node  # noqa: B015
    with pytest.raises(TypeError, match=r"await node\.contains\(b'k'\)"):
        b"k" not in node  # noqa: B015
    with pytest.raises(TypeError, match=r"await node\.contains\(key\)"):
        5 in node  # noqa: B015
    for asks in (len, reversed):
        with pytest.raises(TypeError, match=r"await node\.count\(\)"):
            asks(node)
    for walks in (iter, list, set, sorted, max, tuple, enumerate, lambda node: [key for key in node]):  # noqa: C416
        with pytest.raises(TypeError, match="async for key in node"):
            walks(node)
    for walks in (
        dict,
        lambda node: {**node},
        lambda node: list(node.items()),
        lambda node: 1 in node.values(),
    ):
        with pytest.raises(TypeError):
            walks(node)
    assert bool(node) is True
    assert node == node
    assert node != {}
    assert {node: 1}[node] == 1


# Its status


@pytest.mark.parametrize("kind", KINDS)
def test_status_names_the_node_its_network_and_its_peers(kind: Any) -> None:
    world = Cluster(kind)
    first = world.start(subnet="demo")
    world.run(1)
    second = world.start(first, subnet="demo")
    world.run(3)
    status = second.status
    assert list(status)[:5] == ["id", "kind", "address", "subnet", "encryption"]
    assert (status["id"], status["address"]) == (second.id, f"{second.reactor.host}:{PORT}")
    assert (status["kind"], status["encryption"]) == ("chordtx", "Plaintext")
    assert status["subnet"] == second.protocol[0]
    [peer] = status["peers"]
    assert peer["id"] == first.id
    assert peer["address"] == f"{first.reactor.host}:{PORT}"
    assert peer["kind"] == "chordtx"
