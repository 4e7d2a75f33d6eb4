"""Records in memory: merged and never replaced by older ones, paged by the position that names them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from chordtx.records import Record, Version, merge
from chordtx.ring import SIZE
from chordtx.store import IStore, MemoryStore
from chordtx.store.memory import naming_position

KEYS = [b"key %d" % number for number in range(300)]


def record(clock: int, value: bytes | None = b"value") -> Record:
    return Record(Version(clock, b"writer"), value)


@pytest.fixture
def store() -> MemoryStore:
    """A store with :data:`KEYS`."""
    filled = MemoryStore()
    for key in KEYS:
        filled.merge(key, record(1))
    return filled


def placed(keys: list[bytes]) -> list[tuple[int, bytes]]:
    """Keys with the positions that name them, the highest first."""
    return sorted(((naming_position(key), key) for key in keys), reverse=True)


def test_it_is_a_store() -> None:
    assert verifyObject(IStore, MemoryStore())


def test_nothing_is_there_at_first() -> None:
    store = MemoryStore()
    assert store.get(b"key") is None
    assert len(store) == store.bytes_used == 0
    assert list(store.keys()) == []
    assert store.keys_down_from(SIZE - 1, 0, 10) == []
    assert store.synced() is None


def test_newer_wins_in_any_order() -> None:
    store = MemoryStore()
    assert store.merge(b"key", record(2, b"new")) == record(2, b"new")
    assert store.merge(b"key", record(1, b"old")) == record(2, b"new")
    assert store.get(b"key") == record(2, b"new")
    assert store.merge(b"key", record(3, None)) == store.get(b"key") == record(3, None)
    assert len(store) == 1


def test_fields_are_merged() -> None:
    store = MemoryStore()
    version = Version(1, b"writer")
    for name in (b"a", b"b"):
        store.merge(b"key", Record(version, b"\x80", None, {name: (Version(2, name), b"\x01")}))
    merged = store.get(b"key")
    assert merged is not None
    assert set(merged.fields) == {b"a", b"b"}


def test_what_is_dropped_is_gone(store: MemoryStore) -> None:
    store.drop(b"key 7")
    store.drop(b"key 7")
    store.drop(b"never there")
    assert store.get(b"key 7") is None
    assert len(store) == len(KEYS) - 1
    assert b"key 7" not in {key for _, key in store.keys_down_from(SIZE - 1, 0, 1000)}


def test_keys_are_of_the_moment_when_they_were_asked_for(store: MemoryStore) -> None:
    found = []
    for key in store.keys():
        found.append(key)
        store.drop(key)
        store.merge(key + b"!", record(1))
    assert sorted(found) == sorted(KEYS)


@pytest.mark.parametrize("limit", [1, 7, 299, 300, 1000])
def test_pages_follow_one_another(store: MemoryStore, limit: int) -> None:
    found: list[tuple[int, bytes]] = []
    position = SIZE - 1
    while page := store.keys_down_from(position, 0, limit):
        assert len(page) <= limit
        found += page
        position = page[-1][0] - 1
    assert found == placed(KEYS)


def test_a_page_has_both_its_ends(store: MemoryStore) -> None:
    everything = placed(KEYS)
    high, low = everything[10][0], everything[20][0]
    assert store.keys_down_from(high, low, 1000) == everything[10:21]
    assert store.keys_down_from(high - 1, low + 1, 1000) == everything[11:20]
    assert store.keys_down_from(low, high, 1000) == []


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["merge", "drop"]),
        st.sampled_from(KEYS[:5]),
        st.integers(1, 9),
        st.none() | st.binary(max_size=20),
    )
)


@given(OPERATIONS)
def test_it_does_what_a_dict_of_merged_records_does(operations: list[Any]) -> None:
    store, model = MemoryStore(), dict[bytes, Record | None]()
    for what, key, clock, value in operations:
        if what == "drop":
            store.drop(key)
            model.pop(key, None)
        else:
            model[key] = merge(model.get(key), record(clock, value))
            assert store.merge(key, record(clock, value)) == model[key]
    assert {key: store.get(key) for key in store.keys()} == model
    assert store.keys_down_from(SIZE - 1, 0, 100) == placed(list(model))
    fresh = MemoryStore()
    for key, kept in model.items():
        assert kept is not None
        fresh.merge(key, kept)
    assert store.bytes_used == fresh.bytes_used
    for key in model:
        store.drop(key)
    assert store.bytes_used == len(store) == 0


def test_bytes_used_grow_with_what_is_kept() -> None:
    store = MemoryStore()
    store.merge(b"key", record(1, b"x" * 1000))
    assert 1003 <= store.bytes_used <= 1003 + 500
    store.merge(b"key", record(2, None))
    assert store.bytes_used < 500
