"""How much a node stores, and what takes no room any more."""

from __future__ import annotations

import pytest
import pytest_twisted

from chordtx import ChordService, StorageFull
from chordtx.config import ChordSettings
from tests.chord.nodes import Nodes, everything

SMALL = ChordSettings(store_bytes_max=20_000)


def is_full(node: ChordService) -> bool:
    """Whether its groups know that it is to hold no more."""
    return node._hosting is not None and node._hosting.groups.turn.is_full


async def until_it_fits(node: ChordService, key: bytes, value: bytes) -> None:
    """Try again for some seconds: a leader remembers for a while which members were full."""
    for _ in range(100):
        try:
            return await node.set(key, value)
        except StorageFull:
            await node.sleep(0.1)
    raise AssertionError("nothing fits any more")


@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_is_refused_and_the_rest_goes_on(nodes: Nodes) -> None:
    await nodes.ring(3, SMALL)
    node = nodes.members[0]
    await node.set(b"first", b"x" * 10_000)
    await node.set(b"second", b"x" * 10_000)  # past the bound: it is looked at before a write
    await nodes.until(lambda: all(is_full(each) for each in nodes.members), "all have it")
    with pytest.raises(StorageFull, match="store_bytes_max"):
        await node.set(b"third", b"y" * 10_000)
    assert await node.get(b"third") is None
    assert await node.get(b"first") == b"x" * 10_000
    await node.delete(b"first")
    await nodes.until(lambda: not any(is_full(each) for each in nodes.members), "all have heard of it")
    await until_it_fits(node, b"third", b"y" * 10_000)
    with pytest.raises(StorageFull):
        await node.set(b"fourth", b"y")
    await node.delete(b"second")
    assert await nodes.members[1].get(b"second") is None


@pytest_twisted.ensureDeferred
async def test_what_is_copied_to_a_newcomer_always_fits(nodes: Nodes) -> None:
    first = await nodes.first()
    keys = [b"key %d" % number for number in range(40)]
    await everything([first.set(key, b"z" * 1000) for key in keys])
    await nodes.join(first, settings=SMALL)
    await nodes.copied(keys)


@pytest_twisted.ensureDeferred
async def test_what_is_deleted_or_has_expired_takes_no_room(nodes: Nodes) -> None:
    await nodes.ring(3)
    node = nodes.members[0]
    await node.set(b"deleted", 1)
    await node.delete(b"deleted")
    await node.set(b"expires", 1, ttl=0.2)
    await node.set(b"stays", 1)
    await nodes.until(lambda: all(each.status["records"] == 1 for each in nodes.members), "it is gone")
    assert await node.get(b"stays") == 1
    assert await node.get(b"expires") is None
