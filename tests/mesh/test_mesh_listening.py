"""The port of a node: opened early, late, or too late."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from zope.interface import implementer

from chordtx.mesh import MeshService
from tests.mesh.peers import Mesh

HERE = "tcp:0:interface=127.0.0.1"


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest_twisted.ensureDeferred
async def test_a_port_that_was_opened_early_is_used(mesh: Mesh) -> None:
    node = MeshService(mesh.reactor, listen=HERE)
    node.privilegedStartService()
    host, port = node.out_addr
    assert is_open(port)
    node.startService()
    await node.when_listening()
    assert node.out_addr == (host, port)
    await node.stopService()
    assert not is_open(port)


@pytest_twisted.ensureDeferred
async def test_a_parent_that_starts_has_the_port_opened_first(mesh: Mesh) -> None:
    parent, node = MultiService(), MeshService(mesh.reactor, listen=HERE)
    node.setServiceParent(parent)
    parent.privilegedStartService()
    assert is_open(node.out_addr[1])
    parent.startService()
    await node.when_listening()
    await parent.stopService()
    node.startService()  # and once more by itself
    await node.when_listening()
    await node.stopService()


@pytest_twisted.ensureDeferred
async def test_a_port_that_was_opened_early_is_closed_when_nothing_starts(mesh: Mesh) -> None:
    parent, node = MultiService(), MeshService(mesh.reactor, listen=HERE)
    node.setServiceParent(parent)
    parent.privilegedStartService()
    port = node.out_addr[1]
    assert is_open(port)
    await parent.stopService()
    assert not is_open(port)
    parent.startService()
    await node.when_listening()
    assert is_open(node.out_addr[1])
    await parent.stopService()


@pytest_twisted.ensureDeferred
async def test_a_port_that_is_taken_early_is_told_when_the_service_starts(mesh: Mesh) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = MeshService(mesh.reactor, listen=f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1")
        node.privilegedStartService()
        node.startService()
        with pytest.raises(CannotListenError):
            await node.when_listening()
        await node.stopService()
    node.startService()  # it is free by now
    await node.when_listening()
    await node.stopService()


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """Takes its time."""

    def __init__(self) -> None:
        self.opening: Deferred[Any] = Deferred(lambda _: None)
        self.is_closed = False

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        return self.opening

    def stopListening(self) -> None:
        self.is_closed = True

    def getHost(self) -> Any:
        return None


@pytest.mark.parametrize(("early", "starts"), [(True, True), (True, False), (False, True)])
@pytest_twisted.ensureDeferred
async def test_a_port_that_opens_when_it_is_not_wanted_any_more_is_closed(
    mesh: Mesh, early: bool, starts: bool
) -> None:
    endpoint = SlowEndpoint()
    node = MeshService(mesh.reactor, listen=endpoint)
    if early:
        node.privilegedStartService()
    if starts:
        node.startService()
    await node.stopService()
    endpoint.opening.callback(endpoint)
    assert endpoint.is_closed
