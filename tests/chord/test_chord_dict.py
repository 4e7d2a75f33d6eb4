"""The dict that a ring is, from a member's side and from a leech's."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.errors import NotJoined, Stopped, ValueTooLarge
from tests.chord.nodes import LISTEN, QUICK, Nodes, everything

SMALL = evolve(QUICK, value_bytes_max=1000, key_bytes_max=50)
VALUES: list[Any] = [
    True,
    0,
    -1,
    2**64 - 1,
    1.5,
    "text",
    b"bytes",
    [],
    {},
    {"any": ["msgpack", b"value", {1: None}]},
]


@pytest_twisted.ensureDeferred
async def test_values_of_every_kind_come_back(nodes: Nodes) -> None:
    for node in await pair(nodes):
        for number, value in enumerate(VALUES):
            await node.set(f"key {number}", value)
            assert await node.get(f"key {number}".encode()) == value
            assert await node[f"key {number}"] == value


async def pair(nodes: Nodes, settings: ChordSettings | None = None) -> list[ChordService]:
    """A member of a ring of three, and a leech."""
    await nodes.ring(3, settings)
    return [nodes.members[1], await nodes.leech(nodes.members[0], settings=settings)]


@pytest_twisted.ensureDeferred
async def test_what_is_not_there(nodes: Nodes) -> None:
    for node in await pair(nodes):
        assert await node.get("nothing") is None
        assert await node.get("nothing", 7) == 7
        assert not await node.contains("nothing")
        assert await node.pop("nothing", "default") == "default"
        for work in (node["nothing"], node.delete("nothing"), node.pop("nothing"), node.popitem()):
            with pytest.raises(KeyError):
                await work
        assert await node.count() == 0
        assert await node.copy() == {}
        assert await node.get_many([b"nothing"]) == {}


@pytest_twisted.ensureDeferred
async def test_delete_pop_and_none_take_a_key_away(nodes: Nodes) -> None:
    for node in await pair(nodes):
        await everything([node.set(key, key) for key in ("a", "b", "c")])
        await node.delete("a")
        assert await node.pop("b") == "b"
        await node.set("c", None)
        for other in (*nodes.members, *nodes.leeches):
            assert await other.get_many(["a", "b", "c"]) == {}
        with pytest.raises(KeyError):
            await node.delete("a")
        await node.set("a", 2)
        assert await node.popitem() == (b"a", 2)
        assert await node.count() == 0


@pytest_twisted.ensureDeferred
async def test_many_at_once(nodes: Nodes) -> None:
    for node in await pair(nodes):
        expected = {b"key %d" % number: [number] for number in range(700)}  # more than a page
        await node.update({key.decode(): value for key, value in expected.items()})
        assert await node.count() == len(expected)
        assert await node.copy() == expected
        assert await node.get_many([*expected, b"nothing"]) == expected
        assert sorted([key async for key in node]) == sorted(expected)
        assert sorted([key async for key in node.keys()]) == sorted(expected)
        assert sorted([item async for item in node.items()]) == sorted(expected.items())
        assert sorted([value async for value in node.values()]) == sorted(expected.values())


@pytest_twisted.ensureDeferred
async def test_a_ttl_ends_a_value(nodes: Nodes) -> None:
    member, leech = await pair(nodes)
    await leech.set("short", 1, ttl=0.3)
    await leech.set("long", 2, ttl=3600)
    assert await member.get_many(["short", "long"]) == {b"short": 1, b"long": 2}
    expiry = member.reactor.seconds() + 0.3
    while await member.contains("short"):
        assert member.reactor.seconds() < expiry + 10
        await deferLater(member.reactor, 0.05)
    assert await member.copy() == {b"long": 2}
    assert await leech.count() == 1
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="ttl"):
            leech.set("key", 1, ttl=wrong)


@pytest_twisted.ensureDeferred
async def test_an_entry_is_the_value_with_its_version_and_expiry(nodes: Nodes) -> None:
    member, leech = await pair(nodes)
    await leech.set("key", {"a": b"b"})
    first = await member.entry("key")
    assert first == (b"key", {"a": b"b"}, first.version, None)
    assert await leech.entry(b"key") == first
    started = time.time()
    await member.set("key", {"a": b"b"}, ttl=100)
    second = await leech.entry("key")
    assert second.expires is not None
    assert started + 99 < second.expires < time.time() + 101
    assert (second.value, second.version != first.version) == (first.value, True)
    await leech.delete("key")
    for node in (member, leech):
        with pytest.raises(KeyError, match="key"):
            await node.entry("key")
        with pytest.raises(TypeError):
            node.entry(5)  # type: ignore[arg-type]
        with pytest.raises(ValueTooLarge):
            node.entry(bytes(leech._key_bytes_max + 1))
    await leech.stopService()
    with pytest.raises(Stopped):
        await leech.entry("key")


@pytest_twisted.ensureDeferred
async def test_deltas(nodes: Nodes) -> None:
    member, leech = await pair(nodes)
    assert await leech.apply_delta("map", {"a": 1}) == {"a": 1}
    assert await member.apply_delta("map", {"b": {"c": [2]}}) == {"a": 1, "b": {"c": [2]}}
    assert await leech.apply_delta("map", {"a": 3}) == {"a": 3, "b": {"c": [2]}}
    assert await member["map"] == {"a": 3, "b": {"c": [2]}}
    await leech.delete("map")
    assert await member.apply_delta("map", {"d": 4}) == {"d": 4}
    await member.set("text", "no map")
    with pytest.raises(TypeError, match="map"):
        await leech.apply_delta("text", {"a": 1})
    with pytest.raises(TypeError):
        leech.apply_delta("map", [("a", 1)])  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_items_can_be_assigned_and_flushed(nodes: Nodes) -> None:
    for node in await pair(nodes):
        for number in range(20):
            node[f"key {number}"] = number
        await node.flush()
        assert await node.count() == 20
        del node["key 3"]
        del node["nothing"]
        node["key 4"] = "four"
        with pytest.raises(KeyError):
            await node.flush()
        await node.flush()  # told once
        assert await node.get_many(["key 3", "key 4"]) == {b"key 4": "four"}
        await node.update(dict.fromkeys([f"key {number}" for number in range(20)]))
        assert await node.count() == 0


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_stored_is_refused_at_once(nodes: Nodes) -> None:
    for node in await pair(nodes, SMALL):
        for key in (None, 1, ["a"], object()):
            with pytest.raises(TypeError):
                node.set(key, 1)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                node.get(key)  # type: ignore[arg-type]
        for value in (object(), {1, 2}, 2**64, [lambda: None]):
            with pytest.raises(TypeError):
                node.set("key", value)
            with pytest.raises(TypeError):
                node.update({"key": value})
        with pytest.raises(ValueTooLarge) as caught:
            node.set("key", b"x" * 1001)
        assert caught.value.size_bytes > caught.value.limit_bytes == 1000
        with pytest.raises(ValueTooLarge):
            node.get(b"k" * 51)
        await node.set(b"k" * 50, b"x" * 990)
        assert await node[b"k" * 50] == b"x" * 990


@pytest_twisted.ensureDeferred
async def test_deltas_cannot_grow_a_value_past_the_limit(nodes: Nodes) -> None:
    _, leech = await pair(nodes, SMALL)
    for number in range(2):
        await leech.apply_delta("map", {number: b"x" * 400})
    with pytest.raises(ValueTooLarge):
        await leech.apply_delta("map", {2: b"x" * 400})
    assert len(await leech["map"]) == 2


@pytest_twisted.ensureDeferred
async def test_calls_can_be_cancelled(nodes: Nodes) -> None:
    for node in await pair(nodes):
        for work in (
            node.get("key"),
            node.set("key", 1),
            node.delete("key"),
            node.count(),
            node.copy(),
            node.popitem(),
            node.update({"a": 1, "b": 2}),
            node.get_many(["a", "b"]),
            node.apply_delta("map", {"a": 1}),
        ):
            work.cancel()
            with pytest.raises(CancelledError):
                await work
        await node.set("key", 2)
        assert await node["key"] == 2


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_not_running_says_so(nodes: Nodes) -> None:
    member, leech = await pair(nodes)
    await nodes.leave(leech)
    await nodes.leave(member)
    never = ChordService(nodes.reactor, listen=LISTEN)
    for node in (leech, member):
        for work in (
            node.get("key"),
            node.set("key", 1),
            node.count(),
            node["key"],
            node.flush(),
            node.ring(),
        ):
            with pytest.raises(Stopped):
                await work
    for node, error in ((leech, Stopped), (member, Stopped), (never, NotJoined)):
        with pytest.raises(error):
            await node.when_joined()
        assert not node.running
    assert await nodes.members[0].count() == 0


@pytest_twisted.ensureDeferred
async def test_work_under_way_ends_when_its_node_stops(nodes: Nodes) -> None:
    _, leech = await pair(nodes)
    works = [leech.set(f"key {number}", number) for number in range(20)]
    nodes.leeches.remove(leech)
    stopped = leech.stopService()
    for work in works:
        try:
            await work
        except Stopped:
            continue
    await stopped


@pytest_twisted.ensureDeferred
async def test_a_node_without_a_ring_says_so(nodes: Nodes, free_port: Any) -> None:
    settings = ChordSettings(join_timeout_seconds=0.3, operation_timeout_seconds=0.3)
    lost = ChordService(nodes.reactor, None, peers=[f"127.0.0.1:{free_port()}"], settings=settings)
    lost.startService()
    with pytest.raises(NotJoined, match="no ring was reached"):
        await lost.when_joined()
    with pytest.raises(TimeoutError):
        await lost.get("key")
    with pytest.raises(TimeoutError):
        await lost.count()
    await lost.stopService()


@pytest_twisted.ensureDeferred
async def test_status_and_neighbours(nodes: Nodes) -> None:
    first = await nodes.first()
    assert first.next is None
    assert first.prev is None
    await first.set("key", "value")
    second = await nodes.join(first)
    await nodes.settled()
    await nodes.copied([b"key"])
    assert first.next == first.prev == second._ring.me
    assert first.protocol == ("chord", "Plaintext")
    assert first.id_10 == first._ring.me.id
    status = second.status
    assert status["id"] == second.id
    assert status["next"] == status["prev"] == f"127.0.0.1:{first.out_addr[1]}"
    assert status["records"] == 1
    assert status["bytes"] > len("value")
    assert not status["leeching"]
    assert [peer["id"] for peer in status["peers"]] == [first.id]
    leech = await nodes.leech(first)
    assert leech.leeching
    assert leech.status["leeching"]


@pytest_twisted.ensureDeferred
async def test_a_member_can_stop_storing_and_begin_again(nodes: Nodes) -> None:
    node = (await nodes.ring(3))[2]
    keys = [b"key %d" % number for number in range(50)]
    await everything([node.set(key, key) for key in keys])
    await node.unjoin()
    await node.unjoin()  # nothing more to do
    nodes.members.remove(node)
    await nodes.settled()
    assert await node.count() == await nodes.members[0].count() == 50
    assert await node.get_many(keys) == {key: key for key in keys}
    await node.set("key 1", "new")
    nodes.members.append(node)
    await node.join()
    await node.join()
    await nodes.settled()
    await nodes.copied(keys)
    assert await node.get("key 1") == "new"


@pytest_twisted.ensureDeferred
async def test_who_cannot_be_reached_cannot_store(nodes: Nodes) -> None:
    _, leech = await pair(nodes)
    with pytest.raises(ValueError, match="listen"):
        leech.join()


@pytest_twisted.ensureDeferred
async def test_events_tell_everyone_of_keys_that_come_and_go(nodes: Nodes) -> None:
    told: list[tuple[str, int, bytes]] = []
    everyone = [*await pair(nodes), nodes.members[0]]
    for place, node in enumerate(everyone):
        node.on("add", lambda _, key, place=place: told.append(("add", place, key)))
        node.on("delete", lambda _, key, place=place: told.append(("delete", place, key)))
    await everything([node.when_hearing() for node in everyone])
    await everyone[0].set("key", 1)
    await everyone[0].set("key", 2)
    await nodes.until(lambda: len(told) == 3, "told to all of the key")
    await everyone[1].delete("key")
    await nodes.until(lambda: len(told) == 6, "told to all that it is gone")
    assert sorted(told) == sorted((what, place, b"key") for what in ("add", "delete") for place in range(3))


@pytest_twisted.ensureDeferred
async def test_a_node_can_be_stopped_and_started_again(nodes: Nodes) -> None:
    member, leech = await pair(nodes)
    await leech.set("key", "value")
    for node in (member, leech):
        await node.stopService()
        node.startService()
        await node.when_joined()
    await nodes.settled()
    await nodes.copied([b"key"])
    assert await leech["key"] == await member["key"] == "value"
