"""Places for accepted links: strangers crowd out neither members of the ring nor each other for long."""

from __future__ import annotations

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.address import IPv4Address

from chordtx.config import MeshSettings
from tests.mesh.peers import Mesh

BOUNDS = [MeshSettings(accepted_max=3), MeshSettings(connections_per_address_max=3)]


@pytest.mark.parametrize("settings", BOUNDS, ids=["in all", "by address"])
@pytest_twisted.ensureDeferred
async def test_who_has_not_greeted_makes_room_the_oldest_first(mesh: Mesh, settings: MeshSettings) -> None:
    node = await mesh.node(settings=settings)
    silent = [await mesh.peer(node, "silent") for _ in range(3)]
    greeted = [await mesh.peer(node) for _ in range(2)]
    await mesh.until(lambda: silent[0].lost and silent[1].lost, "room for two")
    assert not silent[2].lost
    assert {peer.id for peer in greeted} == set(node.routing_table)


@pytest.mark.parametrize("settings", BOUNDS, ids=["in all", "by address"])
@pytest_twisted.ensureDeferred
async def test_silent_connections_shut_nobody_out(mesh: Mesh, settings: MeshSettings) -> None:
    node = await mesh.node(settings=settings)
    for _ in range(30):
        await mesh.peer(node, "silent")
    other = await mesh.node()
    link = await other.connect(*node.out_addr)
    assert await link.call("ping", timeout_seconds=20.0) == []
    assert len(node._links) <= 6


@pytest.mark.parametrize("settings", BOUNDS, ids=["in all", "by address"])
@pytest_twisted.ensureDeferred
async def test_who_is_silent_makes_room_after_those(mesh: Mesh, settings: MeshSettings) -> None:
    node = await mesh.node(settings=settings)
    peers = [await mesh.peer(node) for _ in range(3)]
    storing = node.routing_table[peers[0].id]
    storing.leeching = False
    for peer in peers:
        link = node.routing_table[peer.id]
        link._liveness.heard_at -= 100 if peer is not peers[1] else 50
    newcomers = [await mesh.peer(node) for _ in range(2)]
    await mesh.until(lambda: peers[1].lost and peers[2].lost, "room for two")
    assert not peers[0].lost  # who stores keeps its place
    assert {peers[0].id, *(peer.id for peer in newcomers)} == set(node.routing_table)


@pytest.mark.parametrize("settings", BOUNDS, ids=["in all", "by address"])
@pytest_twisted.ensureDeferred
async def test_members_have_places_when_all_are_busy(mesh: Mesh, settings: MeshSettings) -> None:

    node = await mesh.node(settings=evolve(settings, connections_max=2))
    busy = [await mesh.peer(node) for _ in range(3)]
    members = []
    for _ in range(5):
        member = await mesh.peer(node, "ours")
        node.routing_table[member.id].leeching = False  # as it says right after it has greeted
        members.append(member)
    on_trial = [await mesh.peer(node, "ours") for _ in range(2)]
    turned_away = await mesh.peer(node, "silent")
    await mesh.until(lambda: turned_away.lost, "the end of the one too many")
    assert mesh.logged("turned away")
    assert not any(peer.lost for peer in (*busy, *members, *on_trial))
    # Once they have had the time to say that they are members, who is none makes room.
    node._factory._on_trial = dict.fromkeys(node._factory._on_trial, node.reactor.seconds() - 100)
    await mesh.peer(node, "silent")
    await mesh.until(lambda: any(peer.lost for peer in on_trial), "room")
    assert not any(peer.lost for peer in (*busy, *members))


@pytest_twisted.ensureDeferred
async def test_a_flood_of_connections_costs_few_lines(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(connections_max=1))
    node._factory._has_place = lambda host: False  # type: ignore[method-assign]
    address = IPv4Address("TCP", "127.0.0.1", 1)
    built = [node._factory.buildProtocol(address) for _ in range(100)]
    assert sum(link is not None for link in built) == 1
    assert len(mesh.logged("turned away")) < 20
