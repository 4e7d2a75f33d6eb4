"""Services that are found by name: leases, and who is told of them. On a simulated network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from chordtx import ChordService, ChordSettings, NotJoined, Stopped
from chordtx.discovery import Advertisement, Parser, Servers, ServiceEndpoint, namespace_of
from chordtx.group import operations
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, restart_grace_seconds=1.0)
TTL_SECONDS = 6.0


@pytest.fixture
def world() -> Iterator[Cluster]:
    """A network, whose nodes are stopped at the end."""
    made = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=9)
    yield made
    for node in list(made.nodes.values()):
        made.result(node.stopService())


def served(world: Cluster, node: Any, address: str, name: str = "web") -> Advertisement:
    advertisement = Advertisement(node, name, address, ttl_seconds=TTL_SECONDS)
    advertisement.startService()
    world.run(1)
    return advertisement


def found(world: Cluster, servers: Servers) -> list[str]:
    return sorted(str(address) for address in world.result(servers.addresses()))


def watched(world: Cluster, node: Any, name: str = "web") -> Servers:
    servers = Servers(node, name)
    world.result(servers.addresses())
    world.run(1)
    assert servers.is_watched
    return servers


def asked_of(node: Any) -> list[tuple[Any, ...]]:
    """What a node asks leaders for from now on, but for what its watches ask."""
    asked: list[tuple[Any, ...]] = []
    do = node._client.do

    def noted(partition: int, kind: int, *arguments: Any) -> Any:
        if kind != operations.WATCH:
            asked.append((operations.NAMES[kind], *arguments))
        return do(partition, kind, *arguments)

    node._client.do = noted
    return asked


def test_servers_come_and_go_and_nobody_asks_again(world: Cluster) -> None:
    one, other, client = world.ring(3, 5)
    first = served(world, one, "10.1.0.1:80")
    servers = watched(world, client)
    asked = asked_of(client)
    assert found(world, servers) == ["10.1.0.1:80"]
    second = served(world, other, "10.1.0.2:80")
    served(world, other, "10.1.0.3:80", name="web2")
    assert found(world, servers) == ["10.1.0.1:80", "10.1.0.2:80"]
    world.result(first.stopService())
    world.run(1)
    assert found(world, servers) == ["10.1.0.2:80"]
    assert asked == []
    world.result(second.stopService())
    world.run(1)
    assert found(world, servers) == []
    assert asked, "that there are none is told once the ring was asked"


def test_a_lease_is_renewed_and_not_written_again(world: Cluster) -> None:
    one, _, client = world.ring(3, 5)
    asked = asked_of(one)
    served(world, one, "10.1.0.1:80")
    servers = watched(world, client)
    world.run(5 * TTL_SECONDS)
    assert found(world, servers) == ["10.1.0.1:80"]
    names = [name for name, *_ in asked]
    assert names[:2] == ["touch", "set"]
    assert {*names[2:]} == {"touch"}
    assert 12 <= len(names[2:]) <= 18


@pytest.mark.parametrize("is_watched", [True, False])
def test_whoever_dies_is_forgotten_after_its_lease(world: Cluster, is_watched: bool) -> None:
    one, other, _, client = world.ring(4, 5)
    served(world, one, "10.1.0.1:80")
    served(world, other, "10.1.0.2:80")
    servers = watched(world, client) if is_watched else Servers(client, "web")
    world.kill(one)
    world.run(3 * TTL_SECONDS)
    assert found(world, servers) == ["10.1.0.2:80"]


def test_a_lease_that_ended_is_begun_again(world: Cluster) -> None:
    one, other, third, client = world.ring(4, 5)
    served(world, one, "10.1.0.1:80")
    servers = watched(world, client)
    world.split([one], [other, third, client])
    world.run(4 * TTL_SECONDS)
    assert found(world, servers) == []
    world.heal()
    world.run(60)
    assert found(world, servers) == ["10.1.0.1:80"]


def test_two_of_one_name_and_address_do_not_undo_each_other(world: Cluster) -> None:
    """As when a server is started again before the one before has said goodbye."""
    one, other, client = world.ring(3, 5)
    before, after = served(world, one, "10.1.0.1:80"), served(world, other, "10.1.0.1:80")
    assert world.result(namespace_of(client, "web").count()) == 2
    servers = watched(world, client)
    world.result(before.stopService())
    world.run(1)
    assert found(world, servers) == ["10.1.0.1:80"]
    world.result(after.stopService())
    assert world.result(namespace_of(client, "web").copy()) == {}


def test_who_is_cut_off_goes_on_with_what_it_knew(world: Cluster) -> None:
    one, other, third, client = world.ring(4, 5)
    served(world, one, "10.1.0.1:80")
    servers = watched(world, client)
    world.split([one, other, third], [client])
    world.run(4 * TTL_SECONDS)
    assert found(world, servers) == ["10.1.0.1:80"]
    served(world, other, "10.1.0.2:80")
    world.heal()
    world.run(60)
    assert found(world, servers) == ["10.1.0.1:80", "10.1.0.2:80"]


def test_a_watch_ends_and_begins_again(world: Cluster) -> None:
    one, client = world.ring(2, 5)
    served(world, one, "10.1.0.1:80")
    servers = watched(world, client)
    assert client._client._watching
    servers.stop()
    world.run(1)
    assert not servers.is_watched
    assert not client._client._watching
    assert found(world, servers) == ["10.1.0.1:80"]
    world.run(1)
    assert servers.is_watched
    world.result(client.stopService())
    assert not servers.is_watched
    with pytest.raises(Stopped):
        world.result(servers.addresses())
    client.startService()
    assert found(world, servers) == ["10.1.0.1:80"]
    world.run(1)
    assert servers.is_watched


def test_what_makes_no_sense_in_the_ring_is_left_out(world: Cluster) -> None:
    one, client = world.ring(2, 5)
    served(world, one, "[::1]:80")
    names = namespace_of(one, "web")
    world.result(names.update({"a": 5, "b": "no port", "c": None, "d": {}, "e": "host:0"}))
    servers = Servers(client, "web")
    assert found(world, servers) == ["[::1]:80"]
    world.run(1)
    world.result(names.set("f", [1]))
    world.run(1)
    assert servers.is_watched
    assert found(world, servers) == ["[::1]:80"]


def test_names_and_addresses_that_make_no_sense() -> None:
    node = ChordService(Clock(), listen=None)
    for name in ("", "a/b"):
        with pytest.raises(ValueError, match="slash"):
            ServiceEndpoint(Clock(), node, name)
        with pytest.raises(ValueError, match="slash"):
            Advertisement(node, name, "host:80")
    with pytest.raises(ValueError, match="host"):
        Advertisement(node, "web", "host")
    with pytest.raises(NotJoined):
        Cluster(ChordService).result(Servers(node, "web").addresses())


def test_a_name_has_one_endpoint(world: Cluster) -> None:
    reactor: Any = world.start().reactor
    reactor.addSystemEventTrigger = lambda *_: None
    parser = Parser()
    web = parser.parseStreamClient(reactor, "web")
    assert parser.parseStreamClient(reactor, "web", peer="127.0.0.1:44565") is web
    assert parser.parseStreamClient(reactor, "other") is not web
    assert parser.parseStreamClient(reactor, "web", subnet="other") is not web
