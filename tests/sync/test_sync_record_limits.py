"""Whether a record can travel: what is said to fit does, and what writers may make, replicas keep."""

from __future__ import annotations

from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.errors import ValueTooLarge
from chordtx.sync.record import NEVER_WRITTEN, Record, merge
from chordtx.sync.record_limits import RecordLimits
from chordtx.sync.version import Version
from chordtx.wire import Codec, Message, flags, unpack_value

LIMITS = Limits(frame_bytes_max=30_000, expanded_bytes_max=30_000, elements_max=3_000, containers_max=400)
VALUE_BYTES_MAX = 15_000
BOUNDS = RecordLimits(VALUE_BYTES_MAX, LIMITS)
WRITERS = [b"w" * 66, b"v" * 16]
KEY = b"k" * 1000


def pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value))


def written(
    base: Any,
    fields: int,
    value: Any,
    writer: bytes = WRITERS[0],
    first: int = 0,
    expiry_ms: int | None = None,
) -> Record:
    """A record with fields that were written by one delta."""
    record = Record(Version(1, writer), pack(base), expiry_ms)
    packed = pack(value)
    return record.with_fields(
        Version(1 << 62, writer), {pack(first + number): packed for number in range(fields)}
    )


def arrives(key: bytes, record: Record) -> bool:
    """Whether it comes out of a frame as it went in."""
    call = [1 << 40, "write", key, record.to_wire(), b"t" * 8]
    message = Message.build(flags.WHISPER, b"s" * 66, 1 << 40, (flags.CALL, [call]))
    codec = Codec(LIMITS, methods=())
    try:
        codec.receive_data(Codec(LIMITS, methods=()).encode(message))
        came = codec.next_message()
    except Exception:
        return False
    assert came is not None
    return Record.from_wire(came.payload[1][0][3]) == record


SHAPES = st.builds(
    written,
    st.sampled_from([{}, {"a": 1}, b"x" * 9_000, "x" * 14_000]),
    st.sampled_from([0, 1, 100, 260, 270, 299, 300, 390, 401, 450]),
    st.sampled_from([1, b"", b"x" * 30, b"x" * 60, [], [1, [2]], {"a": []}, None]),
    st.sampled_from(WRITERS),
)


@settings(max_examples=300)
@given(SHAPES)
def test_what_may_travel_arrives(record: Record) -> None:
    try:
        BOUNDS.must_fit(KEY, record)
    except ValueTooLarge:
        return
    assert arrives(KEY, record)


@settings(max_examples=300)
@given(SHAPES)
def test_what_is_kept_can_be_sent_and_read(record: Record) -> None:
    try:
        BOUNDS.must_be_kept(KEY, record, 0)
    except ValueTooLarge:
        return
    assert arrives(KEY, record)
    packed = record.packed_value(0)
    assert packed is not None
    unpack_value(packed, BOUNDS.read)


@settings(max_examples=300)
@given(SHAPES)
def test_what_is_written_is_kept(record: Record) -> None:
    try:
        BOUNDS.must_be_written(KEY, record, 0)
    except ValueTooLarge:
        return
    BOUNDS.must_be_kept(KEY, record, 0)
    unpack_value(record.packed_value(0) or b"", LIMITS)


@pytest.mark.parametrize("value", [1, b"x" * 40, [], [[]]])
def test_what_two_write_at_once_is_kept(value: Any) -> None:
    one, other = (written({"a": 1}, 120, value, writer, first) for writer, first in ((b"a", 0), (b"b", 500)))
    for record in (one, other):
        BOUNDS.must_be_written(KEY, record, 0)
    both = merge(one, other)
    assert both is not None
    BOUNDS.must_be_kept(KEY, both, 0)
    assert arrives(KEY, both)


def test_each_limit_is_told() -> None:
    with pytest.raises(ValueTooLarge, match="300 fields of the map are from deltas, of 266"):
        BOUNDS.must_be_written(KEY, written({}, 300, 1), 0)
    with pytest.raises(ValueTooLarge, match=r"the value takes 1\d+ bytes, of 15000") as caught:
        BOUNDS.must_be_written(KEY, written({"a": b"x" * 14_000}, 20, b"x" * 70), 0)
    assert caught.value.size_bytes > caught.value.limit_bytes == VALUE_BYTES_MAX
    with pytest.raises(ValueTooLarge, match="the value has too many"):
        BOUNDS.must_be_written(KEY, written({}, 200, [[]]), 0)
    with pytest.raises(ValueTooLarge, match="the record takes"):
        BOUNDS.must_fit(b"k" * 26_000, written({}, 0, 1))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_field_lies_one_deeper_than_it_was_packed() -> None:
    BOUNDS.must_be_written(KEY, written({}, 1, nested(LIMITS.depth_max - 1)), 0)
    too_deep = written({}, 1, nested(LIMITS.depth_max))
    with pytest.raises(TypeError, match="nested too deep"):
        BOUNDS.must_be_written(KEY, too_deep, 0)
    with pytest.raises(ValueTooLarge, match="nested too deep"):
        BOUNDS.must_be_kept(KEY, too_deep, 0)


def test_what_has_expired_or_is_deleted_fits() -> None:
    BOUNDS.must_be_kept(KEY, Record(Version(5, b"w"), None), 0)
    fields = {pack("a"): (Version(2, b"w"), pack(1))}
    BOUNDS.must_be_kept(KEY, Record(Version(1, b"w"), pack({}), 10, fields), 1 << 50)
    BOUNDS.must_fit(KEY, NEVER_WRITTEN)


@pytest.mark.parametrize("seed", range(3))
def test_small_limits_are_no_trap(seed: int) -> None:
    rng = Random(seed)
    limits = Limits(elements_max=rng.randint(1, 20), containers_max=rng.randint(1, 20))
    with pytest.raises(ValueTooLarge):
        RecordLimits(100, limits).must_be_written(KEY, written({}, 100, 1), 0)
