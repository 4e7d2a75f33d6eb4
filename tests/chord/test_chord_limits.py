"""How much a node stores, and for how long it remembers what was deleted."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.task import deferLater

from chordtx import StorageFull
from chordtx.config import ChordSettings
from tests.chord.nodes import Nodes

SMALL = ChordSettings(store_bytes_max=20_000, repair_interval_seconds=0.3)
FEW = ChordSettings(store_records_max=20)
FORGETFUL = ChordSettings(
    absence_seconds_max=0.5, tombstone_seconds=1.0, clock_drift_seconds_max=0.2, repair_interval_seconds=0.3
)


@pytest_twisted.ensureDeferred
async def test_what_does_not_fit_is_refused_and_the_rest_goes_on(nodes: Nodes) -> None:
    await nodes.ring(3, SMALL)
    node = nodes.members[0]
    await node.set(b"first", b"x" * 10_000)
    with pytest.raises(StorageFull, match="store_bytes_max = 20000"):
        await node.set(b"second", b"y" * 10_000)
    assert await node.get(b"second") is None
    assert await node.get(b"first") == b"x" * 10_000
    await node.set(b"first", b"shorter")
    await node.set(b"second", b"y" * 10_000)
    await node.delete(b"second")
    assert await nodes.members[1].get(b"second") is None


@pytest_twisted.ensureDeferred
async def test_too_many_records_are_refused(nodes: Nodes) -> None:
    await nodes.ring(3, FEW)
    node = nodes.members[0]
    for number in range(20):
        await node.set(b"key %d" % number, number)
    with pytest.raises(StorageFull, match="store_records_max = 20"):
        await node.set(b"one more", 1)
    await node.set(b"key 3", "overwritten")
    await node.delete(b"key 4")
    assert await node.get(b"key 3") == "overwritten"


@pytest_twisted.ensureDeferred
async def test_what_is_repaired_always_fits(nodes: Nodes) -> None:
    first = await nodes.first(ChordSettings())
    for number in range(40):
        await first.set(b"key %d" % number, b"z" * 1000)
    late = await nodes.join(first, settings=SMALL)
    assert len(late._replica.store) == 40


@pytest_twisted.ensureDeferred
async def test_tombstones_and_what_has_expired_go_in_time(nodes: Nodes) -> None:
    await nodes.ring(3, FORGETFUL)
    node = nodes.members[0]
    await node.set(b"deleted", 1)
    await node.delete(b"deleted")
    await node.set(b"expires", 1, ttl=0.2)
    await node.set(b"stays", 1)
    assert all(len(each._replica.store) == 3 for each in nodes.members)
    await nodes.until(lambda: all(len(each._replica.store) == 1 for each in nodes.members), "forgotten")
    await deferLater(nodes.reactor, 1.0)
    assert [len(each._replica.store) for each in nodes.members] == [1, 1, 1]
    assert await node.get(b"stays") == 1
