"""Peers that send too much, ask too much or read too little cost themselves and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.base import DelayedCall
from twisted.internet.testing import StringTransport

from chordtx.config import Limits, MeshSettings
from chordtx.mesh import MeshConnection, MeshService
from chordtx.mesh.pool import Pool
from chordtx.mesh.send_buffer import SendBuffer
from chordtx.wire import compress, flags
from chordtx.wire.frame import frame
from tests.mesh.fuzz import Stranger
from tests.mesh.peers import ManualPeer, Mesh

MIB = 1 << 20
#: What a message as :func:`flood` sends costs: a quota of so many bytes lets about 50 through at once.
FIFTY_BYTES = 50 * 600


def flood(peer: ManualPeer, count: int) -> None:
    peer.write(b"".join(frame(peer.build(flags.WHISPER, n).data) for n in range(count)))


@pytest_twisted.ensureDeferred
async def test_flood_is_slowed_down_and_others_are_served(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(decoded_bytes_per_second_max=FIFTY_BYTES))
    flooding, honest = await mesh.peer(node), await mesh.peer(node)
    link = node.routing_table[flooding.id]
    flood(flooding, 100)
    await mesh.until(lambda: link._receive_buffer.is_waiting, "the brake")
    assert len(node._inbox._kept) < 100
    await mesh.served(node, honest)
    await mesh.until(lambda: len(node._inbox._kept) == 100, "everything, in time")
    received = node.recv(200)
    assert isinstance(received, list)
    assert [message.packets[1] for message in received] == list(range(100))
    assert not flooding.lost
    assert mesh.logged("floods us")


@pytest_twisted.ensureDeferred
async def test_member_of_the_ring_has_no_quota(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(decoded_bytes_per_second_max=FIFTY_BYTES))
    peer = await mesh.peer(node, "ours")
    node.routing_table[peer.id].leeching = False
    flood(peer, 200)
    await mesh.until(lambda: len(node._inbox._kept) == 200, "everything")
    assert not mesh.logged("floods us")


@pytest_twisted.ensureDeferred
async def test_end_of_a_flood_is_noticed(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(decoded_bytes_per_second_max=1000))
    closing, closed = await mesh.peer(node), await mesh.peer(node)
    for peer in (closing, closed):
        flood(peer, 15)
    await mesh.until(lambda: len(mesh.logged("floods us")) == 2, "the brakes")
    closing.end()
    node.disconnect(closed.id)
    await mesh.until(lambda: not node._links, "the end of both")


@pytest_twisted.ensureDeferred
async def test_stop_while_a_flood_is_slowed_down(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(decoded_bytes_per_second_max=1000))
    peer = await mesh.peer(node)
    flood(peer, 15)
    await mesh.until(lambda: mesh.logged("floods us"), "the brake")
    await node.stopService()


# Turns


class Turning:
    """A service whose turns pass as the test says, with a method that takes a given time.

    :ivar done: who asked for what was done.
    """

    def __init__(self, node: MeshService) -> None:
        self.now = 0.0
        self.done: list[str] = []
        self._next: list[Callable[[], None]] = []
        node._methods["work"] = self._work
        turns: Any = node._bounds.turns
        turns.stop()  # what the handshakes took, by the real clock, is no matter
        turns._spent_seconds = 0.0
        turns._reactor = self

    def seconds(self) -> float:
        return self.now

    def callLater(self, delay: float, call: Callable[[], None]) -> DelayedCall:
        self._next.append(call)
        return DelayedCall(0, call, (), {}, lambda _: self._next.remove(call), lambda _: None)

    def _work(self, caller: MeshConnection, seconds: float) -> list[Any]:
        self.now += seconds
        assert caller.id is not None
        self.done.append(caller.id)
        return []

    def turn(self) -> list[str]:
        """One more turn. :returns: for whom work was done in it."""
        before = len(self.done)
        calls, self._next = self._next, []
        for call in calls:
            call()
        return self.done[before:]

    def rest(self) -> None:
        """All turns until nothing is left to do."""
        while self._next:
            self.turn()


async def strangers(mesh: Mesh, count: int = 2, **options: Any) -> tuple[Turning, list[Stranger]]:
    """Links to a service that may work for 10 ms a turn."""
    node = await mesh.node(settings=MeshSettings(turn_seconds_max=0.01, **options))
    found = [Stranger(node, "ours", Random(number)) for number in range(count)]
    for stranger in found:
        stranger.greet()
    return Turning(node), found


def calls(count: int, seconds: float = 0.004) -> list[list[Any]]:
    return [[number, "work", seconds] for number in range(1, count + 1)]


@pytest_twisted.ensureDeferred
async def test_no_peer_takes_a_turn_for_itself(mesh: Mesh) -> None:
    turning, (greedy, modest) = await strangers(mesh)
    greedy.say(flags.CALL, calls(300))
    assert turning.done == [greedy.id] * 3
    modest.say(flags.CALL, calls(1))
    assert turning.turn() == [greedy.id, modest.id, greedy.id]
    turning.rest()
    assert turning.done.count(greedy.id) == 300
    for stranger in (greedy, modest):
        stranger.end()


@pytest_twisted.ensureDeferred
async def test_turns_are_fair_between_links_and_frames(mesh: Mesh) -> None:
    turning, (one, other, third) = await strangers(mesh, 3)
    one.say(flags.CALL, calls(50))
    other.write(b"".join(other.data(flags.CALL, [call]) for call in calls(50)))
    turning.done.clear()
    third.say(flags.CALL, calls(50))
    turning.rest()
    shares = [
        turning.done[place : place + 30].count(each.id) for each in (one, other, third) for place in (0, 60)
    ]
    assert all(abs(share - 10) <= 1 for share in shares)
    assert len(turning.done) == 150 - 3
    for stranger in (one, other, third):
        stranger.end()


@pytest_twisted.ensureDeferred
async def test_new_turn_has_its_own_time(mesh: Mesh) -> None:
    turning, (one, other) = await strangers(mesh)
    one.say(flags.CALL, calls(2, 0.005))
    other.say(flags.CALL, calls(1))
    assert turning.done == [one.id, one.id]
    assert turning.turn() == [other.id]
    turning.turn()
    other.say(flags.CALL, calls(1))
    assert turning.done == [one.id, one.id, other.id, other.id]
    for stranger in (one, other):
        stranger.end()


@pytest_twisted.ensureDeferred
async def test_what_a_closed_link_asked_is_not_computed(mesh: Mesh) -> None:
    turning, (ended, refused) = await strangers(mesh)
    for stranger in (ended, refused):
        stranger.say(flags.CALL, calls(2000))
    ended.end()
    refused.link.close()
    turning.rest()
    assert turning.done == [ended.id] * 3
    refused.end()


@pytest_twisted.ensureDeferred
async def test_calls_that_wait_are_bounded(mesh: Mesh) -> None:
    turning, (greedy, other) = await strangers(mesh, calls_pending_max=10)
    greedy.say(flags.CALL, calls(50))
    turning.rest()
    assert len(turning.done) == 10
    greedy.link.calls.flush()
    replies = [
        reply
        for message in greedy.heard()
        if message.payload[0] == flags.REPLY
        for reply in message.payload[2]
    ]
    assert sorted(reply[0] for reply in replies) == list(range(1, 51))
    assert sum(reply[1] == 0 for reply in replies) == 10
    assert not greedy.gone
    greedy.end()
    other.end()


@pytest_twisted.ensureDeferred
async def test_what_comes_while_a_link_waits_is_read_ahead_a_little(mesh: Mesh) -> None:
    turning, (greedy, other) = await strangers(mesh)
    greedy.say(flags.CALL, calls(50))
    while greedy.transport.producerState != "paused":
        greedy.say(flags.WHISPER, bytes(30_000))
    assert 100_000 < greedy.link._codec.pending_bytes < 200_000
    turning.rest()
    assert greedy.transport.producerState == "producing"
    assert not greedy.link._codec.pending_bytes
    greedy.end()
    other.end()


# Reading slowly, or not at all


@pytest_twisted.ensureDeferred
async def test_peer_that_does_not_read_is_cut_alone(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(send_buffer_bytes_max=MIB))
    deaf, honest = await mesh.peer(node), await mesh.peer(node)
    transport: Any = deaf.transport
    transport.pauseProducing()
    link = node.routing_table[deaf.id]
    sent = 0
    while deaf.id in node.routing_table:
        assert link._send_buffer.waiting_bytes <= MIB
        node.send(bytes(1 << 18))
        sent += 1
        await mesh.until(lambda sent=sent: len(honest.heard(0)) == sent, "it")
        assert sent < 1000
    assert mesh.logged("does not read")
    await mesh.served(node, honest)
    transport.resumeProducing()
    await mesh.until(lambda: deaf.lost, "the end")


@pytest_twisted.ensureDeferred
async def test_peer_that_asks_much_and_does_not_read_is_served_no_more(mesh: Mesh) -> None:
    node = await mesh.node()
    served: list[int] = []
    node._methods["blob"] = lambda caller: [served.append(1), bytes(1 << 18)]
    peer, honest = await mesh.peer(node, "ours"), await mesh.peer(node)
    transport: Any = peer.transport
    transport.pauseProducing()
    for number in range(1000):
        peer.say(flags.CALL, [[number, "blob"]])
    link = node.routing_table[peer.id]
    await mesh.until(lambda: len(link.calls.unserved) > 800, "it to fall behind")
    assert link._send_buffer.waiting_bytes < 2 * MIB
    assert len(served) < 200
    await mesh.served(node, honest)
    transport.resumeProducing()
    await mesh.until(lambda: len(peer.heard(flags.REPLY)) and len(served) == 1000, "the rest")


@pytest_twisted.ensureDeferred
async def test_all_together_leave_no_more_unread_than_they_may(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(unsent_bytes_max=4 * MIB))
    node._methods["blob"] = lambda caller: [bytes(MIB) + caller.id.encode()]
    deaf = [await mesh.peer(node, "ours") for _ in range(12)]
    honest = await mesh.peer(node)
    for peer in deaf:
        transport: Any = peer.transport
        transport.pauseProducing()
        # The kernel takes some of it, so each asks until something waits.
        for number in range(40):
            peer.say(flags.CALL, [[number, "blob"]])
    await mesh.until(lambda: len(node.routing_table) < 8, "the end of some")
    assert node._bounds.unsent.held_bytes <= 4 * MIB
    await mesh.served(node, honest)


@pytest_twisted.ensureDeferred
async def test_peer_that_reads_slowly_gets_everything(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(send_buffer_bytes_max=4 * MIB))
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


class Link:
    """A link as a part of it sees it."""

    is_member = False

    def __init__(self) -> None:
        self.happened: list[str] = []

    def overflowed(self) -> None:
        self.happened.append("overflowed")

    def sent_on(self) -> None:
        self.happened.append("sent on")


class Full(StringTransport):
    """A transport whose buffer is full after a few bytes."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


