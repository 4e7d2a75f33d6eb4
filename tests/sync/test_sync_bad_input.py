"""What strangers send to a synchronized dict: the offender alone is refused, and nothing of it is kept."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from chordtx import SyncService, SyncSettings
from chordtx.wire import Message, flags
from chordtx.wire.frame import frame
from tests.mesh.peers import LISTEN, ManualPeer, Mesh

KEY_BYTES_MAX, VALUE_BYTES_MAX = 50, 1000
SETTINGS = SyncSettings(key_bytes_max=KEY_BYTES_MAX, value_bytes_max=VALUE_BYTES_MAX, store_records_max=20)
BAD_PAYLOADS: list[tuple[Any, ...]] = [
    (flags.STORE,),
    (flags.STORE, b"key"),
    (flags.STORE, 5, 1),
    (flags.STORE, None, 1),
    (flags.STORE, b"k" * 51, 1),
    (flags.STORE, b"key", b"x" * 1001),
    (flags.STORE, b"key", 1, "note"),
    (flags.STORE, b"key", 1, []),
    (flags.STORE, b"key", 1, [1, None, 1]),
    (flags.STORE, b"key", 1, ["1", None, 0, 0]),
    (flags.STORE, b"key", 1, [-1, None, 0, 0]),
    (flags.STORE, b"key", 1, [1 << 62, None, 0, 0]),
    (flags.STORE, b"key", 1, [1, "never", 0, 0]),
    (flags.STORE, b"key", 1, [1, None, -1, 0]),
    (flags.STORE, b"key", 1, [1, None, 1, 1 << 50]),
    (flags.STORE, b"key", 1, b"owner", "now"),
    (flags.STORE, b"key", 1, b"owner", -1),
    (flags.STORE, b"key", 1, 5, 5),
    (flags.STORE, b"key", 1, b"owner", 5, 6),
    (flags.DELTA,),
    (flags.DELTA, b"key"),
    (flags.DELTA, b"key", [1]),
    (flags.DELTA, 5, {}),
    (flags.DELTA, b"key", {"a": 1}, [1]),
]


async def served(mesh: Mesh, node: SyncService, peer: ManualPeer) -> None:
    """Check that an honest legacy peer's change still counts."""
    peer.say(flags.STORE, b"honest", peer.id, type=flags.BROADCAST)
    await mesh.until(lambda: node.data.get(b"honest") == peer.id, "a change")


async def started(mesh: Mesh) -> SyncService:
    node = SyncService(mesh.reactor, listen=LISTEN, leasing=False, settings=SETTINGS)
    mesh.nodes.append(node)
    node.startService()
    await node.when_listening()
    return node


@pytest.mark.parametrize("kind", ["bin", "str", "ours"])
@pytest_twisted.ensureDeferred
async def test_changes_that_make_no_sense(mesh: Mesh, kind: str) -> None:
    node = await started(mesh)
    honest = await mesh.peer(node, "bin", subnet="sync0")
    for payload in BAD_PAYLOADS:
        offender = await mesh.peer(node, kind, subnet="sync0")
        offender.say(*payload, type=flags.BROADCAST)
        await mesh.until(lambda offender=offender: offender.lost, f"{payload} is refused")
        assert not honest.lost
    assert dict(node.data) == {}
    await served(mesh, node, honest)


@pytest_twisted.ensureDeferred
async def test_bad_change_does_not_cut_who_passes_it_on(mesh: Mesh) -> None:
    node = await started(mesh)
    peer = await mesh.peer(node, "bin", subnet="sync0")
    for payload in BAD_PAYLOADS:
        peer.write(from_another(peer.build(*payload, type=flags.BROADCAST)))
    await served(mesh, node, peer)
    assert not peer.lost
    assert dict(node.data) == {b"honest": peer.id}


def from_another(message: Message, sender: bytes | str = b"2another") -> bytes:
    return frame(Message.build(message.type, sender, message.time, message.payload).data)


@pytest_twisted.ensureDeferred
async def test_changes_of_nobody_and_of_no_time_do_not_count(mesh: Mesh) -> None:
    node = await started(mesh)
    peer = await mesh.peer(node, "bin", subnet="sync0")
    for sender in (b"x" * 67, b"no base58: 0OIl", b"\xff", b"", "é"):
        for payload in ((flags.STORE, b"key", 1), (flags.STORE, b"key", 1, [1 << 40, None, 0, 0])):
            peer.write(from_another(peer.build(*payload, type=flags.BROADCAST), sender))
        other = await mesh.peer(node, "bin", subnet="sync0")
        other.say(flags.STORE, b"key", 1, sender, 5)
        await mesh.until(lambda other=other: other.lost, "it is refused")
    for seconds in (-1, 1 << 60):
        other = await mesh.peer(node, "bin", subnet="sync0")
        other.write(frame(other.build(flags.STORE, b"key", 1, time=seconds).data))
        await mesh.until(lambda other=other: other.lost, "it is refused")
    await served(mesh, node, peer)
    assert dict(node.data) == {b"honest": peer.id}


@pytest.mark.parametrize("method", ["sync_tree", "sync_leaves", "sync_fetch", "sync_take"])
@pytest_twisted.ensureDeferred
async def test_calls_that_make_no_sense(mesh: Mesh, method: str) -> None:
    node = await started(mesh)
    peer = await mesh.peer(node, "ours", subnet="sync0")
    arguments: list[Any] = [
        None,
        5,
        "x",
        b"x",
        [b"x", 5],
        [[]],
        [[b"key"]],
        [[b"key", 5]],
        [[5, []]],
        [-1],
        [256],
    ]
    for number, argument in enumerate(arguments):
        peer.say(flags.CALL, [[number, method, argument]])
    peer.say(flags.CALL, [[len(arguments), method]])
    await mesh.until(lambda: len(replies(peer)) > len(arguments), "answers to all")
    bad = replies(peer)
    if method == "sync_fetch":  # what is asked for and is no key is not there
        bad = [reply for reply in bad if reply[1] != 0 or reply[2:]]
        assert len(bad) == 5
    assert all(reply[1] == 1 for reply in bad)
    assert not peer.lost
    assert len(node.data) == 0


def replies(peer: ManualPeer) -> list[Any]:
    return [reply for payload in peer.heard(flags.REPLY) for reply in payload[2] if reply[0] < 100]


@pytest_twisted.ensureDeferred
async def test_flood_of_keys_is_bounded(mesh: Mesh) -> None:
    node = await started(mesh)
    peer = await mesh.peer(node, "bin", subnet="sync0")
    for number in range(50):
        peer.say(flags.STORE, b"key %d" % number, number, type=flags.BROADCAST)
    await mesh.until(lambda: len(node.data) == 20, "as many as may be")
    assert mesh.logged("a change is not kept")
    peer.say(flags.STORE, b"key 0", None, type=flags.BROADCAST)
    await mesh.until(lambda: b"key 0" not in node.data, "a deletion")
