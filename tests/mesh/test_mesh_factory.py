"""The pair of factory and protocol, on whatever endpoint a user of Twisted puts it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.test.iosim import IOPump, connect, makeFakeClient, makeFakeServer

from chordtx import MeshConnection, MeshFactory, MeshService
from chordtx.config import MeshSettings
from chordtx.errors import Stopped, WrongSubnet
from chordtx.mesh import ReceivedMessage
from chordtx.wire import flags
from tests.mesh.peers import Mesh, outcomes

ADDRESS = UNIXAddress("elsewhere")


def joined(server: MeshService, client: MeshService) -> tuple[MeshConnection, MeshConnection, IOPump]:
    """Both ends of one link between two services, and what carries bytes between them."""
    accepted = MeshFactory(server).buildProtocol(ADDRESS)
    connected = MeshFactory(client, outgoing=True).buildProtocol(ADDRESS)
    assert accepted is not None
    assert connected is not None
    pump = connect(accepted, makeFakeServer(accepted), connected, makeFakeClient(connected), greet=False)
    return accepted, connected, pump


async def two(mesh: Mesh, **options: Any) -> tuple[MeshService, MeshService]:
    # A simulated transport knows no end of a turn: all that comes is handled at once.
    settings = MeshSettings(turn_seconds_max=1e6)
    server = await mesh.node(listen=None, settings=settings)
    return server, await mesh.node(listen=None, settings=settings, **options)


@pytest_twisted.ensureDeferred
async def test_link_over_simulated_transports(mesh: Mesh) -> None:
    server, client = await two(mesh)
    accepted, connected, pump = joined(server, client)
    opened = outcomes(connected.when_open()) + outcomes(accepted.when_open())
    assert opened == []
    waiting = connected.when_open()
    pump.flush()
    assert await waiting is connected
    assert await accepted.when_open() is accepted
    assert (server.routing_table, client.routing_table) == ({client.id: accepted}, {server.id: connected})
    answer = connected.call("ping", timeout_seconds=5.0)
    connected.calls.flush()
    pump.flush()
    accepted.calls.flush()
    pump.flush()
    assert await answer == []
    client.send("hello")
    pump.flush()
    received = server.recv()
    assert isinstance(received, ReceivedMessage)
    assert received.packets == (flags.BROADCAST, "hello")
    client.disconnect(server.id)
    pump.flush()
    assert server.routing_table == client.routing_table == {}


@pytest_twisted.ensureDeferred
async def test_link_that_is_refused_tells_who_waits(mesh: Mesh) -> None:
    server, client = await two(mesh, subnet="another")
    _, connected, pump = joined(server, client)
    waiting = connected.when_open()
    pump.flush()
    with pytest.raises(WrongSubnet):
        await waiting
    with pytest.raises(WrongSubnet):
        await connected.when_open()


@pytest_twisted.ensureDeferred
async def test_link_that_ends_or_is_not_wanted_any_more_tells_who_waits(mesh: Mesh) -> None:
    server, client = await two(mesh)
    _, connected, pump = joined(server, client)
    waiting = connected.when_open()
    other = outcomes(connected.when_open())
    waiting.addErrback(lambda _: None).cancel()
    pump.flush()
    assert [type(outcome) for outcome in other] == [Stopped]
    assert client.routing_table == {}


@pytest_twisted.ensureDeferred
async def test_pair_on_endpoints_of_another_kind(mesh: Mesh, tmp_path: Any) -> None:
    server, client = await two(mesh)
    path = str(tmp_path / "socket")
    mesh.ports.append(await UNIXServerEndpoint(mesh.reactor, path).listen(MeshFactory(server)))
    link = await UNIXClientEndpoint(mesh.reactor, path).connect(MeshFactory(client, outgoing=True))
    assert await link.when_open() is link
    assert await link.call("ping", timeout_seconds=20.0) == []
    assert list(server.routing_table) == [client.id]
