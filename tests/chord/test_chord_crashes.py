"""Nodes die without a word: reads and writes go on, the ring closes, records get their copies back."""

from __future__ import annotations

import pytest
import pytest_twisted

from chordtx.chord import ChordService
from chordtx.errors import NoMajority
from tests.chord.nodes import QUICK, Nodes, everything

CLOSED_SECONDS = 5.0
EXPECTED = {b"key %d" % number: number for number in range(80)}


async def filled(nodes: Nodes, count: int) -> ChordService:
    """A ring with records.

    :returns: a leech that uses it.
    """
    members = await nodes.ring(count, QUICK)
    await members[0].update(EXPECTED)
    await nodes.copied(EXPECTED)
    return await nodes.leech(members[0], settings=QUICK)


async def recovered(nodes: Nodes, leech: ChordService) -> None:
    """The ring closes, everything is there and can be written, and all copies come back."""
    await nodes.settled(CLOSED_SECONDS)
    for node in (leech, nodes.members[-1]):
        assert await node.get_many(list(EXPECTED)) == EXPECTED
    assert await leech.count() == len(EXPECTED)
    await nodes.copied(EXPECTED)
    await leech.update({key: value + 1 for key, value in EXPECTED.items()})
    assert await nodes.members[0].get_many(list(EXPECTED)) == {
        key: value + 1 for key, value in EXPECTED.items()
    }


@pytest.mark.parametrize(("count", "dead"), [(5, 1), (5, 2), (9, 1), (9, 2), (12, 2)])
@pytest_twisted.ensureDeferred
async def test_no_record_is_lost_when_nodes_crash(nodes: Nodes, count: int, dead: int) -> None:
    leech = await filled(nodes, count)
    for node in nodes.members[-dead:]:
        nodes.crash(node)
    await recovered(nodes, leech)


@pytest_twisted.ensureDeferred
async def test_calls_go_on_while_nodes_crash(nodes: Nodes) -> None:
    leech = await filled(nodes, 9)
    reads = [leech.get(key) for key in EXPECTED]
    writes = [nodes.members[0].set(b"new" + key, value) for key, value in EXPECTED.items()]
    for node in nodes.members[-2:]:
        nodes.crash(node)
    reads += [leech.get(key) for key in EXPECTED]
    await everything(writes)
    assert await everything(reads) == list(EXPECTED.values()) * 2
    assert await leech.get_many([b"new" + key for key in EXPECTED]) == {
        b"new" + key: value for key, value in EXPECTED.items()
    }


@pytest_twisted.ensureDeferred
async def test_neighbours_crash_one_after_another(nodes: Nodes) -> None:
    leech = await filled(nodes, 9)
    for _ in range(4):
        walk = nodes.walk()
        nodes.crash(next(node for node in nodes.members if node._ring.me == walk[2]))
        await nodes.settled(CLOSED_SECONDS)
        await nodes.copied(EXPECTED)
    await recovered(nodes, leech)


@pytest_twisted.ensureDeferred
async def test_a_node_that_hangs_is_given_up(nodes: Nodes) -> None:
    leech = await filled(nodes, 5)
    nodes.hang(nodes.members[-1])
    assert await leech.get_many(list(EXPECTED)) == EXPECTED
    await leech.update(EXPECTED)
    await recovered(nodes, leech)


@pytest_twisted.ensureDeferred
async def test_the_second_of_two_goes_on_alone(nodes: Nodes) -> None:
    leech = await filled(nodes, 2)
    nodes.crash(nodes.members[1])
    await recovered(nodes, leech)


@pytest_twisted.ensureDeferred
async def test_without_a_majority_there_is_an_error_and_no_guess(nodes: Nodes) -> None:
    leech = await filled(nodes, 1)
    nodes.crash(nodes.members[0])
    leech._client.timeout_seconds = 0.3
    for work in (leech.get(b"key 1"), leech.set(b"key 1", 2), leech.delete(b"key 1")):
        with pytest.raises(NoMajority):
            await work


@pytest_twisted.ensureDeferred
async def test_a_crashed_node_comes_back_empty(nodes: Nodes) -> None:
    leech = await filled(nodes, 5)
    nodes.crash(nodes.members[1])
    await nodes.settled(CLOSED_SECONDS)
    await nodes.join(nodes.members[0], settings=QUICK)
    await recovered(nodes, leech)
    nodes.crash(nodes.members[0])
    nodes.crash(nodes.members[1])
    await nodes.settled(CLOSED_SECONDS)
    assert sorted(await leech.get_many(list(EXPECTED))) == sorted(EXPECTED)
