"""A dict that everybody has a copy of: changes reach all, newcomers catch up, a split ends as one."""

from __future__ import annotations

from typing import Any

import pytest

from chordtx import MeshSettings, Stopped, StorageFull, SyncService, SyncSettings, ValueTooLarge
from tests.sim.cluster import Cluster

CAUGHT_UP_SECONDS = 10.0
HEALED_SECONDS = 120.0


@pytest.fixture(params=[False, True], ids=["free", "leasing"])
def leasing(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def cluster(seed: int = 1) -> Cluster:
    return Cluster(SyncService, seed)


def noted(node: SyncService) -> list[tuple[Any, ...]]:
    """What happens at a node, from now on."""
    events: list[tuple[Any, ...]] = []
    node.on("update", lambda _, key, value, meta: events.append(("update", key, value, meta.owner)))
    node.on("delete", lambda _, key: events.append(("delete", key)))
    return events


def test_change_reaches_everybody_and_is_told_once(leasing: bool) -> None:
    world = cluster()
    nodes = world.several(8, leasing=leasing)
    world.run(5)
    events = [noted(node) for node in nodes]
    first, second = nodes[0], nodes[5]
    world.result(first.set("key", {"a": [1, b"two", None]}))
    world.result(second.set(b"\xff", "other"))
    world.run(1)
    for node in nodes:
        assert dict(node.data) == {b"key": {"a": [1, b"two", None]}, b"\xff": "other"}
        assert node.metadata["key"].owner == first.id
        assert node.metadata["key"].timestamp == first._now_whole_seconds() - 1
    world.result(first.apply_delta("key", {"b": 2}))
    world.result(first.delete("key"))
    world.run(1)
    for node, seen in zip(nodes, events, strict=True):
        assert dict(node.data) == {b"\xff": "other"}
        assert [event for event in seen if event[1] == b"key"] == [
            ("update", b"key", {"a": [1, b"two", None]}, first.id),
            ("update", b"key", {"a": [1, b"two", None], "b": 2}, first.id),
            ("delete", b"key"),
        ]
        assert [event for event in seen if event[1] == b"\xff"] == [("update", b"\xff", "other", second.id)]


def test_reads_are_from_memory_and_the_dict_is_a_dict(leasing: bool) -> None:
    world = cluster()
    node, other = world.several(2, leasing=leasing)
    world.run(2)
    world.result(node.update({f"key {number}": number for number in range(1200)}))
    world.run(1)

    async def look(service: SyncService) -> None:
        assert await service.get("key 7") == 7
        assert await service.get("nothing", 5) == 5
        assert await service["key 8"] == 8
        with pytest.raises(KeyError):
            await service["nothing"]
        assert await service.contains("key 1")
        assert not await service.contains("nothing")
        assert await service.count() == 1200
        assert [key async for key in service] == [key async for key in service.keys()]
        assert {key: value async for key, value in service.items()} == await service.copy() == service.data
        assert sorted([value async for value in service.values()]) == list(range(1200))
        assert await service.get_many(["key 1", "nothing"]) == {b"key 1": 1}

    world.result(look(other))
    assert len(other.data) == 1200
    assert b"key 5" in other.data
    assert other.data["key 5"] == 5
    assert "nothing" not in other.data
    with pytest.raises(KeyError):
        other.data["nothing"]

    async def change() -> None:
        assert await node.pop("key 1") == 1
        assert await node.pop("key 1", "gone") == "gone"
        with pytest.raises(KeyError):
            await node.pop("key 1")
        key, value = await node.popitem()
        assert key == b"key %d" % value
        with pytest.raises(KeyError):
            await node.delete("key 1")
        node["key 2"] = "two"
        del node["key 3"]
        await node.flush()
        await node.set("key 4", None)

    world.result(change())
    world.run(1)
    assert other.data["key 2"] == "two"
    assert len(other.data) == len(node.data) == 1200 - 4


def test_newcomer_catches_up(leasing: bool) -> None:
    world = cluster()
    nodes = world.several(4, leasing=leasing)
    world.run(3)
    expected = {b"key %d" % number: "x" * number for number in range(3000)}
    world.result(nodes[1].update(expected))
    world.result(nodes[1].delete("key 5"))
    world.run(1)
    newcomer = world.start(nodes[3], leasing=leasing)
    events = noted(newcomer)
    world.run(CAUGHT_UP_SECONDS)
    del expected[b"key 5"]
    assert newcomer.data == expected
    assert len(events) == len(expected)
    assert newcomer.metadata["key 7"] == nodes[1].metadata["key 7"]


@pytest.mark.parametrize("seed", range(6))
def test_split_network_comes_to_one(leasing: bool, seed: int) -> None:
    world = cluster(seed)
    nodes = world.several(8, leasing=leasing)
    world.run(5)
    left, right = nodes[:4], nodes[4:]
    for number in range(20):
        world.result(nodes[number % 8].set(f"owned {number}", number))
    world.run(2)
    world.split(left, right)
    world.run(20)
    for number in range(40):
        world.result(left[number % 4].set(f"both {number}", f"left {number}"))
        world.run(0.1)
        world.result(right[number % 4].set(f"both {number}", f"right {number}"))
        world.run(0.1)
    world.result(left[0].delete("owned 0"))
    world.run(5)
    world.heal()
    world.run(HEALED_SECONDS)
    assert len({node._replica.tree.root for node in nodes}) == 1
    assert all(dict(node.data) == dict(nodes[0].data) for node in nodes)
    data = nodes[0].data
    assert "owned 0" not in data
    # The later write wins; of leases, who began first.
    winners = {data[f"both {number}"].split()[0] for number in range(40)}
    assert winners <= {"left", "right"}
    if not leasing:
        assert winners == {"right"}


def test_lease_keeps_others_away_whatever_their_clocks_say() -> None:
    world = cluster()
    settings = SyncSettings(mesh=MeshSettings(ping_interval_seconds=60.0), compare_interval_seconds=60.0)
    holder = world.start(settings=settings)
    early = world.start(holder, offset_seconds=-4.0, settings=settings)
    late = world.start(holder, early, offset_seconds=4.0, settings=settings)
    world.run(3)
    world.result(holder.set("key", 1))
    world.run(1)
    world.result(holder.set("map", {}))
    world.run(1)
    for node in (early, late):
        with pytest.raises(KeyError, match="leased"):
            world.result(node.set("key", 2))
        with pytest.raises(KeyError, match="leased"):
            world.result(node.apply_delta("map", {"a": 2}))
        with pytest.raises(KeyError, match="leased"):
            world.result(node.delete("key"))
    for _ in range(3):
        world.run(3590)
        world.result(holder.set("key", 2))
        world.run(1)
        with pytest.raises(KeyError, match="leased"):
            world.result(late.set("key", 3))
    world.run(3620)
    world.result(late.set("key", 4))
    world.run(1)
    with pytest.raises(KeyError, match="leased"):
        world.result(holder.set("key", 5))
    assert [node.data["key"] for node in (holder, early, late)] == [4, 4, 4]
    world.result(late.delete("key"))
    world.run(1)
    world.result(early.set("key", 6))
    world.run(1)
    assert [node.data["key"] for node in (holder, early, late)] == [6, 6, 6]


def test_values_expire_everywhere(leasing: bool) -> None:
    world = cluster()
    nodes = world.several(3, leasing=leasing)
    world.run(2)
    world.result(nodes[0].set("short", 1, ttl=5))
    world.result(nodes[0].set("long", 1))
    world.run(1)
    events = [noted(node) for node in nodes]
    assert all(node.data["short"] == 1 for node in nodes)
    world.run(6)
    assert all(dict(node.data) == {b"long": 1} for node in nodes)
    assert events == [[("delete", b"short")]] * 3
    world.result(nodes[1].set("short", 2))
    world.run(1)
    assert all(node.data["short"] == 2 for node in nodes)


def test_what_is_deleted_is_forgotten_at_last_and_stays_deleted(leasing: bool) -> None:
    settings = SyncSettings(tombstone_seconds=600.0)
    world = cluster()
    nodes = world.several(3, leasing=leasing, settings=settings)
    world.run(2)
    world.result(nodes[0].set("key", 1))
    world.result(nodes[0].delete("key"))
    world.run(1)
    assert [node.status["records"] for node in nodes] == [1, 1, 1]
    world.run(1300)
    assert [node.status["records"] for node in nodes] == [0, 0, 0]


def test_bad_input_is_refused() -> None:
    settings = SyncSettings(value_bytes_max=1000, key_bytes_max=50, store_records_max=3)
    world = cluster()
    node = world.start(settings=settings)
    world.run(1)
    with pytest.raises(TypeError):
        node.set(5, 1)
    with pytest.raises(TypeError):
        node.set("key", object())
    with pytest.raises(ValueError, match="ttl"):
        node.set("key", 1, ttl=0)
    with pytest.raises(ValueTooLarge):
        node.set("key", "x" * 2000)
    with pytest.raises(ValueTooLarge):
        node.get("k" * 51)
    with pytest.raises(TypeError):
        node.apply_delta("key", [1])
    world.result(node.set("text", "no map"))
    with pytest.raises(TypeError, match="map"):
        world.result(node.apply_delta("text", {"a": 1}))
    world.result(node.set("second", 1))
    world.result(node.set("third", 1))
    with pytest.raises(StorageFull):
        world.result(node.set("fourth", 1))
    with pytest.raises(ValueError, match="compare_interval_seconds"):
        SyncService(node.reactor, settings=SyncSettings(compare_interval_seconds=0))
    world.result(node.stopService())
    with pytest.raises(Stopped):
        world.result(node.get("text"))
