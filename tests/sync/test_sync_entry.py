"""Leases and entries: one outcome in any order, and the rule of the legacy peers."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.sync.entry import Entry, Rules, joined
from chordtx.sync.lease import LEASE_SECONDS, NO_LEASE, Lease
from chordtx.sync.record import Record
from chordtx.sync.version import COUNTER_BITS, Version

OWNERS = (b"A", b"B", b"C")
NOW = 1_700_000_000


def version(seconds: int, owner: bytes, counter: int = 0) -> Version:
    return Version(((NOW + seconds) * 1000 << COUNTER_BITS) + counter, owner)


leases = st.builds(Lease, st.integers(1, 3), st.integers(NOW, NOW + 3), st.sampled_from(OWNERS))
versions = st.builds(version, st.integers(0, 3), st.sampled_from(OWNERS), st.integers(0, 1))
blobs = st.sampled_from([b"\x80", b"\x81\x01\x02", b"\x05"])
records = st.builds(
    Record,
    versions,
    st.none() | blobs,
    st.none() | st.integers(NOW * 1000, NOW * 1000 + 3),
    st.dictionaries(st.sampled_from([b"\x01", b"\x02"]), st.tuples(versions, blobs), max_size=2),
)
entries = st.builds(Entry, leases, records)


@given(st.lists(entries, min_size=1, max_size=4))
def test_entries_come_to_one_in_any_order(some: list[Entry]) -> None:
    outcomes = set()
    for order in permutations(some):
        present: Entry | None = None
        for entry in (*order, order[0]):
            present = joined(present, entry)
        assert present is not None
        outcomes.add(repr(present.to_wire()))
    assert len(outcomes) == 1


@given(leases, leases, leases)
def test_leases_have_an_order(a: Lease, b: Lease, c: Lease) -> None:
    assert a.beats(b) + b.beats(a) + (a == b) == 1
    if a.beats(b) and b.beats(c):
        assert a.beats(c)


@given(entries)
def test_entries_are_read_as_they_were_written(entry: Entry) -> None:
    assert Entry.from_wire(entry.to_wire()) == entry


@pytest.mark.parametrize(
    "obj",
    [
        None,
        [],
        [1, 2, b"x"],
        [1, 2, "x", None],
        [1, 2, b"x", None],
        [-1, 2, b"x", Record(Version(1, b""), None).to_wire()],
        [1, 1 << 41, b"x", Record(Version(1, b""), None).to_wire()],
        [1, 2, b"x" * 67, Record(Version(1, b""), None).to_wire()],
        [True, 2, b"x", Record(Version(1, b""), None).to_wire()],
    ],
)
def test_what_is_no_entry_is_refused(obj: Any) -> None:
    with pytest.raises(ProtocolError):
        Entry.from_wire(obj)


def entry(lease: Lease, seconds: int, owner: bytes, value: bytes | None = b"\x01") -> Entry:
    return Entry(lease, Record(version(seconds, owner), value))


def test_own_writes_under_leases() -> None:
    rules = Rules(leasing=True, skew_seconds=10)
    first = rules.lease_for(None, b"A", NOW * 1000)
    assert first == Lease(1, NOW, b"A")
    held = entry(first, 0, b"A")
    assert rules.lease_for(held, b"A", (NOW + LEASE_SECONDS) * 1000) == first
    late = (NOW + LEASE_SECONDS + 1) * 1000
    assert rules.lease_for(held, b"A", late) == Lease(2, NOW + LEASE_SECONDS + 1, b"A")
    for seconds in (0, 10, LEASE_SECONDS, LEASE_SECONDS + 10):
        with pytest.raises(KeyError, match="leased by A for another"):
            rules.lease_for(held, b"B", (NOW + seconds) * 1000)
    taken = rules.lease_for(held, b"B", (NOW + LEASE_SECONDS + 11) * 1000)
    assert taken == Lease(2, NOW + LEASE_SECONDS + 11, b"B")
    deleted = entry(first, 5, b"A", None)
    assert rules.lease_for(deleted, b"B", (NOW + 6) * 1000) == Lease(2, NOW + 6, b"B")
    assert Rules(leasing=False, skew_seconds=10).lease_for(held, b"B", NOW * 1000) is NO_LEASE


def old_rule(present: Entry | None, owner: bytes, seconds: int, leasing: bool, is_delta: bool) -> bool:
    """What the published peers do: by the last change's owner and second alone."""
    if present is None or present.record.value is None:
        return True  # they have forgotten what was deleted
    had_owner, had_seconds = present.record.newest.writer, present.seconds
    return (
        had_owner == owner
        or (is_delta and not leasing)
        or had_seconds < seconds - LEASE_SECONDS
        or (had_seconds == seconds and had_owner > owner)
        or (had_seconds < seconds and not leasing)
    )


@given(
    st.sampled_from(OWNERS),
    st.integers(0, 3) | st.integers(LEASE_SECONDS - 1, LEASE_SECONDS + 3),
    st.sampled_from(OWNERS),
    st.integers(0, 3) | st.integers(LEASE_SECONDS - 1, LEASE_SECONDS + 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, b"\x01"]),
)
def test_legacy_peers_changes_count_as_among_themselves(
    had: bytes, had_at: int, owner: bytes, at: int, leasing: bool, is_delta: bool, value: bytes | None
) -> None:
    rules = Rules(leasing, skew_seconds=10)
    present = entry(Lease(1, NOW + had_at, had) if leasing else NO_LEASE, had_at, had, value)
    decided = rules.by_legacy_peer(present, owner, NOW + at, (NOW + at) * 1000, is_delta=is_delta)
    theirs = old_rule(present, owner, NOW + at, leasing, is_delta)
    if leasing and value is not None and at < had_at and owner != had:
        return  # who began first stands: they would keep what they met first
    assert (decided is not None) == theirs
    if decided is not None:
        lease, newer = decided
        assert newer > present.record.newest
        after = joined(present, Entry(lease, Record(newer, b"\x02")))
        assert after is not None
        assert after.record.value == b"\x02"
        assert after.meta.owner == owner.decode()
