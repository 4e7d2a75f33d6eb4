"""Links that read well and ask for much wait for room, and are not cut for what they hold together."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from chordtx.config import MIB, MeshSettings
from chordtx.mesh import MeshService, link_load
from chordtx.mesh.pool import Pool
from chordtx.wire import flags
from tests.mesh.peers import ManualPeer, Mesh

ANSWER = b"x" * MIB
NARROW = MeshSettings(unsent_bytes_max=4 * MIB)


class Link:
    """Holds bytes, or waits for room for some."""

    def __init__(self, since: float = 0.0) -> None:
        self.precedence = (False, since)
        self.gave_way = False
        self.told = 0

    def give_way(self) -> None:
        self.gave_way = True

    def room_made(self) -> None:
        self.told += 1


def test_who_waits_is_told_in_turn_once_there_is_room() -> None:
    pool = Pool(600)
    holder, first, second = Link(), Link(), Link()
    pool.hold(holder, 150)
    assert pool.has_room(50)
    assert pool.has_room(0)
    assert not pool.has_room(51)
    pool.wait(first, 100)
    pool.wait(second, 20)
    pool.hold(holder, 120)
    assert (first.told, second.told) == (0, 0)
    pool.hold(holder, 100)
    assert (first.told, second.told) == (1, 0)
    pool.release(holder)
    assert (first.told, second.told) == (1, 1)
    assert pool.has_room(1000)
    pool.hold(holder, 1)
    pool.wait(first, 500)
    pool.forget(first)
    pool.release(holder)
    assert first.told == 1
    assert not holder.gave_way


def test_who_is_stuck_shows() -> None:
    pool = Pool(300)
    assert not pool.has_stuck(10.0)
    pool.hold(Link(since=5.0), 1)
    assert pool.has_stuck(5.0)
    assert not pool.has_stuck(4.9)


async def asking(mesh: Mesh, count: int) -> tuple[MeshService, list[ManualPeer]]:
    """A node, and peers that have had one large answer each."""
    node = await mesh.node(settings=NARROW)
    node._methods["large"] = lambda caller: [ANSWER]
    peers = [await mesh.peer(node, "ours") for _ in range(count)]
    for peer in peers:
        peer.say(flags.CALL, [[1, "large"]])
        await mesh.until(lambda peer=peer: answers(peer) == 1, "an answer")
    return node, peers


def answers(peer: ManualPeer) -> int:
    """How many large ones have come."""
    replies: list[list[Any]] = [reply for payload in peer.heard(flags.REPLY) for reply in payload[2]]
    return sum(reply[2:] == [ANSWER] for reply in replies)


@pytest_twisted.ensureDeferred
async def test_those_who_read_are_all_answered(mesh: Mesh) -> None:
    _, peers = await asking(mesh, 8)
    for peer in peers:
        peer.say(flags.CALL, [[number, "large"] for number in range(2, 12)])
    await mesh.until(lambda: all(answers(peer) == 11 or peer.lost for peer in peers), "all answers")
    assert not any(peer.lost for peer in peers)


@pytest_twisted.ensureDeferred
async def test_nobody_waits_long_for_those_who_do_not_read(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_load, "_ROOM_SECONDS", 0.1)
    monkeypatch.setattr(link_load, "_STUCK_SECONDS", 0.05)
    node, (reader, *idlers) = await asking(mesh, 4)
    for idler in idlers:
        transport: Any = idler.transport
        transport.pauseProducing()
        idler.say(flags.CALL, [[number, "large"] for number in range(2, 12)])
    await mesh.until(lambda: node._bounds.unsent.held_bytes > MIB, "answers that nobody reads")
    reader.say(flags.CALL, [[number, "large"] for number in range(2, 12)])
    await mesh.until(lambda: answers(reader) == 11 or reader.lost, "all answers")
    assert not reader.lost
