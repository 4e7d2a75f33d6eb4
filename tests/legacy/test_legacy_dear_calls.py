"""What one call for legacy peers may ask for is bounded: none takes a node's turns, or memory, for itself."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.chord import ChordService
from chordtx.config import ChordSettings
from chordtx.legacy import counter
from chordtx.legacy.entries import Entries, Pointers
from chordtx.legacy.tables import Place, places_of
from chordtx.wire import flags, pack_value
from tests.chord.test_chord_who_may_call import Caller
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

PLACE = bytes(48)


def alone() -> tuple[Cluster, ChordService, Caller]:
    """A ring of one, and a client."""
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord", settings=ChordSettings(partition_bits=3))
    nodes.run(3)
    return nodes, node, Caller(node, Random(1), ("10.7.7.7", 0), False)


def test_what_legacy_peers_store_is_bounded_in_bytes() -> None:
    nodes, node, caller = alone()
    blob = pack_value(bytes(4 << 20), 8 << 20)
    for number in range(40):
        place = [0, number.to_bytes(64, "big")]
        assert caller.call(nodes, "legacy_store", place, False, blob, PLACE) == [0]
    entries = node._legacy._host.entries
    assert 8 <= len(entries) <= 16
    assert entries.get(Place(0, 39)) is not None
    assert entries.get(Place(0, 0)) is None


def test_keys_that_are_named_are_bounded_in_bytes() -> None:
    pointers = Pointers()
    for number in range(600):
        pointers.name(b"%d" % number + bytes(64_000))
    assert pointers.key_at(places_of(b"599" + bytes(64_000))[0]) is not None
    assert len(pointers._names) < 1500


def test_entries_that_grow_or_go_are_counted() -> None:
    entries = Entries(100, 1000)
    first, second = Place(0, 1), Place(0, 2)
    for number in range(10):
        entries.add(first, {number: 1}, True, 90)
    entries.add(second, "b", False, 90)
    assert len(entries) == 2
    entries.add(second, "b", False, 190)
    assert entries.get(first) is None
    entries.take(second)
    entries.add(first, "a", False, 1000)
    assert entries.get(first) is not None


def test_hints_are_looked_into_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter, "_COUNTED_MAX", 300)
    nodes, node, caller = alone()
    looked: list[bytes] = []
    under_way = [0, 0]
    counting = node._legacy._counter
    look = counting._look

    async def counted(key: bytes, is_last: bool) -> bool:
        looked.append(key)
        under_way[0] += 1
        under_way[1] = max(under_way)
        await node.sleep(0.01)
        under_way[0] -= 1
        return await look(key, is_last)

    counting._look = counted  # type: ignore[method-assign]
    caller.say(flags.CALL, [[number, "legacy_hint", b"%d" % number] for number in range(10, 500)])
    nodes.run(20)  # the pauses of a key of which nobody knows anything
    assert len(set(looked)) == 300
    assert under_way == [0, 32]
    assert counting._counted_bytes == 0
    caller = Caller(node, Random(3), ("10.7.7.7", 0), False)
    assert caller.call(nodes, "legacy_hint", b"one more") == [0]
    nodes.run(5)
    assert looked[-1] == b"one more"


def test_a_legacy_peer_that_never_answers_is_asked_few_questions() -> None:
    nodes, node, caller = alone()
    silent = Stranger(node, "bin", Random(2))
    silent.greet()
    silent.say(flags.HANDSHAKE, "0")
    nodes.run(1)
    for start in range(0, 5000, 1000):
        numbers = range(start, start + 1000)
        calls = [
            [100 + each, "legacy_retrieve", [0, bytes(60) + each.to_bytes(4, "big")], PLACE]
            for each in numbers
        ]
        caller.say(flags.CALL, calls)
        nodes.run(1.2)
        silent.say(flags.REQUEST, "*")
    tables = node._legacy._tables
    assert 0 < sum(len(asked) for known in tables._known.values() for asked in known.asked.values()) <= 2000
    silent.end()
    nodes.run(1)
    assert not tables._known
