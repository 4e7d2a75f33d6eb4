"""A ring of two nodes and a leeching one, in one asyncio program: the whole dict API."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from loops import LOCAL, SETTINGS, Raises, peer, run, until

from chordtx import ABSENT, Conflict, LockLost, NotJoined, Stopped, ValueTooLarge, WrongSubnet
from chordtx.aio import ChordService, Namespace


async def main() -> None:
    async with ChordService(LOCAL, settings=SETTINGS, subnet="demo") as first:
        peers = [peer(first)]
        async with ChordService(LOCAL, settings=SETTINGS, subnet="demo", peers=peers) as second:
            leech = ChordService(None, settings=SETTINGS, subnet="demo", peers=peers)
            with Raises(NotJoined, "not started"):
                await leech.get("key")
            leech.start()
            await leech.when_joined()
            for node in (first, second, leech):
                await values(node)
                await several(node)
                await exact(node)
            await namespaces(first, leech)
            await locks(first, leech)
            await watches(first, leech)
            await together(first, second, leech)
            await told(second, leech)
            await errors(leech)
            await cancelled(leech)
            await about(first, second, leech)
            with Raises(WrongSubnet):
                await ChordService(None, peers=peers, subnet="another").__aenter__()
            await leech.stop()
            with Raises(Stopped):
                await leech.get("key")
            with Raises(Stopped):
                await leech.flush()
            leech.start()  # a node may be started again
            await leech.when_joined()
            assert await leech.get("still there") is True
            await leech.order(peer(second), "leave")  # as ``chordtx leave`` does
            await second.when_left()
            with Raises(Stopped):
                await second.get("still there")
            assert await leech.get("still there") is True
            await leech.stop()
    print("done")


async def exact(node: ChordService) -> None:
    version = await node.compare_and_set("exact", 1, ABSENT)
    with Raises(Conflict):
        await node.compare_and_set("exact", 2, ABSENT)
    assert await node.compare_and_set("exact", 2, version) != version
    with Raises(Conflict):
        await node.delete("exact", version)
    assert await node.modify("exact", lambda value: value * 2) == 4
    assert await asyncio.gather(*[node.increment("exact") for _ in range(3)]) == [5, 6, 7]
    await node.touch("exact", ttl=60)
    assert (await node.entry("exact")).expires is not None
    await node.delete("exact")


async def namespaces(one: ChordService, other: ChordService) -> None:
    names, same = one.namespace("names"), other.namespace("names")
    watch = names.watch(prefix="k")
    first = asyncio.ensure_future(anext(watch))
    while not first.done():  # it tells what comes after it has begun
        await names.set("key", 1)
        await names.delete("key")
        await asyncio.sleep(0.01)
    assert first.result().key == b"key"
    await watch.aclose()
    names["a"] = names["b"] = names["c"] = 1
    await names.flush()
    begin = [key async for key in same.keys(limit=2)]
    assert sorted([*begin, *[key async for key in same.keys(after=begin[-1])]]) == [b"a", b"b", b"c"]
    assert {entry.key async for entry in same.entries(limit=5)} == {b"a", b"b", b"c"}
    with Raises(KeyError, "b'key'"):
        await same["key"]
    assert await same.namespace("in").increment("key") == 1
    assert await one["names/in/key"] == 1
    async with same.lock("name"):
        assert await one.contains("names/lock:name")
    await names.clear()
    assert await other.count("names/") == 0
    assert (names.prefix, repr(names)) == (b"names/", "<Namespace b'names/'>")


async def locks(one: ChordService, other: ChordService) -> None:
    async with one.lock("name", ttl=5) as lock:
        assert lock.is_held
        waiting = asyncio.ensure_future(other.lock("name").acquire())
        assert await other.lock("name").acquire(wait=False) is False
        while not (await one["lock:name"])["waiting"]:
            await asyncio.sleep(0.01)
        waiting.cancel()
    async with other.lock("name") as later:
        assert later.token > lock.token
    assert not later.is_held
    late = other.lock("late")  # who is cancelled in the moment when it is held does not know that
    acquiring = asyncio.ensure_future(late.acquire())
    while not late._service._is_acquired:
        await asyncio.sleep(0)
    acquiring.cancel()
    with Raises(asyncio.CancelledError):
        await acquiring
    assert await one.lock("late").acquire()
    lost = other.lock("name")
    assert await lost.acquire()
    await one.delete("lock:name")
    with Raises(LockLost):
        await lost.release()


async def watches(one: ChordService, other: ChordService) -> None:
    watch = one.watch(prefix="watched")
    assert await watch.when_ready() is watch
    version = await other.compare_and_set("watched", 1, ABSENT)  # before anybody reads the watch
    assert await anext(watch) == ("add", b"watched", 1, version)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    with Raises(asyncio.CancelledError):
        await waiting
    await other.delete("watched")  # who has ended one wait goes on with the next
    assert (await anext(watch))[:2] == ("delete", b"watched")
    await one.set("watched", 2)
    while not watch._watch._events:
        await asyncio.sleep(0.01)
    with suppress(TimeoutError):  # who is cancelled when it has come leaves it to the next one
        async with asyncio.timeout(0):
            await anext(watch)
            raise AssertionError("it was not cancelled")
    assert (await anext(watch))[:3] == ("add", b"watched", 2)
    await watch.aclose()
    assert [event async for event in watch] == []
    await left_by_break(one.namespace("left"), one)


async def left_by_break(names: Namespace, one: ChordService) -> None:
    for watched in (one, names):
        await watched.set("left", 1)
        watch = watched.watch("left")
        await watch.when_ready()
        await watched.set("left", 2)
        async for _ in watch:
            break
        assert one._service._watches._all
        del watch
        await until(lambda: not one._service._watches._all)


async def values(node: ChordService) -> None:
    await node.set("key", {"any": ["msgpack", b"value", 1.5]})
    assert await node.get(b"key") == await node["key"] == {"any": ["msgpack", b"value", 1.5]}
    assert await node.get("nothing") is None
    assert await node.get("nothing", default="default") == "default"
    assert await node.contains("key") is True
    assert await node.apply_delta("key", {"more": 1}) == {"any": ["msgpack", b"value", 1.5], "more": 1}
    assert await node.pop("key", None) is not None
    assert await node.pop("key", None) is None
    await node.set("soon gone", 1, ttl=60)
    await node.delete("soon gone")
    await node.set("still there", True)


async def several(node: ChordService) -> None:
    wanted = {f"number {number}".encode(): number for number in range(100)}
    for key, value in wanted.items():
        node[key] = value
    await node.flush()
    assert await node.count() == 101
    assert {key async for key in node} == {key async for key in node.keys()} == {*wanted, b"still there"}
    assert {key: value async for key, value in node.items()} == {**wanted, b"still there": True}
    assert sorted([value async for value in node.values() if value is not True]) == list(range(100))
    assert await node.get_many([*wanted, "nothing"]) == wanted
    assert await node.copy() == {**wanted, b"still there": True}
    for key in wanted:
        del node[key]
    await node.flush()
    await node.update({"a": 1, "b": 2})
    assert {await node.popitem() for _ in range(2)} <= {(b"a", 1), (b"b", 2), (b"still there", True)}
    await node.update({"a": None, "b": None, "still there": True})
    async for _ in node:
        break  # what is not read to its end is no matter


async def together(*nodes: ChordService) -> None:
    """Many at once; and of several that pop, one gets the value."""
    await asyncio.gather(*(nodes[number % 3].set(f"at once {number}", number) for number in range(60)))
    found = await asyncio.gather(*(nodes[number % 3].pop(f"at once {number}") for number in range(60)))
    assert found == list(range(60))
    await nodes[0].set("for one", 1)
    assert sorted(await asyncio.gather(*(node.pop("for one", 0) for node in nodes))) == [0, 0, 1]


async def told(node: ChordService, other: ChordService) -> None:
    """Keys that come and go."""
    heard: list[tuple[ChordService, bytes]] = []
    listener = other.on("add", lambda *told: heard.append(told))
    events = node.events("add", "delete")
    await asyncio.gather(node.when_hearing(), other.when_hearing())
    await other.set("told of", 1)
    await other.delete("told of")
    seen = []
    while ("delete", b"told of") not in seen:
        seen.append(await anext(events))
    assert [event for event in seen if event[1] == b"told of"] == [
        ("add", b"told of"),
        ("delete", b"told of"),
    ]
    await until(lambda: (other, b"told of") in heard)
    other.remove_listener("add", listener)


async def errors(node: ChordService) -> None:
    with Raises(KeyError):
        await node["nothing"]
    with Raises(KeyError):
        await node.delete("nothing")
    with Raises(KeyError):
        await node.pop("nothing")
    with Raises(TypeError):
        await node.set("key", object())
    with Raises(TypeError):
        node["key"] = object()
    with Raises(TypeError, "bytes-like or str"):
        await node.get(5)  # type: ignore[arg-type]
    with Raises(ValueTooLarge):
        await node.set("key", bytes(SETTINGS.value_bytes_max + 1))
    with Raises(ValueError, "ttl"):
        await node.set("key", 1, ttl=0)
    del node["nothing"]
    with Raises(KeyError):
        await node.flush()
    await node.flush()
    with Raises(TypeError, "await node.contains"):
        "key" in node  # noqa: B015
    with Raises(TypeError, "await node.count()"):
        len(node)
    with Raises(TypeError, "async for"):
        list(node)
    assert node


async def cancelled(node: ChordService) -> None:
    """A task that is cancelled in the middle of a call, or of a listing; the node goes on."""
    with Raises(TimeoutError):
        async with asyncio.timeout(0):
            await node.get("still there")
    for pause_turns in range(5):
        tasks = [asyncio.ensure_future(listed(node)), asyncio.ensure_future(node.get("still there"))]
        for _ in range(pause_turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(
            isinstance(each, asyncio.CancelledError) or each in (True, [b"still there"]) for each in ended
        )
    assert await node.get("still there") is True


async def listed(node: ChordService) -> list[bytes]:
    return [key async for key in node]


async def about(first: ChordService, second: ChordService, leech: ChordService) -> None:
    assert [node.leeching for node in (first, second, leech)] == [False, False, True]
    assert first.next is not None
    assert first.next.id == second.id_10
    assert second.prev is not None
    assert second.prev.id == first.id_10
    assert leech.status["id"] == leech.id
    assert second.protocol == (second.subnet, second.encryption) == ("demo", "Plaintext")
    assert {entry["id"] for entry in await leech.ring()} == {first.id, second.id}
    assert (await second.health(2)).nodes == 2
    assert (await leech.order(peer(first), "status"))[0]["id"] == first.id  # type: ignore[index]
    with Raises(ValueError, "listen"):
        await leech.join()
    await second.unjoin()
    assert second.leeching
    await second.join()
    assert await second.get("still there") is True


run(main, "link to 127.0.0.1 unknown> is refused", "link from 127.0.0.1 unknown> is refused")
