"""What one call may ask for is bounded: none takes a node's turns, or its memory, for itself."""

from __future__ import annotations

from random import Random

import pytest

from chordtx.chord import ChordService, old_adopter
from chordtx.chord.old_entries import Entries, Entry, places_of
from chordtx.chord.old_tables import Place
from chordtx.records import Version
from chordtx.wire import flags, pack_value
from tests.chord.test_chord_who_may_call import Caller
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

REFUSED = 1

PLACE = bytes(48)


def alone() -> tuple[Cluster, ChordService, Caller]:
    """A ring of one, and a client."""
    nodes = Cluster(ChordService)
    node = nodes.start(subnet="chord")
    nodes.run(3)
    return nodes, node, Caller(node, Random(1), ("10.7.7.7", 0), False)


def test_fetch_looks_for_few_keys_at_once() -> None:
    nodes, node, caller = alone()
    nodes.result(node.set(b"499", "last"))
    reply = caller.call(nodes, "fetch", [b"%d" % number for number in range(500)])
    assert reply is not None
    assert [entry[0] for entry in reply[1:]] == [b"499"]
    reply = caller.call(nodes, "fetch", [b"%d" % number for number in range(501)])
    assert reply is not None
    assert reply[0] == REFUSED


def test_few_broadcasts_are_compared_at_once() -> None:
    nodes, _, caller = alone()
    assert caller.call(nodes, "broadcasts", bytes(8 * 32_768)) == [0]
    reply = caller.call(nodes, "broadcasts", bytes(8 * 32_769))
    assert reply is not None
    assert reply[0] == REFUSED


def test_what_old_peers_store_is_bounded_in_bytes() -> None:
    nodes, node, caller = alone()
    blob = pack_value(bytes(4 << 20), 8 << 20)
    for number in range(40):
        place = [0, number.to_bytes(64, "big")]
        assert caller.call(nodes, "old_store", place, False, blob, PLACE) == [0]
    entries = node._old_peers._host.entries
    assert 8 <= len(entries) <= 16
    assert entries.get(Place(0, 39)) is not None
    assert entries.get(Place(0, 0)) is None


def test_keys_that_are_named_are_bounded_in_bytes() -> None:
    entries = Entries(100, 1 << 20)
    for number in range(600):
        entries.name(b"%d" % number + bytes(64_000))
    assert entries.key_at(places_of(b"599" + bytes(64_000))[0]) is not None
    assert len(entries._names) < 1500


def test_entries_that_grow_or_go_are_counted() -> None:
    entries = Entries(100, 1000)
    first, second = Place(0, 1), Place(0, 2)
    for number in range(10):
        entries.add(first, Entry({number: 1}, True, Version(number, b"w"), 90))
    entries.add(second, Entry("b", False, Version(11, b"w"), 90))
    assert len(entries) == 2
    entries.add(second, Entry("b", False, Version(12, b"w"), 190))
    assert entries.get(first) is None
    entries.settle(second, Version(20, b"w"))
    entries.add(first, Entry("a", False, Version(21, b"w"), 1000))
    assert entries.get(first) is not None


def test_hints_are_looked_into_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_adopter, "_ADOPTING_MAX", 300)
    nodes, node, caller = alone()
    looked: list[bytes] = []
    under_way: list[int] = [0, 0]
    adopter = node._old_peers._adopter
    look = adopter._try_to_adopt

    async def counted(key: bytes) -> bool:
        looked.append(key)
        under_way[0] += 1
        under_way[1] = max(under_way)
        await node.sleep(0.01)
        under_way[0] -= 1
        return await look(key)

    adopter._try_to_adopt = counted  # type: ignore[method-assign]
    caller.say(flags.CALL, [[number, "old_hint", b"%d" % number] for number in range(10, 500)])
    nodes.run(8)  # the pauses of a key of which nobody knows anything
    assert len(set(looked)) == 300
    assert under_way == [0, 32]
    assert adopter._adopting_bytes == 0
    caller = Caller(node, Random(3), ("10.7.7.7", 0), False)
    assert caller.call(nodes, "old_hint", b"one more") == [0]
    nodes.run(5)
    assert looked[-1] == b"one more"


def test_an_old_peer_that_never_answers_is_asked_few_questions() -> None:
    nodes, node, caller = alone()
    silent = Stranger(node, "bin", Random(2))
    silent.greet()
    silent.say(flags.HANDSHAKE, "0")
    nodes.run(1)
    for start in range(0, 5000, 1000):
        numbers = range(start, start + 1000)
        calls = [
            [100 + each, "old_retrieve", [0, bytes(60) + each.to_bytes(4, "big")], PLACE] for each in numbers
        ]
        caller.say(flags.CALL, calls)
        nodes.run(1.2)
        silent.say(flags.REQUEST, "*")
    tables = node._old_peers._tables
    assert 0 < sum(len(asked) for known in tables._known.values() for asked in known.asked.values()) <= 2000
    silent.end()
    nodes.run(1)
    assert not tables._known
