"""A node that has too much to do is late, and not dead: nobody gives it up, and calls go on without it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from chordtx.chord.old_entries import places_of
from chordtx.mesh import CallTimeout
from tests.chord.nodes import QUICK, Nodes

ROUNDS_SECONDS = 4.0  # several rounds of stabilization, and time-outs of calls


@pytest_twisted.ensureDeferred
async def test_a_late_node_stays_in_the_ring(nodes: Nodes) -> None:
    members = await nodes.ring(4, QUICK)
    late = members[-1]
    served = dict(late._methods)

    def never(*_: Any) -> Deferred[Any]:
        return Deferred()

    for method in ("neighbours", "find", "version", "read", "write", "keys", "tree"):
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


@pytest_twisted.ensureDeferred
async def test_the_host_of_an_old_peer_that_hangs_is_not_forgotten(nodes: Nodes) -> None:
    members = await nodes.ring(3, QUICK)
    asking, host = members[0], members[1]
    host._methods["old_refresh"] = lambda *_: Deferred()  # it waits for that peer
    owner = asking._routing.arcs.owner
    keys = (b"key %d" % number for number in range(1000))
    key = next(key for key in keys if owner(places_of(key)[0].position) == host._ring.me)
    epoch = asking._routing.arcs.epoch
    with pytest.raises(CallTimeout):
        await Deferred.fromCoroutine(asking._old_peers.refresh(key))
    assert asking._routing.arcs.epoch == epoch
