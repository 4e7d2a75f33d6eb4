"""Keys that strangers only ask for, or name, take no memory for long."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from chordtx.chord import ChordService
from chordtx.chord.old_entries import Entries, Entry, places_of
from chordtx.records import Version
from chordtx.wire import flags
from tests.fuzz.memory import held_bytes
from tests.mesh.fuzz import Stranger
from tests.sim.cluster import Cluster

KEY_BYTES = 60_000
KEYS = 150
#: 9 MB are said. Names that old peers tell are kept by each of seven nodes, up to a bound.
ASKED_BYTES_MAX = 4 * 10**6
NAMED_BYTES_MAX = 20 * 10**6


def calls(number: int, key: bytes) -> tuple[Any, ...]:
    """All methods that take a key, for a node of ours."""
    asked = [
        ["read", key, b""],
        ["version", key, b""],
        ["fetch", [key]],
        ["old_hint", key],
        ["old_refresh", key],
    ]
    return (flags.CALL, [[number * len(asked) + place, *call] for place, call in enumerate(asked)])


def notice(number: int, key: bytes) -> tuple[Any, ...]:
    """An old peer names a key."""
    return (flags.NOTIFY, key)


def deletion(number: int, key: bytes) -> tuple[Any, ...]:
    """An old peer has deleted a key."""
    return (flags.NOTIFY, key, b"del")


@pytest.mark.parametrize(
    ("kind", "payload", "bytes_max"),
    [
        ("ours", calls, ASKED_BYTES_MAX),
        ("bin", notice, NAMED_BYTES_MAX),
        ("bin", deletion, NAMED_BYTES_MAX),
    ],
)
def test_long_keys_are_not_kept(
    kind: str, payload: Callable[[int, bytes], tuple[Any, ...]], bytes_max: int
) -> None:
    nodes = Cluster(ChordService)
    members = nodes.several(7, subnet="chord")  # more than keep a record: who does depends on the key
    nodes.run(8)
    rng = Random(1)
    stranger = Stranger(members[0], kind, rng)
    stranger.greet()
    before_bytes = held_bytes()
    for number in range(KEYS):
        stranger.say(*payload(number, rng.randbytes(KEY_BYTES)))
        nodes.run(0.02)
    assert not stranger.gone
    nodes.run(25)
    stranger.transport.clear()
    assert held_bytes() - before_bytes < bytes_max
    stranger.end()


def test_names_and_entries_are_bounded_in_bytes() -> None:
    rng = Random(2)
    entries = Entries(entries_max=1000, bytes_max=10**6)
    last = b""
    before_bytes = held_bytes()
    for number in range(400):
        last = rng.randbytes(KEY_BYTES)
        entries.name(last)
        for place in places_of(last):
            value = rng.randbytes(KEY_BYTES)
            entries.add(place, Entry(value, False, Version(number, b""), len(value)))
            entries.add(place, Entry({"a": value}, True, Version(number, b"b"), len(value)))
    assert held_bytes() - before_bytes < 12 * 10**6
    assert 0 < len(entries) <= 1000
    place = places_of(last)[0]
    assert entries.key_at(place) == last
    for place in places_of(last):
        entries.settle(place, Version(1000, b""))
        assert entries.get(place) is None


def test_few_large_entries_leave_room_when_they_are_past() -> None:
    entries = Entries(entries_max=10, bytes_max=100)
    first, second = places_of(b"key")[:2]
    entries.add(first, Entry("x", False, Version(1, b""), 60))
    entries.add(first, Entry("y", False, Version(2, b""), 60))
    entries.add(second, Entry("z", False, Version(3, b""), 40))
    assert len(entries) == 2
    entries.add(second, Entry({"a": 1}, True, Version(4, b""), 1))
    assert entries.get(first) is None
    assert len(entries) == 1
