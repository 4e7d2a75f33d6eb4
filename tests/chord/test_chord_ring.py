"""Services find each other and form the true ring; any of them finds whatever is anywhere."""

from __future__ import annotations

from random import Random

import pytest
import pytest_twisted

from chordtx.chord.routing import Found
from chordtx.ring import SIZE
from tests.chord.nodes import Nodes, everything

RING_SECONDS = 10.0


@pytest.mark.parametrize("nodes", [1], indirect=True)
@pytest_twisted.ensureDeferred
async def test_thirty_nodes_that_join_at_once_through_different_peers_form_the_ring(nodes: Nodes) -> None:
    first = await nodes.first()
    started = [first]
    for _ in range(29):
        started.append(nodes.start(nodes.rng.choice(started)))
        await started[-1].when_listening()  # its address is told next
    for node in started:
        await node.when_joined()
    await nodes.settled(RING_SECONDS)
    await find_everything(nodes)


@pytest.mark.parametrize("nodes", [3], indirect=True)
@pytest_twisted.ensureDeferred
async def test_thirty_nodes_that_join_at_once_through_one_peer_form_the_ring(nodes: Nodes) -> None:
    first = await nodes.first()
    for node in [nodes.start(first) for _ in range(29)]:
        await node.when_joined()
    await nodes.settled(RING_SECONDS)


@pytest.mark.parametrize("nodes", [4], indirect=True)
@pytest_twisted.ensureDeferred
async def test_thirty_nodes_that_join_one_after_another_form_the_ring(nodes: Nodes) -> None:
    await nodes.first()
    for _ in range(29):
        await nodes.join(*nodes.rng.sample(nodes.members, min(2, len(nodes.members))))
    await nodes.settled(RING_SECONDS)
    await find_everything(nodes)


async def find_everything(nodes: Nodes) -> None:
    """Lookups from anywhere end at the true owner; anyone finds anyone's values; all are listed."""
    rng = Random(7)
    positions = [rng.randrange(SIZE) for _ in range(5)]
    lookups = [(node, position) for node in nodes.members for position in positions]
    found: list[Found] = await everything(
        [node._run(node._routing.lookup(position)) for node, position in lookups]
    )
    assert [each.chain[0] for each in found] == [nodes.owner(position) for _, position in lookups]

    keys = [b"key %d" % number for number in range(150)]
    await everything([rng.choice(nodes.members).set(key, [key]) for key in keys])
    values = await everything([rng.choice(nodes.members).get(key) for key in keys])
    assert values == [[key] for key in keys]

    assert await rng.choice(nodes.members).count() == len(keys)
    listed = [key async for key in rng.choice(nodes.members).keys()]
    assert sorted(listed) == sorted(keys)
    await nodes.copied(keys)


@pytest_twisted.ensureDeferred
async def test_the_ring_can_be_walked(nodes: Nodes) -> None:
    await nodes.ring(12)
    leech = await nodes.leech(nodes.members[0])
    walked = [node["address"] for node in await leech.ring()]
    expected = [f"{contact.host}:{contact.port}" for contact in nodes.walk()]
    start = expected.index(walked[0])
    assert walked == expected[start:] + expected[:start]


@pytest_twisted.ensureDeferred
async def test_lookups_take_few_hops_where_not_everyone_is_connected(nodes: Nodes) -> None:
    await nodes.ring(12)
    node = nodes.members[0]
    for position in (nodes.rng.randrange(SIZE) for _ in range(20)):
        found = await node._routing.lookup(position)
        assert found.chain[0] == nodes.owner(position)
        assert found.hops <= 4  # half of log2 of 12, and some to spare
