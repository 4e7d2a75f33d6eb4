"""The forms of the dict's methods: what ``update`` takes, prefixes, keys of every kind, times to live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.task import deferLater

from chordtx import ChordService, SyncService
from chordtx.errors import ValueTooLarge
from chordtx.group import operations
from chordtx.values import TTL_SECONDS_MAX
from tests.chord.nodes import QUICK, Nodes, everything

Make = Callable[[Nodes], Any]


class HasKeys:
    """No mapping, and yet what ``dict.update`` takes."""

    def keys(self) -> Iterator[str]:
        return iter(("x", "y"))

    def __getitem__(self, key: str) -> str:
        return key * 2


async def ring_of_three(nodes: Nodes) -> Any:
    """A leech of a ring."""
    await nodes.ring(3)
    return await nodes.leech(nodes.members[0])


async def dict_that_all_have(nodes: Nodes) -> Any:
    """A node with a copy of its own."""
    node = SyncService(nodes.reactor, listen=None)
    nodes.leeches.append(node)  # type: ignore[arg-type]  # it is only to be stopped
    node.startService()
    return node


EITHER = pytest.mark.parametrize("make", [ring_of_three, dict_that_all_have])


@EITHER
@pytest_twisted.ensureDeferred
async def test_update_takes_what_dict_update_takes(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    await node.update({"a": 1, b"b": 2})
    await node.update([("c", 3), [b"d", 4], "e5"])
    await node.update(HasKeys())
    await node.update(f=6, self=7, mapping=8)
    await node.update({"g": 9}, h=10)
    await node.update((key, 11) for key in ("i", "j"))
    await node.update()
    expected = {"a": 1, "b": 2, "c": 3, "d": 4, "e": "5", "x": "xx", "y": "yy", "f": 6, "self": 7}
    expected |= {"mapping": 8, "g": 9, "h": 10, "i": 11, "j": 11}
    assert await node.copy() == {key.encode(): value for key, value in expected.items()}
    await node.update([("a", "first"), (b"a", "last"), ("b", 1)], b=None)  # the later counts
    assert await node.get_many(["a", "b"]) == {b"a": "last"}


@EITHER
@pytest_twisted.ensureDeferred
async def test_update_refuses_what_dict_update_refuses_and_stores_nothing(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    for wrong, error in (
        (7, TypeError),
        (None, TypeError),
        ([("a", 1), 2], TypeError),
        ([("a", 1), ("b", 2, 3)], ValueError),
        (["a", "bc"], ValueError),
        ([("a", 1), (2, 2)], TypeError),
        ([("a", 1), ("b", object())], TypeError),
        (node, TypeError),
    ):
        with pytest.raises(error):
            node.update(wrong)
    with pytest.raises(ValueError, match="ttl"):
        node.update({"a": 1}, ttl=0)
    assert await node.count() == 0


@EITHER
@pytest_twisted.ensureDeferred
async def test_what_update_stores_may_expire(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    await node.update({"short": 1}, ttl=0.3)
    await node.update({"long": 2}, other=3, ttl=3600)
    deadline = nodes.reactor.seconds() + 10
    while await node.contains("short"):
        assert nodes.reactor.seconds() < deadline
        await deferLater(nodes.reactor, 0.05)
    assert await node.copy() == {b"long": 2, b"other": 3}


@EITHER
@pytest_twisted.ensureDeferred
async def test_setdefault_stores_once(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    assert await node.setdefault("key", ("a", "tuple")) == ["a", "tuple"]
    assert await node.setdefault("key", 2) == ["a", "tuple"]
    assert await node.setdefault("key") == ["a", "tuple"]
    assert await node.setdefault("nothing") is None
    assert not await node.contains("nothing")
    assert await node.setdefault("short", 1, ttl=0.2) == 1
    deadline = nodes.reactor.seconds() + 10
    while await node.setdefault("short", 2) == 1:
        assert nodes.reactor.seconds() < deadline
        await deferLater(nodes.reactor, 0.05)
    assert await node["short"] == 2
    with pytest.raises(TypeError):
        node.setdefault("key", object())


@pytest_twisted.ensureDeferred
async def test_of_many_who_set_a_default_all_get_what_one_stored(nodes: Nodes) -> None:
    await nodes.ring(3)
    callers = [*nodes.members, *[await nodes.leech(nodes.members[0]) for _ in range(3)]]
    for round in range(20):
        key = f"key {round}"
        told = await everything([node.setdefault(key, number) for number, node in enumerate(callers)])
        assert len(set(told)) == 1
        assert await callers[0][key] == told[0]


@EITHER
@pytest_twisted.ensureDeferred
async def test_clear_takes_everything_away(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    await node.update({f"key {number}": number for number in range(1200)})  # more than a page
    await node.clear()
    assert await node.copy() == {}
    await node.clear()


@EITHER
@pytest_twisted.ensureDeferred
async def test_listings_of_a_prefix(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    users = {f"user:{number}".encode(): number for number in range(30)}
    await node.update({**users, "use": 1, "usez": 2, "other": 3})
    for prefix in ("user:", b"user:", bytearray(b"user:"), memoryview(b"user:")):
        assert await node.count(prefix) == len(users)
        assert sorted([key async for key in node.keys(prefix=prefix)]) == sorted(users)
        assert {key: value async for key, value in node.items(prefix)} == users
        assert sorted([value async for value in node.values(prefix)]) == sorted(users.values())
    assert await node.count("nothing") == 0
    assert [key async for key in node.keys("nothing")] == []
    assert await node.count() == len(users) + 3
    for listing in (node.count, node.keys, node.items, node.values):
        with pytest.raises(TypeError, match="bytes-like"):
            listing(7)


@pytest_twisted.ensureDeferred
async def test_the_leaders_leave_out_what_has_another_prefix(nodes: Nodes) -> None:
    leech = await ring_of_three(nodes)
    await leech.update({f"{letter} {number}": number for letter in "ab" for number in range(50)})
    brought: list[int] = []
    ask = leech._client.do

    def counted(partition: int, kind: int, key: bytes, arguments: Any) -> Any:
        asked = ask(partition, kind, key, arguments)
        if kind == operations.LIST:
            asked.addCallback(lambda answer: brought.append(len(answer.detail[0])) or answer)
        return asked

    leech._client.do = counted
    assert len([key async for key in leech.keys("a ")]) == 50
    assert sum(brought) == 50


@EITHER
@pytest_twisted.ensureDeferred
async def test_keys_are_bytes_like_everywhere(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    kinds: list[Any] = ["ä", "ä".encode(), bytearray("ä".encode()), memoryview("ä".encode())]
    for number, key in enumerate(kinds):
        await node.set(key, number)
        assert [await node.get(each) for each in kinds] == [number] * 4
        assert await node[key] == await node.setdefault(key, -1) == await node.pop(key) == number
        assert not await node.contains(key)
        node[key] = {"a": number}
        await node.flush()
        assert await node.apply_delta(key, {"b": 1}) == {"a": number, "b": 1}
        assert list(await node.get_many([key])) == ["ä".encode()]
        del node[key]
        await node.flush()
        await node.update([(key, 1)])
        await node.delete(key)
    assert await node.count() == 0
    changing = bytearray(b"before")
    node[changing] = 1
    changing[:] = b"later!"
    await node.flush()
    assert await node.copy() == {b"before": 1}


@EITHER
@pytest_twisted.ensureDeferred
async def test_other_keys_are_refused_with_a_reason(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    calls: Iterable[Callable[[Any], Any]] = (
        node.get,
        node.__getitem__,
        node.contains,
        lambda key: node.set(key, 1),
        lambda key: node.setdefault(key, 1),
        node.delete,
        node.pop,
        lambda key: node.apply_delta(key, {}),
        lambda key: node.update([(key, 1)]),
        lambda key: node.get_many([key]),
        lambda key: node.__setitem__(key, 1),
        node.__delitem__,
    )
    for key in (None, 1, 1.5, ["a"], ("a",), object()):
        for call in calls:
            with pytest.raises(TypeError, match="a key is bytes-like or str, not"):
                call(key)
    for one in ("key", b"key"):
        with pytest.raises(TypeError, match="several keys"):
            node.get_many(one)
    assert await node.count() == 0


WRONG_TTLS: list[tuple[Any, type[Exception]]] = [
    *((each, ValueError) for each in (inf, -inf, nan, 0, 0.0, -1, 1e18, 10**400, TTL_SECONDS_MAX + 1)),
    *((each, TypeError) for each in (True, False, "1", b"1", [1], Decimal(1), 1j)),
]


@EITHER
@pytest_twisted.ensureDeferred
async def test_a_ttl_that_makes_no_sense_is_refused_before_anything_is_sent(nodes: Nodes, make: Make) -> None:
    node = await make(nodes)
    for ttl, error in WRONG_TTLS:
        for call in (
            lambda ttl: node.set("key", 1, ttl=ttl),
            lambda ttl: node.set("key", None, ttl=ttl),
            lambda ttl: node.setdefault("key", 1, ttl=ttl),
            lambda ttl: node.update({"key": 1}, ttl=ttl),
            lambda ttl: node.update(ttl=ttl),
        ):
            with pytest.raises(error, match="ttl"):
                call(ttl)
    assert not await node.contains("key")
    for good in (TTL_SECONDS_MAX, 1e10, 60, Fraction(121, 2)):
        await node.set("key", good if isinstance(good, int) else 1, ttl=good)
        assert await node.contains("key")
    await node.set("soon", 1, ttl=1e-9)  # over, if anything, at once


@pytest_twisted.ensureDeferred
async def test_a_prefix_is_no_longer_than_a_key(nodes: Nodes) -> None:
    node: ChordService = await nodes.first(evolve(QUICK, key_bytes_max=10))
    with pytest.raises(ValueTooLarge):
        node.count("x" * 11)
