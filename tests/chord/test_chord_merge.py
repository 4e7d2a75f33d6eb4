"""Rings that do not know of each other, and become one."""

from __future__ import annotations

import pytest
import pytest_twisted

from tests.chord.nodes import QUICK, Nodes, everything


async def two_rings(nodes: Nodes, one: int, other: int) -> dict[bytes, object]:
    """Two rings, each with records of its own, and one key that both have.

    :returns: what the ring of both must have.
    """
    first = await nodes.ring(one, QUICK)
    expected: dict[bytes, object] = {b"one %d" % number: number for number in range(40)}
    await first[0].update({**expected, b"both": "older"})
    apart = Nodes(nodes.reactor, seed=99)
    second = await apart.ring(other, QUICK)
    more: dict[bytes, object] = {b"other %d" % number: number for number in range(40)}
    await second[0].update({**more, b"both": "newer"})
    nodes.members.extend(second)
    return {**expected, **more, b"both": "newer"}


@pytest.mark.parametrize(("one", "other"), [(1, 1), (4, 1), (5, 5), (12, 10)])
@pytest_twisted.ensureDeferred
async def test_two_rings_merge_when_a_node_is_told_of_the_other(nodes: Nodes, one: int, other: int) -> None:
    expected = await two_rings(nodes, one, other)
    await nodes.members[0].connect(*nodes.members[-1].out_addr)
    await nodes.settled()
    await nodes.repaired(expected)
    everywhere = await everything([node.get_many(list(expected)) for node in nodes.members])
    assert all(found == expected for found in everywhere)
    assert await nodes.members[0].count() == len(expected)
