"""Watches that end, on real links."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred

from chordtx.group.operations import WATCH
from tests.chord.nodes import Nodes


@pytest_twisted.ensureDeferred
async def test_a_watch_that_is_closed_by_what_it_tells_asks_no_more(nodes: Nodes) -> None:
    node: Any = await nodes.first()
    watch = await node.watch("key").when_ready()

    async def first() -> str:
        async for event in watch:
            await watch.aclose()
            return str(event.kind)
        return "none"

    told = Deferred.fromCoroutine(first())
    await node.set("key", 1)
    assert await told == "add"
    asked = 0
    ask = node._client.do

    def count(partition: int, kind: int, *rest: Any) -> Any:
        nonlocal asked
        asked += kind == WATCH
        return ask(partition, kind, *rest)

    node._client.do = count
    for value in range(3):
        await node.set("key", value)
    assert asked == 0
    assert not node._watches._all
