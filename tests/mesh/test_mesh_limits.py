"""Peers that send too much, or read too little, cost themselves and nobody else."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.testing import StringTransport

from chordtx.config import MeshSettings
from chordtx.mesh.outbox import Outbox
from chordtx.wire import flags
from chordtx.wire.frame import frame
from tests.mesh.peers import Mesh


@pytest_twisted.ensureDeferred
async def test_flood_is_slowed_down_and_others_are_served(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(messages_per_second_max=50))
    flooding, honest = await mesh.peer(node), await mesh.peer(node)
    link = node.routing_table[flooding.id]
    flooding.write(b"".join(frame(flooding.build(flags.WHISPER, n).data) for n in range(70)))
    await mesh.until(lambda: link._inflow.is_paused, "the brake")
    assert len(node._inbox._kept) <= 50
    await mesh.served(node, honest)
    await mesh.until(lambda: len(node._inbox._kept) == 70, "everything, in time")
    received = node.recv(200)
    assert isinstance(received, list)
    assert [message.packets[1] for message in received] == list(range(70))
    assert not flooding.lost
    assert mesh.logged("floods us")


@pytest_twisted.ensureDeferred
async def test_end_of_a_flood_is_noticed(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(messages_per_second_max=10))
    closing, closed = await mesh.peer(node), await mesh.peer(node)
    for peer in (closing, closed):
        peer.write(b"".join(frame(peer.build(flags.WHISPER, n).data) for n in range(15)))
    await mesh.until(lambda: len(mesh.logged("floods us")) == 2, "the brakes")
    closing.end()
    node.disconnect(closed.id)
    await mesh.until(lambda: not node._links, "the end of both")


@pytest_twisted.ensureDeferred
async def test_stop_while_a_flood_is_slowed_down(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(messages_per_second_max=10))
    peer = await mesh.peer(node)
    peer.write(b"".join(frame(peer.build(flags.WHISPER, n).data) for n in range(15)))
    await mesh.until(lambda: mesh.logged("floods us"), "the brake")
    await node.stopService()


@pytest_twisted.ensureDeferred
async def test_peer_that_does_not_read_is_cut_alone(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(send_buffer_bytes_max=1 << 20))
    deaf, honest = await mesh.peer(node), await mesh.peer(node)
    transport: Any = deaf.transport
    transport.pauseProducing()
    link = node.routing_table[deaf.id]
    sent = 0
    while deaf.id in node.routing_table:
        assert link._outbox.waiting_bytes <= 1 << 20
        node.send(bytes(1 << 18))
        sent += 1
        await mesh.until(lambda sent=sent: len(honest.heard(0)) == sent, "it")
        assert sent < 1000
    assert mesh.logged("does not read")
    await mesh.served(node, honest)
    transport.resumeProducing()
    await mesh.until(lambda: deaf.lost, "the end")


@pytest_twisted.ensureDeferred
async def test_peer_that_asks_much_and_does_not_read_is_cut(mesh: Mesh) -> None:
    settings = MeshSettings(send_buffer_bytes_max=1 << 20, messages_per_second_max=100_000)
    node = await mesh.node(settings=settings)
    node.methods["blob"] = lambda caller: [bytes(1 << 16)]
    peer = await mesh.peer(node, "ours")
    transport: Any = peer.transport
    transport.pauseProducing()
    for number in range(1000):
        peer.say(flags.CALL, [[number, "blob"]])
    await mesh.until(lambda: not node.routing_table, "the end")
    transport.resumeProducing()


@pytest_twisted.ensureDeferred
async def test_peer_that_reads_slowly_gets_everything(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(send_buffer_bytes_max=4 << 20))
    peer = await mesh.peer(node)
    transport: Any = peer.transport
    for number in range(64):  # 16 MiB in all: four times what may wait
        if number % 8 == 0:
            transport.pauseProducing()
        node.send(number, bytes(1 << 18))
        if number % 8 == 7:
            transport.resumeProducing()
            await mesh.until(lambda number=number: len(peer.heard(0)) == number + 1, "it")
    assert [payload[1] for payload in peer.heard(0)] == list(range(64))


class Full(StringTransport):
    """A transport whose buffer is full after a few bytes."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


def test_outbox_counts_what_waits_and_keeps_the_order() -> None:
    overflowed: list[int] = []
    sent_on: list[int] = []
    outbox = Outbox(10, lambda: overflowed.append(1), lambda: sent_on.append(1))
    transport = Full()
    outbox.attach(transport)
    for data in (b"aaa", b"bbb", b"ccc"):
        outbox.write(data)
    assert (transport.value(), outbox.waiting_bytes) == (b"aaa", 6)
    outbox.resumeProducing()
    assert (transport.value(), outbox.waiting_bytes) == (b"aaabbb", 3)
    outbox.write(b"ddd")
    outbox.finish()
    assert (transport.value(), outbox.waiting_bytes) == (b"aaabbbcccddd", 0)
    assert (overflowed, sent_on) == ([], [1])


def test_outbox_that_overflows_forgets_everything() -> None:
    overflowed: list[int] = []
    outbox = Outbox(10, lambda: overflowed.append(1), lambda: None)
    outbox.attach(Full())
    for _ in range(5):
        outbox.write(b"xxx")
    assert overflowed == [1]
    assert outbox.waiting_bytes == 0
