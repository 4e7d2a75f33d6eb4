"""What can be done to a key: each row of the table, each status, and what a stranger may ask."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group import operations
from chordtx.group.operations import (
    ABSENT,
    COMPARE_AND_SET,
    CONFLICT,
    COUNT,
    DELETE,
    DELTA,
    DONE,
    GET,
    INCREMENT,
    LIST,
    LIST_BYTES_MAX,
    LIST_ENTRIES_MAX,
    LOCK,
    NAMES,
    READS,
    SET,
    TAKE,
    TOO_LARGE,
    TOUCH,
    WATCH,
    WRONG_TYPE,
    Moment,
    arguments_from_wire,
    change,
    grows,
    look_at_all,
    map_entries,
    result_from_wire,
)
from chordtx.group.rank import COUNT_MAX, NO_RANK
from chordtx.group.record import Record
from chordtx.wire.packing import unpack
from tests.group.values import packed, packed_values, rank

NOW = 1000
OLD, AT = rank(1), rank(2)
MOMENT = Moment(AT, NOW, 1000)
ONE, TWO = packed(1), packed(2)
PRESENT = Record(ONE, 0, OLD, 500)
#: Its time is over just now; and this one's is not yet.
EXPIRED, LASTING = PRESENT._replace(expires_ms=NOW), PRESENT._replace(expires_ms=NOW + 1)


def written(value: bytes, expires_ms: int = 0) -> Record:
    """What a change at this moment leaves."""
    return Record(value, expires_ms, AT, NOW)


ROWS: dict[str, tuple[int, Record | None, tuple[Any, ...], Record | None, tuple[int, Any]]] = {
    "set": (SET, None, (TWO, None), written(TWO), (DONE, None)),
    "set again": (SET, PRESENT, (TWO, None), written(TWO), (DONE, None)),
    "set the same": (SET, PRESENT, (ONE, None), written(ONE), (DONE, None)),
    "set for a while": (SET, None, (TWO, 5), written(TWO, NOW + 5), (DONE, None)),
    "set for no time": (SET, None, (TWO, 0), written(TWO, NOW), (DONE, None)),
    "set for ages": (SET, None, (TWO, COUNT_MAX), written(TWO, COUNT_MAX), (DONE, None)),
    "set until": (SET, LASTING, (TWO, (5000,)), written(TWO, 5000), (DONE, None)),
    "set ends a time to live": (SET, LASTING, (TWO, None), written(TWO), (DONE, None)),
    "set None": (SET, PRESENT, (None, None), None, (DONE, None)),
    "set None where nothing is": (SET, None, (None, 5), None, (DONE, None)),
    "delete": (DELETE, PRESENT, (None,), None, (DONE, None)),
    "delete nothing": (DELETE, None, (None,), None, (ABSENT, None)),
    "delete a version": (DELETE, PRESENT, (OLD,), None, (DONE, None)),
    "delete another version": (DELETE, PRESENT, (AT,), PRESENT, (CONFLICT, OLD)),
    "delete a version of nothing": (DELETE, None, (OLD,), None, (ABSENT, None)),
    "delete what is expired": (DELETE, EXPIRED, (None,), None, (ABSENT, None)),
    "compare and set": (COMPARE_AND_SET, PRESENT, (OLD, TWO, None), written(TWO), (DONE, None)),
    "compare and set None": (COMPARE_AND_SET, PRESENT, (OLD, None, None), None, (DONE, None)),
    "compare with another": (COMPARE_AND_SET, PRESENT, (AT, TWO, None), PRESENT, (CONFLICT, OLD)),
    "compare with nothing": (COMPARE_AND_SET, None, (None, TWO, 7), written(TWO, NOW + 7), (DONE, None)),
    "compare something with nothing": (COMPARE_AND_SET, PRESENT, (None, TWO, None), PRESENT, (CONFLICT, OLD)),
    "compare nothing": (COMPARE_AND_SET, None, (OLD, TWO, None), None, (CONFLICT, None)),
    "compare what is expired": (COMPARE_AND_SET, EXPIRED, (OLD, TWO, None), None, (CONFLICT, None)),
    "expired is nothing": (COMPARE_AND_SET, EXPIRED, (None, TWO, None), written(TWO), (DONE, None)),
    "take": (TAKE, PRESENT, (), None, (DONE, ONE)),
    "take nothing": (TAKE, None, (), None, (ABSENT, None)),
    "take what is expired": (TAKE, EXPIRED, (), None, (ABSENT, None)),
    "take just in time": (TAKE, LASTING, (), None, (DONE, ONE)),
    "touch": (TOUCH, PRESENT, (5,), written(ONE, NOW + 5), (DONE, None)),
    "touch for ever": (TOUCH, LASTING, (None,), written(ONE), (DONE, None)),
    "touch until": (TOUCH, PRESENT, ((4000,),), written(ONE, 4000), (DONE, None)),
    "touch nothing": (TOUCH, None, (5,), None, (ABSENT, None)),
    "touch what is expired": (TOUCH, EXPIRED, (5,), None, (ABSENT, None)),
}


@pytest.mark.parametrize("name", ROWS)
def test_row_of_the_table(name: str) -> None:
    kind, before, arguments, after, result = ROWS[name]
    assert change(kind, before, MOMENT, arguments) == (after, result)


def test_what_changes_nothing_gives_the_very_record() -> None:
    for kind, arguments in [(DELETE, (AT,)), (COMPARE_AND_SET, (AT, TWO, None)), (DELTA, (packed({}),))]:
        assert change(kind, PRESENT, MOMENT, arguments)[0] is PRESENT
    assert change(INCREMENT, written(packed("a")), MOMENT, (ONE,))[0] == written(packed("a"))


def test_get_gives_value_expiry_and_version() -> None:
    assert operations.get(LASTING) == (DONE, (ONE, NOW + 1, OLD))
    assert operations.get(None) == (ABSENT, None)


def test_every_kind_has_a_name_and_a_place() -> None:
    assert len(NAMES) == operations.KINDS == 14
    assert {COUNT, GET, LIST, WATCH} == READS
    growing = [
        (SET, (b"\x01", None)),
        (COMPARE_AND_SET, (None, b"\x01", None)),
        (DELTA, (b"\x80",)),
        (INCREMENT, (b"\x01",)),
        (LOCK, ("owner", 1000, True)),
    ]
    assert all(grows(*each) for each in growing)
    assert not any(grows(*each) for each in [(SET, (None, None)), (COMPARE_AND_SET, (AT, None, None))])
    assert not any(grows(*each) for each in [(DELETE, (None,)), (TAKE, ()), (TOUCH, (None,))])
    assert not any(grows(kind, ()) for kind in READS)


# Increment


@pytest.mark.parametrize(
    ("present", "by", "total"),
    [
        (None, 5, 5),
        (None, 0.5, 0.5),
        (1, 2, 3),
        (1, -2, -1),
        (1, 0.5, 1.5),
        (0.5, 1, 1.5),
        ((1 << 64) - 2, 1, (1 << 64) - 1),
        (1 - (1 << 63), -1, -(1 << 63)),
        (1e308, -1e308, 0.0),
    ],
)
def test_increment(present: Any, by: Any, total: Any) -> None:
    before = None if present is None else LASTING._replace(value=packed(present))
    after, result = change(INCREMENT, before, MOMENT, (packed(by),))
    assert after == written(packed(total), 0 if before is None else LASTING.expires_ms)
    assert result == (DONE, total)
    assert type(result[1]) is type(total)


def test_increment_of_what_is_expired_begins_anew() -> None:
    assert change(INCREMENT, EXPIRED, MOMENT, (TWO,)) == (written(TWO), (DONE, 2))


@pytest.mark.parametrize(
    "present", [True, False, None, "1", b"1", [1], {"a": 1}, "", [], {}, "x" * 500, list(range(200))]
)
def test_increment_of_no_number(present: Any) -> None:
    before = PRESENT._replace(value=packed(present))
    assert change(INCREMENT, before, MOMENT, (ONE,)) == (before, (WRONG_TYPE, None))


@pytest.mark.parametrize(
    ("present", "by"),
    [
        ((1 << 64) - 1, 1),
        (-(1 << 63), -1),
        (1.7e308, 1.7e308),
        (math.inf, 1),
        (math.inf, 1.0),
        (-math.inf, 1),
        (math.nan, 1),
    ],
)
def test_increment_past_what_fits(present: Any, by: Any) -> None:
    before = PRESENT._replace(value=packed(present))
    assert change(INCREMENT, before, MOMENT, (packed(by),)) == (before, (TOO_LARGE, None))


# Delta


@pytest.mark.parametrize(
    ("present", "fields", "merged"),
    [
        (None, {}, {}),
        (None, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"b": [2]}, {"a": 1, "b": [2]}),
        ({"a": 1, "b": 2}, {"a": {"c": None}}, {"a": {"c": None}, "b": 2}),
        ({}, {str(each): each for each in range(20)}, {str(each): each for each in range(20)}),
    ],
)
def test_delta(present: Any, fields: Any, merged: Any) -> None:
    before = None if present is None else LASTING._replace(value=packed(present))
    after, result = change(DELTA, before, MOMENT, (packed(fields),))
    assert result == (DONE, packed(merged))
    assert after == written(packed(merged), 0 if before is None else LASTING.expires_ms)


@pytest.mark.parametrize("present", [1, None, True, "a", b"\x81", [], [["a", 1]], 1.5])
def test_delta_of_no_map(present: Any) -> None:
    before = PRESENT._replace(value=packed(present))
    assert change(DELTA, before, MOMENT, (packed({"a": 1}),)) == (before, (WRONG_TYPE, None))


def test_delta_of_what_is_expired_begins_anew() -> None:
    before = EXPIRED._replace(value=packed({"a": 1}))
    fields = packed({"b": 2})
    assert change(DELTA, before, MOMENT, (fields,)) == (written(fields), (DONE, fields))


def test_delta_that_makes_too_large_a_value() -> None:
    before, fields = PRESENT._replace(value=packed({"a": b"x" * 50})), packed({"b": b"y" * 50})
    size_bytes = len(packed({"a": b"x" * 50, "b": b"y" * 50}))
    assert change(DELTA, before, Moment(AT, NOW, size_bytes - 1), (fields,)) == (
        before,
        (TOO_LARGE, size_bytes),
    )
    assert change(DELTA, before, Moment(AT, NOW, size_bytes), (fields,))[1][0] == DONE


def test_delta_that_makes_what_nobody_can_build() -> None:
    """Two maps that keep to the limits, and together do not."""
    half = Limits().containers_max * 2 // 3
    one, other = ({f"{name}{each}": [] for each in range(half)} for name in "ab")
    before = PRESENT._replace(value=packed(one))
    after, result = change(DELTA, before, Moment(AT, NOW, 8 << 20), (packed(other),))
    assert after is before
    assert result[0] == TOO_LARGE


@given(
    st.dictionaries(st.text(max_size=3), packed_values), st.dictionaries(st.text(max_size=3), packed_values)
)
def test_delta_is_an_update(present: dict[str, bytes], fields: dict[str, bytes]) -> None:
    value = change(
        DELTA, PRESENT._replace(value=packed(present)), Moment(AT, NOW, 8 << 20), (packed(fields),)
    )
    assert unpack(value[1][1], Limits()) == present | fields


@given(st.dictionaries(st.text(max_size=3), packed_values, max_size=20))
def test_entries_of_a_map(some: dict[str, bytes]) -> None:
    entries = map_entries(packed(some))
    assert entries == {packed(name): packed(value) for name, value in some.items()}


# Lists

RECORDS = {
    b"a": PRESENT,
    b"b1": LASTING,
    b"b3": PRESENT,
    b"b4": PRESENT._replace(value=TWO),
    b"c": PRESENT,
}


def page(*arguments: Any, records: dict[bytes, Record] = RECORDS) -> tuple[list[bytes], bool]:
    """The keys of a page, and whether there are more."""
    status, (entries, more) = look_at_all(LIST, sorted(records), records, arguments)
    assert status == DONE
    return [key for key, *_ in entries], more


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((b"", None, 10, False), ([b"a", b"b1", b"b3", b"b4", b"c"], False)),
        ((b"b", None, 10, False), ([b"b1", b"b3", b"b4"], False)),
        ((b"b", None, 2, False), ([b"b1", b"b3"], True)),
        ((b"b", None, 3, False), ([b"b1", b"b3", b"b4"], False)),
        ((b"b", b"b1", 1, False), ([b"b3"], True)),
        ((b"b", b"b3", 1, False), ([b"b4"], False)),
        ((b"b", b"b4", 1, False), ([], False)),
        ((b"b", b"b2x", 9, False), ([b"b3", b"b4"], False)),
        ((b"b", b"", 9, False), ([b"b1", b"b3", b"b4"], False)),
        ((b"b", b"z", 9, False), ([], False)),
        ((b"x", None, 9, False), ([], False)),
        ((b"c", None, 9, False), ([b"c"], False)),
        ((b"b1x", None, 9, False), ([], False)),
    ],
)
def test_list(arguments: tuple[Any, ...], expected: tuple[list[bytes], bool]) -> None:
    assert page(*arguments) == expected


@given(st.lists(st.binary(max_size=3), unique=True), st.binary(max_size=2))
def test_count(keys: list[bytes], prefix: bytes) -> None:
    records = dict.fromkeys(keys, PRESENT)
    expected = sum(key.startswith(prefix) for key in keys)
    assert look_at_all(COUNT, sorted(keys), records, (prefix,)) == (DONE, expected)


def test_list_gives_values_when_asked() -> None:
    assert look_at_all(LIST, [b"b1"], RECORDS, (b"", None, 9, True)) == (
        DONE,
        ([(b"b1", ONE, NOW + 1, OLD)], False),
    )
    assert look_at_all(LIST, [b"b1"], RECORDS, (b"", None, 9, False)) == (
        DONE,
        ([(b"b1", None, NOW + 1, OLD)], False),
    )


def test_a_page_of_large_values_ends_early_but_has_one() -> None:
    half, more = bytes(LIST_BYTES_MAX // 2), bytes(LIST_BYTES_MAX + 1)
    records = {b"%d" % each: PRESENT._replace(value=half) for each in range(4)}
    assert page(b"", None, 9, True, records=records) == ([b"0"], True)
    assert page(b"", None, 9, False, records=records) == ([b"0", b"1", b"2", b"3"], False)
    records = {b"0": PRESENT._replace(value=more), b"1": PRESENT}
    assert page(b"", None, 9, True, records=records) == ([b"0"], True)
    assert page(b"", b"0", 9, True, records=records) == ([b"1"], False)


@given(st.sets(st.binary(max_size=3)), st.binary(max_size=1), st.integers(1, 4))
def test_pages_one_after_the_other_are_all_there_is(keys: set[bytes], prefix: bytes, limit: int) -> None:
    records = dict.fromkeys(keys, PRESENT)
    found: list[bytes] = []
    more, after = True, None
    while more:
        some, more = page(prefix, after, limit, False, records=records)
        assert len(some) <= limit
        assert some or not more
        found += some
        after = found[-1] if found else None
    assert found == sorted(key for key in keys if key.startswith(prefix))


# What comes from the wire


@pytest.mark.parametrize(
    ("kind", "given", "taken"),
    [
        (GET, [], ()),
        (SET, [ONE, None], (ONE, None)),
        (SET, [None, 0], (None, 0)),
        (SET, [ONE, [5]], (ONE, (5,))),
        (DELETE, [None], (None,)),
        (DELETE, [[[0, 0], [1, b"a"], 1]], (OLD,)),
        (COMPARE_AND_SET, [None, ONE, COUNT_MAX], (None, ONE, COUNT_MAX)),
        (DELTA, [packed({"a": 1})], (packed({"a": 1}),)),
        (INCREMENT, [packed(0.5)], (packed(0.5),)),
        (TOUCH, [None], (None,)),
        (LIST, [b"", None, 5, False], (b"", None, 5, False)),
        (LIST, [b"a", b"", 10**9, True], (b"a", b"", LIST_ENTRIES_MAX, True)),
        (COUNT, [b"a"], (b"a",)),
    ],
)
def test_arguments(kind: int, given: Any, taken: Any) -> None:
    assert arguments_from_wire(kind, given, 64) == taken
    assert arguments_from_wire(kind, tuple(given), 64) == taken


NO_VALUES = [
    b"",
    "text",
    1,
    [1],
    bytes(65),
    ONE + ONE,
    b"\xc1",
    b"\xc4\x05ab",
    b"\xc4\x01abc",
    b"\xa2\xff\xff",
    b"\xd9",
    b"\x91",
    b"\x90\x90",
    b"\x91" * 64,
    b"\x91" * 40 + b"\x00",
    b"\x81\x90\x00",
    b"\x81\x80\x00",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff" * 10,
    b"\xdc\xff\xff" * 20,
]
NO_MAPS = [
    ONE,
    packed([]),
    packed(None),
    packed("a"),
    b"\x81\xa1a",
    b"\x80\x00",
    b"\xde\x00",
    b"\xdf",
    b"\x8f",
]
NO_NUMBERS = [packed(each) for each in (True, None, "1", b"1", [1], {}, math.nan, math.inf, -math.inf)] + [
    b"\xcb\x00",
    b"\xcd\x01",
    b"\x01\x01",
    b"\xcb" + bytes(9),
    b"\xd4\x01a",
]


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (GET, [None]),
        (GET, None),
        (GET, {}),
        (9, []),
        (-1, []),
        (SET, [ONE]),
        (SET, [ONE, None, None]),
        *[(SET, [value, None]) for value in NO_VALUES],
        *[(SET, [ONE, expires]) for expires in (-1, True, 1.5, "1", [], [0], [-1], [True], [1, 2], [[1]])],
        (SET, [ONE, COUNT_MAX + 1]),
        (SET, [ONE, [COUNT_MAX + 1]]),
        *[(DELETE, [version]) for version in (1, b"", [], [1, 2, 3], True)],
        *[(COMPARE_AND_SET, [None, value, None]) for value in NO_VALUES],
        *[(DELTA, [value]) for value in [None, *NO_VALUES, *NO_MAPS]],
        *[(INCREMENT, [value]) for value in [None, *NO_VALUES, *NO_NUMBERS]],
        (TOUCH, [-1]),
        *[(LIST, [prefix, None, 5, False]) for prefix in (None, "a", 1, bytes(65))],
        *[(COUNT, [prefix]) for prefix in (None, "a", 1, bytes(65))],
        *[(LIST, [b"", after, 5, False]) for after in ("a", 1, bytes(65))],
        *[(LIST, [b"", None, limit, False]) for limit in (None, 0, -1, True, 1.0)],
        *[(LIST, [b"", None, 5, flag]) for flag in (None, 0, 1, "a")],
    ],
)
def test_what_are_no_arguments_is_refused(kind: int, wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        arguments_from_wire(kind, wrong, 64)


@given(st.binary(max_size=40))
def test_what_is_taken_for_a_value_can_be_read(data: bytes) -> None:
    try:
        arguments_from_wire(SET, [data, None], 64)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            unpack(data, Limits())
    else:
        unpack(data, Limits())


@given(st.integers(0, operations.KINDS - 1), st.binary(max_size=40), st.binary(max_size=40))
def test_whatever_is_stored_no_function_raises(kind: int, stored: bytes, argument: bytes) -> None:
    """Records come from other members, who may be of another version: they are not looked into."""
    if kind in READS:
        return
    for arguments in [(), (argument,), (None,), (argument, None), (None, argument, None)]:
        try:
            taken = arguments_from_wire(kind, arguments, 64)
        except ProtocolError:
            continue
        after, (status, _) = change(kind, PRESENT._replace(value=stored), MOMENT, taken)
        assert status in (DONE, ABSENT, CONFLICT, WRONG_TYPE, TOO_LARGE)
        assert after is None or after.value or after.value == stored


@pytest.mark.parametrize(
    "stored",
    [b"", b"\x80\x01", b"\x01\x01", b"\x81", b"\x82\x01\x01", b"\x91" * 5000, b"\xdd\xff\xff\xff\xff" * 5000],
)
def test_what_is_stored_and_broken_is_of_the_wrong_type(stored: bytes) -> None:
    before = PRESENT._replace(value=stored)
    for kind, argument in [(INCREMENT, ONE), (DELTA, packed({"a": 1}))]:
        assert change(kind, before, MOMENT, (argument,)) == (before, (WRONG_TYPE, None))


@pytest.mark.parametrize("detail", [None, 1, -1, 1.5, ONE, OLD])
def test_results_come_back(detail: Any) -> None:
    assert result_from_wire([DONE, detail]) == (DONE, detail)


@pytest.mark.parametrize(
    "wrong",
    [None, [], [DONE], [DONE, None, None], [5, None], [-1, None], [True, None], [DONE, "a"], [DONE, True],
     [DONE, {}], [DONE, math.nan], [DONE, [1]], [DONE, [NO_RANK]]],
)  # fmt: skip
def test_what_is_no_result_is_refused(wrong: Any) -> None:
    with pytest.raises(ProtocolError):
        result_from_wire(wrong)
