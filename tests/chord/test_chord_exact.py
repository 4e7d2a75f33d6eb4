"""Compare-and-set, counters, times to live: exact, whoever calls at the same moment."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from chordtx import ABSENT, Conflict, Entry
from tests.chord.nodes import Nodes, everything

OTHER = (1 << 64) - 1


@pytest_twisted.ensureDeferred
async def test_compare_and_set_goes_by_the_version(nodes: Nodes) -> None:
    first, second, _ = await nodes.ring(3)
    version = await first.compare_and_set("key", "one", ABSENT)
    assert (await second.entry("key")) == Entry(b"key", "one", version, None)
    with pytest.raises(Conflict) as caught:
        await second.compare_and_set("key", "two", ABSENT)
    assert caught.value.version == version
    newer = await second.compare_and_set("key", "two", version, ttl=1000)
    assert (await first.entry("key")).expires is not None
    with pytest.raises(Conflict) as caught:
        await first.compare_and_set("key", "three", version)
    assert caught.value.version == newer != version
    assert await first.compare_and_set("key", None, newer) is ABSENT
    with pytest.raises(Conflict) as caught:
        await first.compare_and_set("key", "three", newer)
    assert caught.value.version is ABSENT
    assert await second.get("key") is None


@pytest_twisted.ensureDeferred
async def test_what_is_no_version_is_refused_before_anything_is_done(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    for wrong in ("no version", "", "a" * 300):
        with pytest.raises(ValueError, match="no version of chordtx"):
            await node.compare_and_set("key", 1, wrong)
        with pytest.raises(ValueError, match="no version of chordtx"):
            await node.delete("key", wrong)
    for wrong in (None, 1, b"bytes"):
        with pytest.raises(TypeError, match="a version is text"):
            await node.compare_and_set("key", 1, wrong)
    with pytest.raises(ValueError):
        await node.compare_and_set("key", 1, ABSENT, ttl=float("inf"))
    assert not await node.contains("key")


@pytest_twisted.ensureDeferred
async def test_a_key_is_deleted_if_it_still_has_a_version(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    version = await node.compare_and_set("key", 1, ABSENT)
    await node.set("key", 2)
    with pytest.raises(Conflict) as caught:
        await node.delete("key", version)
    assert await node["key"] == 2
    await node.delete("key", caught.value.version)
    with pytest.raises(KeyError):
        await node.delete("key", caught.value.version)
    with pytest.raises(KeyError):
        await node.delete("key")


@pytest_twisted.ensureDeferred
async def test_modify_is_exact_though_many_do_it_at_once(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    leech = await nodes.leech(members[0])

    def with_one_more(items: list[int]) -> list[int]:
        return [*items, len(items)]

    told = await everything(
        [node.modify("list", with_one_more, []) for node in (*members, leech) for _ in range(5)]
    )
    assert await members[0]["list"] == list(range(20))
    assert sorted(map(len, told)) == list(range(1, 21))


@pytest_twisted.ensureDeferred
async def test_modify_keeps_how_long_a_value_stays(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    await node.set("key", 1, ttl=1000)
    expires = (await node.entry("key")).expires
    assert await node.modify("key", lambda value: value + 1) == 2
    assert (await node.entry("key")).expires == expires
    assert await node.modify("key", lambda value: (value, "a tuple"), ttl=5000) == [2, "a tuple"]
    assert (await node.entry("key")).expires > expires + 3000
    assert await node.modify("other", lambda value: value) is None
    assert await node.modify("key", lambda value: None) is None
    assert await node.count() == 0
    assert await node.modify("key", lambda value: value, default="default") == "default"


@pytest_twisted.ensureDeferred
async def test_what_the_function_raises_is_the_failure(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    await node.set("key", 1)
    with pytest.raises(ZeroDivisionError):
        await node.modify("key", lambda value: value / 0)
    with pytest.raises(TypeError):
        await node.modify("key", lambda value: object())
    with pytest.raises(TypeError, match="takes a function"):
        node.modify("key", 2)
    assert await node["key"] == 1


@pytest_twisted.ensureDeferred
async def test_increments_of_many_are_all_counted(nodes: Nodes) -> None:
    members = await nodes.ring(3)
    told = await everything([node.increment("hits") for node in members for _ in range(50)])
    assert sorted(told) == list(range(1, 151))
    assert await members[0].increment("hits", -150) == 0
    assert await members[0].increment("hits", 0.5) == 0.5


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_counted(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    await node.set("text", "5")
    await node.set("bool", True)
    for key in ("text", "bool"):
        with pytest.raises(TypeError, match="no number"):
            await node.increment(key)
    for by in (True, "1", None):
        with pytest.raises(TypeError):
            node.increment("hits", by)
    for by in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            node.increment("hits", by)
    with pytest.raises(OverflowError):
        node.increment("hits", 1 << 64)
    assert await node.increment("hits", OTHER) == OTHER
    with pytest.raises(OverflowError):
        await node.increment("hits")
    assert await node["hits"] == OTHER


@pytest_twisted.ensureDeferred
async def test_touch_renews_a_time_to_live_and_nothing_else(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    await node.set("key", "value", ttl=100)
    before = await node.entry("key")
    await node.touch("key", ttl=1000)
    after = await node.entry("key")
    assert after.value == "value"
    assert after.expires > before.expires + 800
    assert after.version != before.version
    await node.touch("key")
    assert (await node.entry("key")).expires is None
    with pytest.raises(KeyError):
        await node.touch("other", ttl=5)
    with pytest.raises(ValueError):
        node.touch("key", ttl=0)
