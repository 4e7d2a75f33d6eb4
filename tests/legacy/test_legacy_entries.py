"""What a host knows of its positions, and how much of it is kept."""

from __future__ import annotations

from chordtx.legacy.entries import Entries, Pointers
from chordtx.legacy.tables import Place, places_of

PLACE, OTHER = Place(0, 1), Place(1, 2)


def test_the_latest_store_stands_and_deltas_are_merged() -> None:
    entries = Entries(10, 1000)
    entries.add(PLACE, {"a": 1}, True, 10)
    entries.add(PLACE, {"b": 2}, True, 10)
    entry = entries.get(PLACE)
    assert entry is not None
    assert (entry.value, entry.is_delta) == ({"a": 1, "b": 2}, True)
    assert entry.over({"a": 0, "c": 3}) == {"a": 1, "b": 2, "c": 3}
    entries.add(PLACE, "value", False, 10)
    entries.add(PLACE, {"d": 4}, True, 10)
    entry = entries.get(PLACE)
    assert entry is not None
    assert (entry.value, entry.is_delta) == ({"d": 4}, False)


def test_a_copy_says_nothing_new() -> None:
    entries = Entries(10, 1000)
    assert entries.add(PLACE, None, False, 1).is_copy_of(None)
    assert entries.add(PLACE, "value", False, 1).is_copy_of("value")
    assert not entries.add(PLACE, "value", False, 1).is_copy_of(None)
    entries.take(PLACE)
    assert entries.add(PLACE, {"a": 1}, True, 1).is_copy_of({"a": 1, "b": 2})
    entries.take(PLACE)
    assert not entries.add(PLACE, {"a": 1}, True, 1).is_copy_of({"b": 2})


def test_each_store_has_a_number_and_is_to_be_based_anew() -> None:
    entries = Entries(10, 1000)
    first = entries.add(PLACE, 1, False, 1)
    entries.put_base(PLACE, None)
    entry = entries.get(PLACE)
    assert entry is not None
    assert (entry.number, entry.is_based) == (first.number, True)
    second = entries.add(PLACE, 2, False, 1)
    assert second.number > first.number
    assert not second.is_based


def test_the_oldest_entries_go_when_there_are_too_many() -> None:
    entries = Entries(2, 100)
    for number in range(3):
        entries.add(Place(0, number), number, False, 10)
    assert (len(entries), entries.get(Place(0, 0))) == (2, None)
    entries.add(Place(0, 9), "large", False, 95)
    assert len(entries) == 1


def test_pointers_are_kept_apart_from_names() -> None:
    pointers = Pointers()
    places = places_of(b"key")
    pointers.name(b"key")
    assert [pointers.key_at(place) for place in places] == [b"key"] * 5
    assert pointers.all() == []
    pointers.add(places[:2], b"key")
    assert pointers.all() == [(place, b"key") for place in places[:2]]
    pointers.remove(places[:2], b"key")
    assert pointers.all() == []
    assert pointers.key_at(places[0]) == b"key"  # a late store may still come
