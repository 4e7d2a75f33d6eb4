"""Many large values, and many operations at once: bounded, in order, and over the links that there are."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from chordtx import ChordService
from chordtx.chord import client, dictionary
from chordtx.config import ChordSettings
from chordtx.errors import Stopped
from chordtx.group.messages import Answer
from tests.chord.nodes import QUICK, Nodes, everything

MIB = 1 << 20
#: Time enough for all of it on a busy machine, and the usual bounds on memory.
PATIENT: ChordSettings = evolve(QUICK, call_timeout_seconds=2.0, mesh=ChordSettings().mesh)
COUNT, SIZE_BYTES = 60, 2 * MIB


def links(nodes: Nodes) -> set[Any]:
    """All links of all nodes."""
    return {link for node in (*nodes.members, *nodes.leeches) for link in node.routing_table.values()}


@pytest.mark.parametrize("is_member", [True, False])
@pytest_twisted.ensureDeferred
async def test_many_large_values_at_once_cut_no_link(nodes: Nodes, is_member: bool) -> None:
    await nodes.ring(3, PATIENT)
    node = nodes.members[0] if is_member else await nodes.leech(nodes.members[0], settings=PATIENT)
    before = links(nodes)
    values = {b"key %d" % number: bytes([number]) * SIZE_BYTES for number in range(COUNT)}
    await everything([node.set(key, value) for key, value in values.items()])
    await node.update(values)
    for key, value in values.items():
        node[key] = value
    await node.flush()
    await deferLater(
        nodes.reactor, 2 * QUICK.groups.lease_seconds
    )  # leaders ask before they answer: all at once
    found = await everything([node.get(key) for key in values])
    assert found == list(values.values())
    assert await node.get_many(values) == values
    assert await node.copy() == values
    assert sorted([value async for value in node.values()]) == sorted(values.values())
    assert not {link: link.close_reason for link in before if link.closed}


@pytest_twisted.ensureDeferred
async def test_the_largest_value_is_stored_in_a_ring_of_five_and_no_link_is_cut(nodes: Nodes) -> None:
    await nodes.ring(5, PATIENT)
    leech = await nodes.leech(nodes.members[0], settings=PATIENT)
    before = links(nodes)
    value = bytes(PATIENT.value_bytes_max - 5)
    for node in (leech, *nodes.members):
        await node.set(node.id, value)
    assert await everything([leech.get(node.id) for node in nodes.members]) == [value] * 5
    assert not {link: link.close_reason for link in before if link.closed}


@pytest_twisted.ensureDeferred
async def test_pages_with_values_are_asked_ahead_by_their_size(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionary, "_AHEAD_BYTES_MAX", 4 * MIB)
    node = await nodes.first(PATIENT)
    await node.update({f"key {number}": bytes(2 * MIB) for number in range(40)})
    asked: list[int] = []
    together: dict[int, int] = {}
    ask = node._list

    def counted(partition: int, *rest: Any) -> Deferred[Answer]:
        asked.append(partition)
        together.setdefault(partition, len(asked))
        waiting = deferLater(nodes.reactor, 0.01).addCallback(lambda _: ask(partition, *rest))
        return waiting.addBoth(lambda answer: asked.remove(partition) or answer)

    node._list = counted  # type: ignore[method-assign]
    assert len([key async for key in node.keys()]) == 40
    assert list(together.values()) == [1, 2, 3, 4, 5, 6, 7, 8]  # without values, all
    together.clear()
    assert len([value async for value in node.values()]) == 40
    assert list(together.values())[:4] == [1, 2, 3, 4]  # of 1 MiB, as a page is expected to be
    assert max(list(together.values())[4:]) <= 2  # of 2 MiB, as they are


@pytest_twisted.ensureDeferred
async def test_a_loop_that_assigns_is_far_ahead_and_everything_is_stored(nodes: Nodes) -> None:
    await nodes.ring(3)
    node = await nodes.leech(nodes.members[0])
    count = 6000
    for number in range(count):
        node[f"key {number}"] = number
        node["same"] = number
    assert node._assignments.under_way <= 1000
    await node.flush()
    assert await node.count() == count + 1
    assert await node["same"] == count - 1
    assert await node["key 5999"] == 5999


@pytest_twisted.ensureDeferred
async def test_what_goes_beyond_waits_its_turn_in_order(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CHANGES_MAX", 3)
    monkeypatch.setattr(client, "READS_MAX", 5)
    node = await nodes.first()
    began: list[bytes] = []
    begin = client._Asking.begin

    def noted(self: client._Asking) -> None:
        changes = [each for each in node._client._under_way if each.size_bytes]
        assert len(changes) <= 3
        assert len(node._client._under_way) <= 5 + 3
        began.append(self._key)
        begin(self)

    monkeypatch.setattr(client._Asking, "begin", noted)
    keys = [b"%d" % number for number in range(50)]
    sets = [node.set(key, key) for key in keys]
    cancelled = sets.pop(20)
    cancelled.addErrback(lambda failure: failure.trap(CancelledError))
    cancelled.cancel()
    await everything(sets)
    assert began == keys[:20] + keys[21:]
    assert await everything([node.get(key) for key in keys]) == [*keys[:20], None, *keys[21:]]
    assert not node._client._under_way
    assert (node._client._changes_count, node._client._changes_bytes) == (0, 0)


@pytest_twisted.ensureDeferred
async def test_bytes_of_changes_under_way_are_bounded_and_gets_do_not_wait(nodes: Nodes) -> None:
    await nodes.ring(3, PATIENT)
    leech: ChordService = await nodes.leech(nodes.members[0], settings=PATIENT)
    await leech.set("small", 1)
    sets = [leech.set(f"key {number}", bytes(MIB - 100)) for number in range(40)]
    got = leech.get("small")
    assert leech._client._changes_bytes <= client.CHANGES_BYTES_MAX
    assert len(leech._client._waiting_changes) == 36
    assert await got == 1
    assert leech._client._waiting_changes  # it has overtaken them
    await everything(sets)


@pytest_twisted.ensureDeferred
async def test_what_waits_for_its_turn_ends_with_the_service(nodes: Nodes) -> None:
    await nodes.ring(3, PATIENT)
    leech = await nodes.leech(nodes.members[0], settings=PATIENT)
    sets = [leech.set(f"key {number}", bytes(MIB)) for number in range(40)]
    for number in range(3000):
        leech[f"assigned {number}"] = number
    flushed = leech.flush()
    stopped = leech.stopService()
    for waiting in (*sets[-5:], flushed):
        with pytest.raises(Stopped):
            await waiting
    for waiting in sets[:-5]:
        waiting.addErrback(lambda failure: failure.trap(Stopped))
    await stopped
    assert leech._assignments.under_way == 0
