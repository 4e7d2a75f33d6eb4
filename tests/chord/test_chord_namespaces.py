"""Namespaces: programs in one ring that do not meet. On a simulated network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from chordtx import ABSENT, ChordService, ChordSettings, Conflict, Namespace, Stopped, ValueTooLarge
from tests.sim.cluster import Cluster

SETTINGS = ChordSettings(partition_bits=3, key_bytes_max=20)


def ring(count: int) -> tuple[Cluster, list[Any]]:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=7)
    return world, world.ring(count, 5)


def run(test: Callable[[ChordService, Namespace], Awaitable[None]]) -> None:
    """Run it with a node, and a namespace of another node, in a ring where others have keys too."""

    async def main() -> None:
        await nodes[0].update({"key": "other", "a/key": "other", "names": 1, "names.x": 1, "names0": 1})
        before = await nodes[0].copy()
        await test(nodes[0], nodes[1].namespace("names"))
        left = {key: value for key, value in (await nodes[0].copy()).items() if key[:6] != b"names/"}
        assert left == before, "what others have is untouched"

    world, nodes = ring(2)
    world.result(main())


def test_values() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        await names.set("key", 1)
        assert await names.get("key") == await names[b"key"] == await node["names/key"] == 1
        assert await names.get("names", "default") == "default"
        assert await names.contains("key")
        assert not await names.contains("names/key")
        assert await names.setdefault("key", 2) == 1
        assert await names.setdefault("other", 2) == 2
        assert await names.pop("other") == 2
        assert await names.pop("other", None) is None
        assert await names.apply_delta("map", {"a": 1}) == {"a": 1}
        await names.delete("map")
        names["key"] = 3
        del names["key"]
        names["key"] = 4
        names["another"] = 5
        await names.flush()
        assert await node.get_many(["names/key", "names/another"]) == {b"names/key": 4, b"names/another": 5}
        await names.update({"another": None}, more=6)
        assert await names.copy() == {b"key": 4, b"more": 6}

    run(test)


def test_many() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        wanted = {b"%d" % number: number for number in range(30)}
        await names.update(wanted)
        assert await names.copy() == {key: value async for key, value in names.items()} == wanted
        assert {key async for key in names} == {key async for key in names.keys()} == {*wanted}
        assert sorted([value async for value in names.values()]) == list(range(30))
        assert {entry.key: entry.value async for entry in names.entries()} == wanted
        assert {key async for key in names.keys("2")} == {b"2", *(b"%d" % number for number in range(20, 30))}
        assert (await names.count(), await names.count("2")) == (30, 11)
        assert await names.get_many(["1", "names/2"]) == {b"1": 1}
        key, value = await names.popitem()
        assert wanted.pop(key) == value
        first = [key async for key in names.keys(limit=10)]
        rest = [key async for key in names.keys(after=first[-1])]
        assert sorted([*first, *rest]) == sorted(wanted)
        await names.clear()
        assert await names.count() == 0
        with pytest.raises(KeyError, match="there are no keys"):
            await names.popitem()

    run(test)


def test_exact_operations() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        version = await names.compare_and_set("key", 1, ABSENT)
        entry = await names.entry("key")
        assert (entry.key, entry.value, entry.version) == (b"key", 1, version)
        with pytest.raises(Conflict):
            await names.compare_and_set("key", 1, ABSENT)
        assert await names.modify("key", lambda value: value + 1) == 2
        assert await names.increment("key", 2) == 4
        with pytest.raises(Conflict):
            await names.delete("key", version)
        await names.touch("key", ttl=60)
        assert (await names.entry("key")).expires is not None
        async with names.lock("name") as lock:
            assert (await node["names/lock:name"])["holder"]
            assert await node.lock("name").acquire(wait=False), "the whole ring has another lock of this name"
            assert await names.lock("name").acquire(wait=False) is False
            assert lock.is_held
        await node.delete("lock:name")

    run(test)


def test_missing_keys_are_told_as_they_were_given() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        calls: list[Callable[[], Deferred[Any]]] = [
            lambda: names["key"],
            lambda: names.pop("key"),
            lambda: names.delete("key"),
            lambda: names.entry("key"),
            lambda: names.touch("key"),
        ]
        for call in calls:
            with pytest.raises(KeyError) as caught:
                await call()
            assert caught.value.args == (b"key",)
        del names["key"]
        with pytest.raises(KeyError) as caught:
            await names.flush()
        assert caught.value.args == (b"key",)

    run(test)


def test_watches_tell_keys_without_the_prefix() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        every = await names.watch().when_ready()
        some = await names.watch(prefix="k").when_ready()
        one = await names.watch("key").when_ready()
        of_node = await node.watch(prefix="names/").when_ready()
        await node.set("key", 1)
        await node.set("key", "other")
        await names.set("other", 2)
        event = await anext(every)
        assert event[:3] == ("add", b"other", 2)
        assert (await anext(of_node)).key == b"names/other"
        await names.set("key", 3)
        for watch in (every, some, one):
            assert (await anext(watch))[:3] == ("add", b"key", 3)
        assert (await anext(of_node))[:3] == ("add", b"names/key", 3)
        await names.set("other", 4)
        since = names.watch("other", since=event.version)
        assert (await anext(since))[:3] == ("update", b"other", 4)
        with pytest.raises(ValueError, match="prefix"):
            names.watch("key", prefix="k")
        for watch in (every, some, one, of_node, since):
            await watch.aclose()

    run(test)


def test_one_within_another() -> None:
    async def test(node: ChordService, names: Namespace) -> None:
        inner = names.namespace(b"in")
        await inner.set("key", 1)
        await names.set("key", 2)
        assert (inner.prefix, repr(names)) == (b"names/in/", "<Namespace b'names/'>")
        assert await names.copy() == {b"in/key": 1, b"key": 2}
        await inner.clear()
        assert await names.copy() == {b"key": 2}

    run(test)


@pytest.mark.parametrize(
    "names", [("a", "ab"), ("a", "a0"), ("a", b"a\0"), ("a", "a:"), ("é", "e"), ("a", ".")]
)
def test_no_prefix_begins_with_another(names: tuple[Any, Any]) -> None:
    _, (node,) = ring(1)
    one, other = (node.namespace(name).prefix for name in names)
    assert not one.startswith(other)
    assert not other.startswith(one)


def test_names_and_keys_that_do_not_fit() -> None:
    world, (node,) = ring(1)
    for name in ("", b"", "a/b", b"/", "/a"):
        with pytest.raises(ValueError, match="slash"):
            node.namespace(name)
    with pytest.raises(TypeError):
        node.namespace(5)
    with pytest.raises(ValueTooLarge):
        node.namespace("n" * 20)
    names = node.namespace("n" * 9).namespace("in")
    world.result(names.set("k" * 7, 1))
    assert world.result(node.copy()) == {b"nnnnnnnnn/in/kkkkkkk": 1}
    for call in (names.set, names.lock):
        with pytest.raises(ValueTooLarge):
            call("k" * 8, 1)


def test_it_goes_with_its_node() -> None:
    world = Cluster(lambda reactor, **options: ChordService(reactor, settings=SETTINGS, **options), seed=7)
    first = world.start()
    node = world.start(first, listen=None, leech=True)
    names = node.namespace("names")
    world.result(node.when_joined())
    world.result(names.set("key", 1))
    world.result(node.stopService())
    for call in (names.get, names.entry, names.increment):
        with pytest.raises(Stopped):
            world.result(call("key"))
    for call in (names.count, names.copy, names.flush, names.watch().when_ready):
        with pytest.raises(Stopped):
            world.result(call())
    node.startService()
    world.result(node.when_joined())
    assert world.result(names.get("key")) == 1
    watch = world.result(names.watch().when_ready())
    world.result(names.delete("key"))
    assert world.result(watch.__anext__()).key == b"key"
    world.result(watch.aclose())
