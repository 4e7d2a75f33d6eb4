"""Maps that would be too large to be sent are refused before anybody is told of them."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import SyncService, ValueTooLarge
from tests.sim.cluster import Cluster


@pytest.fixture
def world() -> Cluster:
    return Cluster(lambda reactor, **options: SyncService(reactor, leasing=False, **options))


def scalars(step: int) -> dict[str, Any]:
    return {f"{step} {number}": number for number in range(7_000)}


def lists(step: int) -> dict[str, Any]:
    return {f"{step} {number}": [number] for number in range(5_000)}


def bytes_of(step: int) -> dict[str, Any]:
    return {f"{step}": b"x" * 1_500_000}


@pytest.mark.parametrize("delta", [scalars, lists, bytes_of])
def test_a_map_grows_until_it_is_refused(world: Cluster, delta: Any) -> None:
    nodes = world.several(3)
    world.run(5.0)
    links = {link for node in nodes for link in node.routing_table.values()}
    expected: dict[str, Any] = {}
    for step in range(10):
        try:
            world.result(nodes[step % 3].apply_delta("map", delta(step)))
        except ValueTooLarge:
            break
        expected |= delta(step)
        world.run(1.0)
    assert 1 < step < 9
    nodes += world.several(1)
    nodes.append(world.start(nodes[0]))
    world.run(20.0)
    for node in (*nodes[:3], nodes[-1]):
        assert node.data[b"map"] == expected
    assert {link for node in nodes for link in node.routing_table.values()} >= links


@pytest.mark.parametrize(
    "delta",
    [{f"{number}": [] for number in range(40_000)}, {f"{number}": number for number in range(40_000)}],
)
def test_one_delta_that_is_too_large_is_refused(world: Cluster, delta: dict[str, Any]) -> None:
    nodes = world.several(2)
    world.run(5.0)
    with pytest.raises(ValueTooLarge):
        world.result(nodes[0].apply_delta("map", delta))
    world.result(nodes[0].set("other", 1))
    world.run(1.0)
    assert [dict(node.data) for node in nodes] == [{b"other": 1}] * 2


def test_a_field_that_would_be_nested_too_deep_is_refused(world: Cluster) -> None:
    nodes = world.several(2)
    value: Any = 1
    for _ in range(nodes[0].settings.limits.depth_max):
        value = [value]
    with pytest.raises(TypeError, match="nested too deep"):
        world.result(nodes[0].apply_delta("map", {"a": value}))


def test_what_comes_at_once_and_is_too_large_together_is_not_kept(world: Cluster) -> None:
    """Some changes are lost then, as with any other limit; no link is, and what is there can be read."""
    nodes = world.several(4, links=4)
    world.run(5.0)
    links = {link for node in nodes for link in node.routing_table.values()}
    for number, node in enumerate(nodes):
        node.apply_delta("map", {f"{number} {field}": field for field in range(9_000)})
    world.run(60.0)
    for node in nodes:
        assert len(node.data[b"map"]) in (18_000, 27_000)
    assert {link for node in nodes for link in node.routing_table.values()} >= links
    world.result(nodes[0].set("map", {}))
    world.run(5.0)
    assert [node.data[b"map"] for node in nodes] == [{}] * 4
