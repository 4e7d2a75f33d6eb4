"""Listings in parts: each goes on behind the last key of the part before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from chordtx import ChordService, ChordSettings, SyncService
from chordtx.ring.partitions import partition_of
from tests.sim.cluster import Cluster

BITS = 4
FORMS = ["keys", "items", "values", "entries"]


def three(kind: Any) -> tuple[Cluster, list[Any]]:
    """A ring, or a mesh, of three."""

    def make(reactor: Any, **options: Any) -> Any:
        if kind is ChordService:
            options["settings"] = ChordSettings(partition_bits=BITS)
        return kind(reactor, **options)

    world = Cluster(make, seed=11)
    nodes = [world.start()]
    nodes += [world.start(nodes[0]) for _ in range(2)]
    for node in nodes:
        world.result(node.when_joined())
    world.run(5)
    return world, nodes


async def all_of(entries: AsyncIterator[Any]) -> list[Any]:
    return [entry async for entry in entries]


def place(kind: Any, key: bytes) -> tuple[int, bytes]:
    """Where a key stands in the order."""
    return (partition_of(key, BITS) if kind is ChordService else 0), key


@pytest.mark.parametrize("kind", [ChordService, SyncService])
@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("prefix", [b"", b"user:"])
def test_what_stays_is_seen_once(kind: Any, limit: int, prefix: bytes) -> None:
    rng = Random(5)

    async def main() -> None:
        staying = {b"user:%d" % number for number in range(40)}
        passing = [b"user:p%d" % number for number in range(40)] + [
            b"other %d" % number for number in range(9)
        ]
        await nodes[0].update(dict.fromkeys([*staying, *passing[::2]], 1))
        seen: list[bytes] = []
        for turn in range(1000):
            node = nodes[turn % 3]
            after = seen[-1] if seen else None
            page = await all_of(node.keys(prefix, after=after, limit=limit))
            if not page:
                break
            assert len(page) <= limit
            seen += page
            if page[-1] not in staying:
                await node.set(page[-1], None)  # what it goes on behind is gone
            for key in rng.sample(passing, 3):
                await node.set(key, rng.choice([1, None]))
        assert seen == sorted(set(seen), key=lambda key: place(kind, key)), "each once, in the order"
        assert staying <= set(seen)
        assert all(key.startswith(prefix) for key in seen)

    world, nodes = three(kind)
    if kind is SyncService:  # the copies are the same only after a while: one of them is listed
        nodes = nodes[:1] * 3
    world.result(main())


@pytest.mark.parametrize("kind", [ChordService, SyncService])
def test_all_forms_list_the_same(kind: Any) -> None:
    async def main() -> None:
        await node.update({f"key {number}": number for number in range(50)})
        items = await all_of(node.items())
        keys = [key for key, _ in items]
        assert keys == sorted(keys, key=lambda key: place(kind, key))
        for begin, end in ((0, 0), (0, 10), (10, 25), (49, 60), (50, 60)):
            after = keys[begin - 1] if begin else None
            part = {"after": after, "limit": end - begin}
            assert await all_of(node.items(**part)) == items[begin:end]
            assert await all_of(node.keys(**part)) == keys[begin:end]
            assert await all_of(node.values(**part)) == [value for _, value in items[begin:end]]
            if kind is ChordService:
                entries = await all_of(node.entries(**part))
                assert [(entry.key, entry.value) for entry in entries] == items[begin:end]
        for key in ("", "key", "key 2x", b"\xff" * 9):  # it need not be there, nor begin so
            behind = [each for each in keys if place(kind, each) > place(kind, key_bytes(key))]
            assert await all_of(node.keys("key", after=key)) == behind

    world, (_, _, node) = three(kind)
    world.result(main())


def key_bytes(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


@pytest.mark.parametrize("kind", [ChordService, SyncService])
@pytest.mark.parametrize("form", FORMS)
def test_arguments_that_make_no_sense(kind: Any, form: str) -> None:
    world = Cluster(kind)
    node = world.start()
    listing = getattr(node, form, None)
    if listing is None:
        assert (kind, form) == (SyncService, "entries")
        return
    for limit in (1.0, "1", True):
        with pytest.raises(TypeError, match="limit"):
            listing(limit=limit)
    with pytest.raises(ValueError, match="at least 0"):
        listing(limit=-1)
    with pytest.raises(TypeError, match="key"):
        listing(after=5)


def test_a_short_listing_asks_for_no_more_than_it_gives() -> None:
    world, (_, _, node) = three(ChordService)
    world.result(node.update({f"key {number}": bytes(1000) for number in range(500)}))
    asked: list[tuple[Any, ...]] = []
    ask = node._ask_partition

    def noted(*arguments: Any) -> Any:
        asked.append(arguments)
        return ask(*arguments)

    node._ask_partition = noted
    assert len(world.result(all_of(node.items(limit=3)))) == 3
    assert {arguments[4] for arguments in asked} == {3}
    asked.clear()
    assert world.result(all_of(node.items(limit=0))) == []
    assert asked == []