def buffer_of(bytes_max: int, pool: Pool | None = None) -> tuple[SendBuffer, Link, Full]:
    link, transport = Link(), Full()
    buffer = SendBuffer(bytes_max, pool or Pool(1000 * MIB), lambda: 0.0, link)
    buffer.attach(transport)
    return buffer, link, transport


def test_outbox_counts_what_waits_and_keeps_the_order() -> None:
    pool = Pool(100)
    buffer, link, transport = buffer_of(10, pool)
    for data in (b"aaa", b"bbb", b"ccc"):
        buffer.write(data)
    assert (transport.value(), buffer.waiting_bytes, pool.held_bytes) == (b"aaa", 6, 6)
    buffer.resumeProducing()
    assert (transport.value(), buffer.waiting_bytes, pool.held_bytes) == (b"aaabbb", 3, 3)
    buffer.write(b"ddd")
    buffer.finish(lambda: link.happened.append("finished"))
    buffer.resumeProducing()
    buffer.resumeProducing()
    assert (transport.value(), buffer.waiting_bytes, pool.held_bytes) == (b"aaabbbcccddd", 0, 0)
    assert link.happened == ["sent on"] * 3 + ["finished"]
    assert transport.producer is None


def test_outbox_gives_the_transport_a_little_at_a_time() -> None:
    buffer, _, transport = buffer_of(4 * MIB)
    data = bytes(range(256)) * 4000
    buffer.write(data)
    assert 0 < len(transport.value()) <= 1 << 17
    while buffer.waiting_bytes:
        buffer.resumeProducing()
    assert transport.value() == data


