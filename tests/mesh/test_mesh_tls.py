"""Encryption ``SSL``: the same over TLS, and what happens when one side does not speak it."""

from __future__ import annotations

import socket
from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, SSLContext, SSLError, TLSVersion
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from chordtx.config import MeshSettings
from chordtx.errors import WrongSubnet
from chordtx.wire import flags
from tests.mesh.peers import LISTEN, Mesh


@pytest_twisted.ensureDeferred
async def test_nodes_link_over_tls_and_stop(mesh: Mesh) -> None:
    first = await mesh.node(encryption="SSL")
    second = await mesh.node(first, encryption="SSL")
    await mesh.linked(first, second)
    link = second.routing_table[first.id]
    assert await link.call("ping", timeout_seconds=20.0) == []
    second.send(bytes(1 << 20))
    await mesh.until(lambda: first._inbox._kept, "a large message")
    named = await second.connect("localhost", first.out_addr[1])
    assert named.id == first.id


@pytest_twisted.ensureDeferred
async def test_flood_over_tls_is_slowed_down(mesh: Mesh) -> None:
    first = await mesh.node(encryption="SSL", settings=MeshSettings(decoded_bytes_per_second_max=20_000))
    second = await mesh.node(encryption="SSL")
    await second.connect(*first.out_addr)
    for number in range(30):
        second.send(number)
    await mesh.until(lambda: len(first._inbox._kept) == 30, "everything, in time")
    await mesh.until(lambda: bool(mesh.logged("floods us")), "the first brake")  # what was missed comes last
    for number in range(30):
        second.send(number, "again")
    await mesh.until(lambda: len(mesh.logged("floods us")) > 2, "the brake")
    first.disconnect(second.id)
    await mesh.until(lambda: not second.routing_table, "the end")


@pytest_twisted.ensureDeferred
async def test_connections_are_limited_over_tls(mesh: Mesh) -> None:
    node = await mesh.node(encryption="SSL", settings=MeshSettings(accepted_max=1, connections_max=1))
    first, second = await mesh.node(encryption="SSL"), await mesh.node(encryption="SSL")
    await first.connect(*node.out_addr)
    node._factory._on_trial = {next(iter(node._links)): node.reactor.seconds()}  # the kept place is taken
    with pytest.raises(Exception):  # noqa: B017 - as TLS puts it
        await second.connect(*node.out_addr)
    assert mesh.logged("turned away")
    assert list(node.routing_table) == [first.id]


@pytest_twisted.ensureDeferred
async def test_tls_peer_is_refused_by_a_plain_node_and_told(mesh: Mesh) -> None:
    plain, encrypted = await mesh.node(), await mesh.node(encryption="SSL")
    with pytest.raises(WrongSubnet):
        await encrypted.connect(*plain.out_addr)
    await mesh.until(lambda: bool(mesh.logged("the peer speaks TLS")), "the reason")
    assert isinstance(encrypted._refused[0], WrongSubnet)


@pytest_twisted.ensureDeferred
async def test_plain_peer_is_refused_by_a_tls_node(mesh: Mesh) -> None:
    settings = MeshSettings(handshake_timeout_seconds=0.3)
    plain, encrypted = (
        await mesh.node(settings=settings),
        await mesh.node(encryption="SSL", settings=settings),
    )
    with pytest.raises(Exception, match="encryption"):
        await plain.connect(*encrypted.out_addr)
    old = await mesh.peer(encrypted, "silent")
    old.greet()
    await mesh.until(lambda: old.lost, "the end")
    assert not encrypted.routing_table
    await mesh.until(lambda: not encrypted._links, "nobody")


@pytest_twisted.ensureDeferred
async def test_bytes_of_no_tls_end_that_connection_alone(mesh: Mesh) -> None:
    node = await mesh.node(encryption="SSL")
    for data in (b"GET / HTTP/1.0\r\n\r\n", bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(100_000)):
        peer: Any = await mesh.peer(node, "silent")
        peer.dataReceived = lambda data: None
        peer.write(data)
        peer.end()
    other = await mesh.node(encryption="SSL", listen=LISTEN)
    link = await other.connect(*node.out_addr)
    link.send(flags.REQUEST, b"*")
    assert await link.call("ping", timeout_seconds=20.0) == []


@pytest.mark.parametrize(
    ("version", "ciphers", "is_accepted"),
    [
        (TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
        (TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", True),
        (TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA", False),
        (TLSVersion.TLSv1_3, None, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_suites_that_do_not_authenticate_are_refused(
    mesh: Mesh, version: TLSVersion, ciphers: str | None, is_accepted: bool
) -> None:
    node = await mesh.node(encryption="SSL")
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = CERT_NONE
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")

    def shake_hands() -> bool:
        with socket.create_connection(node.out_addr, timeout=20) as raw:
            try:
                context.wrap_socket(raw).close()
            except SSLError:
                return False
            return True

    assert await deferToThread(shake_hands) is is_accepted
