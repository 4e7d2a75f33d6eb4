"""The ring grows and shrinks under load: nothing that was acknowledged is ever missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from tests.chord.nodes import QUICK, Nodes, everything


class Writing:
    """Sets keys one after another, some at a time, and remembers what was acknowledged."""

    def __init__(self, node: ChordService, at_once: int = 4) -> None:
        self.node = node
        self.acknowledged: dict[bytes, int] = {}
        self._stopped = False
        self._number = 0
        self._workers = [Deferred.fromCoroutine(self._work()) for _ in range(at_once)]

    async def _work(self) -> None:
        while not self._stopped:
            self._number += 1
            number = self._number
            key = b"key %d" % (number % 400)  # written again and again
            await self.node.set(key, number)
            self.acknowledged[key] = max(number, self.acknowledged.get(key, 0))

    async def stop(self) -> None:
        """Write no more; whatever failed fails here."""
        self._stopped = True
        await everything(self._workers)


@asynccontextmanager
async def writing(nodes: Nodes, node: ChordService) -> AsyncIterator[Writing]:
    """While this goes on, keys are written; before and after some come to stand."""
    writer = Writing(node)
    await nodes.until(lambda: len(writer.acknowledged) > 20, "some writes")
    yield writer
    before = writer._number
    await nodes.until(lambda: writer._number > before + 20, "more writes")
    await writer.stop()


async def nothing_is_missing(nodes: Nodes, expected: dict[bytes, Any]) -> None:
    """Every node reads all, no less than was acknowledged; all is listed, and with whom it should be."""
    for node in (*nodes.members, *nodes.leeches):
        found = await node.get_many(list(expected))
        assert [key for key, value in expected.items() if found.get(key, -1) < value] == []
    assert sorted([key async for key in nodes.members[-1].keys()]) == sorted(expected)
    await nodes.settled()
    await nodes.copied(expected)


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
@pytest_twisted.ensureDeferred
async def test_seven_join_at_once_while_a_leech_writes(nodes: Nodes) -> None:
    first = await nodes.first(QUICK)
    async with writing(nodes, await nodes.leech(first, settings=QUICK)) as writer:
        for node in [nodes.start(first, settings=QUICK) for _ in range(7)]:
            await node.when_joined()
    await nothing_is_missing(nodes, writer.acknowledged)


@pytest_twisted.ensureDeferred
async def test_seven_join_one_after_another_while_a_leech_writes(nodes: Nodes) -> None:
    first = await nodes.first(QUICK)
    async with writing(nodes, await nodes.leech(first, settings=QUICK)) as writer:
        for _ in range(7):
            await nodes.join(nodes.rng.choice(nodes.members), settings=QUICK)
    await nothing_is_missing(nodes, writer.acknowledged)


@pytest_twisted.ensureDeferred
async def test_a_large_ring_grows_while_a_leech_writes(nodes: Nodes) -> None:
    """Larger than the successor lists: most replicas of a key are far from the nodes that join."""
    members = await nodes.ring(12, QUICK)
    async with writing(nodes, await nodes.leech(members[0], settings=QUICK)) as writer:
        for node in [nodes.start(members[0], settings=QUICK) for _ in range(6)]:
            await node.when_joined()
    await nothing_is_missing(nodes, writer.acknowledged)


@pytest.mark.parametrize("nodes", [1, 2], indirect=True)
@pytest_twisted.ensureDeferred
async def test_all_but_one_leave_politely_while_a_leech_writes(nodes: Nodes) -> None:
    members = await nodes.ring(6, QUICK)
    async with writing(nodes, await nodes.leech(members[0], settings=QUICK)) as writer:
        while len(members) > 1:
            await nodes.leave(members[-1])
    await nothing_is_missing(nodes, writer.acknowledged)


@pytest_twisted.ensureDeferred
async def test_several_leave_at_once(nodes: Nodes) -> None:
    members = await nodes.ring(9, QUICK)
    expected = {b"key %d" % number: number for number in range(100)}
    await members[0].update(expected)
    await everything([Deferred.fromCoroutine(nodes.leave(node)) for node in members[6:]])
    await nothing_is_missing(nodes, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
@pytest_twisted.ensureDeferred
async def test_records_are_with_min_5_n_nodes(nodes: Nodes, count: int) -> None:
    members = await nodes.ring(count, QUICK)
    keys = [b"key %d" % number for number in range(40)]
    await everything([nodes.rng.choice(members).set(key, key) for key in keys])
    await nodes.copied(keys)
    assert {len(nodes.copies(key)) for key in keys} == {min(5, count)}


@pytest_twisted.ensureDeferred
async def test_deleted_keys_stay_deleted_when_nodes_come_and_go(nodes: Nodes) -> None:
    members = await nodes.ring(3, QUICK)
    keys = [b"key %d" % number for number in range(60)]
    await everything([members[0].set(key, key) for key in keys])
    await everything([members[1].delete(key) for key in keys[:30]])
    for _ in range(4):
        await nodes.join(members[0], settings=QUICK)
    await nodes.leave(members[1])
    await nodes.settled()
    await nodes.copied(keys)
    assert sorted(await members[-1].get_many(keys)) == sorted(keys[30:])
    assert await members[0].count() == 30