@pytest.mark.parametrize("pool_bytes", [1000, 10])
def test_outbox_that_overflows_forgets_everything(pool_bytes: int) -> None:
    pool = Pool(pool_bytes)
    buffer, link, _ = buffer_of(10 if pool_bytes > 10 else 1000, pool)
    for _ in range(5):
        buffer.write(b"xxx")
    assert link.happened == ["overflowed"]
    assert (buffer.waiting_bytes, pool.held_bytes) == (0, 0)


# Frames


@pytest_twisted.ensureDeferred
async def test_first_frame_that_is_long_or_compressed_ends_the_link(mesh: Mesh) -> None:
    node = await mesh.node()
    long = (Limits().greeting_bytes_max + 1).to_bytes(4, "big")
    for begin in (long, frame(compress(ManualPeer().build(flags.HELLO, 1).data, flags.ZLIB))):
        peer = await mesh.peer(node, "silent")
        peer.write(begin)
        await mesh.until(lambda peer=peer: peer.lost, "the end")
    assert not node.routing_table


@pytest_twisted.ensureDeferred
async def test_peer_whose_message_expands_too_much_is_asked_to_send_plain(mesh: Mesh) -> None:
    node = await mesh.node()
    peer = await mesh.peer(node)
    message = peer.build(flags.WHISPER, bytes(2 * MIB))
    peer.write(frame(compress(message.data, flags.ZLIB)))
    await mesh.until(lambda: peer.heard(flags.RESEND), "a request")
    assert peer.heard(flags.COMPRESSION) == [(flags.COMPRESSION, [])]
    peer.write(frame(message.data))
    await mesh.until(lambda: node._inbox._kept, "the message")
    assert not peer.lost


@pytest_twisted.ensureDeferred
async def test_all_together_begin_no_more_than_they_may(mesh: Mesh) -> None:
    node = await mesh.node(settings=MeshSettings(unfinished_bytes_max=MIB))
    honest = await mesh.peer(node)
    begun = [await mesh.peer(node, kind) for kind in ("bin", "ours") * 4]
    for peer in begun:
        peer.write((8 * MIB).to_bytes(4, "big") + bytes(1 << 18))
        await mesh.until(lambda peer=peer: node._bounds.unfinished._holders or peer.lost, "it")
    await mesh.until(lambda: begun[0].lost and not begun[-1].lost, "the end of the first")
    assert node._bounds.unfinished.held_bytes <= MIB
    await mesh.served(node, honest)
    for peer in begun:
        peer.end()
    await mesh.until(lambda: not node._bounds.unfinished.held_bytes, "nothing left")
