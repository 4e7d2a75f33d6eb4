"""Records: what they read as, what merging promises, and what is refused from the wire."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.sync.record import Record, merge
from chordtx.sync.version import Version


def pack(value: object) -> bytes:
    return bytes(msgpack.packb(value))


def version(clock: int, writer: bytes = b"w") -> Version:
    return Version(clock, writer)


def fields(**entries: tuple[int, object]) -> dict[bytes, tuple[Version, bytes]]:
    return {pack(name): (version(clock), pack(value)) for name, (clock, value) in entries.items()}


def read(record: Record | None, now_ms: int = 0) -> Any:
    packed = None if record is None else record.packed_value(now_ms)
    return None if packed is None else msgpack.unpackb(packed, strict_map_key=False)


VERSIONS = st.builds(Version, st.integers(0, 6), st.sampled_from([b"a", b"b"]))
VALUES = st.sampled_from([pack({}), pack({"a": 1}), pack({"a": 2, "b": 3}), pack(7)])
# Versions are few, so that equal ones with unequal contents come too: merging must bear even that.
RECORDS = st.builds(
    Record,
    VERSIONS,
    st.none() | VALUES,
    st.none() | st.integers(0, 3),
    st.dictionaries(st.sampled_from([pack("a"), pack("b"), pack(b"a")]), st.tuples(VERSIONS, VALUES)),
)
COPIES = st.none() | RECORDS


@given(COPIES, COPIES)
def test_merging_is_commutative(a: Record | None, b: Record | None) -> None:
    assert merge(a, b) == merge(b, a)


@given(COPIES, COPIES, COPIES)
def test_merging_is_associative(a: Record | None, b: Record | None, c: Record | None) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(COPIES, COPIES)
def test_merging_is_idempotent(a: Record | None, b: Record | None) -> None:
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(st.lists(RECORDS, min_size=1, max_size=6), st.integers())
def test_copies_exchanged_in_any_order_and_twice_end_up_the_same(records: list[Record], seed: int) -> None:
    shuffled = records * 2
    random.Random(seed).shuffle(shuffled)
    one: Record | None = None
    other: Record | None = None
    for record in records:
        one = merge(one, record)
    for record in shuffled:
        other = merge(other, record)
    assert one is not None
    assert other is not None
    assert one == other
    assert [one.packed_value(now_ms) for now_ms in range(5)] == [other.packed_value(t) for t in range(5)]


@given(RECORDS, RECORDS)
def test_nothing_older_ever_replaces_anything_newer(a: Record, b: Record) -> None:
    both = merge(a, b)
    assert both is not None
    assert both.newest == max(a.newest, b.newest)
    assert both.version == max(a.version, b.version)
    assert all(entry[0] > both.version for entry in both.fields.values())


def test_the_newer_base_wins() -> None:
    old, new = Record(version(1), pack("old")), Record(version(2), pack("new"))
    assert read(merge(old, new)) == "new"


def test_a_deleted_key_stays_deleted() -> None:
    tombstone = Record(version(2), None)
    assert merge(Record(version(1), pack("old")), tombstone) == tombstone
    assert not tombstone.alive(0)
    assert tombstone.packed_value(0) is None


def test_two_that_write_different_fields_at_once_both_win() -> None:
    base = Record(version(1), pack({"a": 0, "b": 0, "c": 0}))
    one = merge(base, Record(version(1), base.value, None, fields(a=(2, "one"))))
    other = merge(base, Record(version(1), base.value, None, fields(b=(2, "other"))))
    assert read(merge(one, other)) == {"a": "one", "b": "other", "c": 0}


def test_of_one_field_the_newer_wins() -> None:
    base = Record(version(1), pack({}), None, fields(a=(3, "newer")))
    assert read(merge(base, Record(version(1), pack({}), None, fields(a=(2, "older"))))) == {"a": "newer"}


def test_a_newer_base_overwrites_fields() -> None:
    record = Record(version(5), pack({"a": 1}), None, fields(a=(4, 0), b=(6, 2)))
    assert list(record.fields) == [pack("b")]
    assert read(record) == {"a": 1, "b": 2}


def test_fields_newer_than_a_tombstone_are_a_map_of_their_own() -> None:
    record = merge(Record(version(5), None), Record(version(0), None, None, fields(a=(4, 0), b=(6, 2))))
    assert record is not None
    assert record.alive(0)
    assert read(record) == {"b": 2}
    assert record.newest == version(6)


@pytest.mark.parametrize("base", [7, "text", b"bytes", None, [1, 2]])
def test_a_base_that_is_no_map_gives_way_to_newer_fields(base: object) -> None:
    assert read(Record(version(1), pack(base), None, fields(a=(2, 1)))) == {"a": 1}


@given(
    st.dictionaries(st.text() | st.binary() | st.integers(0, 9), st.lists(st.integers(-9, 999)), max_size=40)
)
def test_fields_go_into_a_base_of_any_keys(base: dict[Any, Any]) -> None:
    record = Record(version(1), pack(base), None, fields(a=(2, [1])))
    assert read(record) == {**base, "a": [1]}


def test_text_and_bytes_are_two_keys() -> None:
    newer = {pack(b"a"): (version(2), pack(2))}
    assert read(Record(version(1), pack({"a": 1}), None, newer)) == {"a": 1, b"a": 2}


def test_an_expired_base_is_absent() -> None:
    record = Record(version(1), pack("value"), 1_000)
    assert record.alive(999)
    assert read(record, 999) == "value"
    assert not record.alive(1_000)
    assert record.packed_value(1_000) is None


def test_fields_expire_with_the_base_that_they_were_written_into_and_not_with_one_before() -> None:
    during, after = version(500 << 16), version(1_500 << 16)
    record = Record(
        version(1), pack({"a": 0}), 1_000, {pack("b"): (during, pack(1)), pack("c"): (after, pack(2))}
    )
    assert read(record, 999) == {"a": 0, "b": 1, "c": 2}
    assert read(record, 1_500) == {"c": 2}


def test_merging_never_extends_an_expiry() -> None:
    record = Record(version(1), pack("value"), 1_000)
    merged = merge(record, Record(version(1), pack("value"), 1_000))
    assert merged is not None
    assert merged.expiry_ms == 1_000


def test_a_broken_base_is_told_as_such() -> None:
    for base in (b"\x82\xa1a", b"\xdf\xff\xff\xff\xff", b"\xde", b"\x81\xc1\x01", b"\x81" + b"\x91" * 5_000):
        with pytest.raises(ProtocolError):
            Record(version(1), base, None, fields(a=(2, 1))).packed_value(0)
    assert read(Record(version(1), b"", None, fields(a=(2, 1)))) == {"a": 1}


def test_the_cost_grows_with_what_is_kept() -> None:
    small, large = Record(version(1), None), Record(version(1), bytes(1_000), None, fields(a=(2, "b" * 100)))
    assert 0 < small.cost_bytes < 200
    assert 1_100 < large.cost_bytes < 1_500


@given(RECORDS)
def test_there_and_back(record: Record) -> None:
    wire = msgpack.unpackb(msgpack.packb(record.to_wire()))
    assert Record.from_wire(wire) == record
    assert wire == record.to_wire()


GOOD = [1, b"w", b"\x01", 5, [[b"a", 2, b"w", b"\x01"]]]


def without(index: int, item: object) -> list[object]:
    return [*GOOD[:index], item, *GOOD[index + 1 :]]


@pytest.mark.parametrize(
    "obj",
    [
        None,
        7,
        b"12345",
        {},
        [],
        GOOD[:4],
        [*GOOD, 0],
        *(without(0, clock) for clock in (-1, 1 << 63, True, 1.0, None, b"1")),
        *(without(1, writer) for writer in ("w", None, bytes(67))),
        *(without(2, value) for value in ("text", 7, [])),
        *(without(3, expiry) for expiry in (-1, 1 << 63, False, 1.5, "1")),
        *(without(4, entries) for entries in (None, {}, b"", [7], [[]], [[b"a", 2, b"w"]])),
        without(4, [["a", 2, b"w", b""]]),
        without(4, [[b"a", 2, b"w", "text"]]),
        without(4, [[b"a", 2, b"w", None]]),
        without(4, [[b"a", -2, b"w", b""]]),
        without(4, [[b"a", 2, b"w", b""], [b"a", 3, b"w", b""]]),
        without(4, [[[], 2, b"w", b""]]),
    ],
)
def test_anything_else_is_refused(obj: object) -> None:
    assert Record.from_wire(GOOD).to_wire() == GOOD
    with pytest.raises(ProtocolError):
        Record.from_wire(obj)
