"""A node that has too much to do is late, and not dead: nobody gives it up, and calls go on without it."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.chord.nodes import QUICK, Nodes

ROUNDS_SECONDS = 4.0  # several rounds of stabilization, and time-outs of calls


@pytest_twisted.ensureDeferred
async def test_a_late_node_stays_in_the_ring(nodes: Nodes) -> None:
    members = await nodes.ring(4, QUICK)
    late = members[-1]
    served = dict(late._methods)

    def never(*_: Any) -> Deferred[Any]:
        return Deferred()

    for method in ("neighbours", "find", "status", "led_groups"):
        late._methods[method] = never
    others = members[:-1]
    epochs = [node._routing.arcs.epoch for node in others]
    await deferLater(nodes.reactor, ROUNDS_SECONDS)
    for number, node in enumerate(others):
        await node.set(b"meanwhile %d" % number, number)
    assert await others[0].get(b"meanwhile 1") == 1
    assert [node._routing.arcs.epoch for node in others] == epochs
    for node in others:
        assert late._ring.me in node._ring.successors
    late._methods.update(served)
    await nodes.settled()
    assert await late.get(b"meanwhile 2") == 2
