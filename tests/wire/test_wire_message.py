"""Messages and the msgpack in them: what is carried, and each limit."""

from __future__ import annotations

import datetime
from hashlib import sha256
from typing import Any

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.wire import Message, flags, pack_value, scan, unpack_value
from chordtx.wire.packing import _decoded_first, unpack_scanned, walk

LIMITS = Limits()
SMALL = Limits(depth_max=4, elements_max=50, containers_max=10)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary()),
    st.builds(msgpack.Timestamp, st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**9 - 1)),
)
keys = st.one_of(st.integers(-(2**63), 2**64 - 1), st.text(), st.binary(), st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=30,
)


def wrap(body: bytes) -> bytes:
    return sha256(body).digest() + body


def nested(depth: int) -> Any:
    value: Any = 7
    for _ in range(depth):
        value = [value]
    return value


@given(
    st.integers(0, 2),
    st.binary() | st.text(),
    st.integers(0, 2**40),
    st.lists(values, min_size=1, max_size=6),
)
def test_round_trip(type: int, sender: bytes | str, time: int, payload: list[Any]) -> None:
    built = Message.build(type, sender, time, payload)
    read = Message.parse(built.data, LIMITS)
    assert read.decoded_bytes >= built.decoded_bytes == len(built.body)
    read = attrs.evolve(read, decoded_bytes=built.decoded_bytes)
    assert attrs.astuple(read, recurse=False) == attrs.astuple(built, recurse=False)
    assert read == built
    assert hash(read) == hash(built)


def test_is_frozen_and_equal_by_bytes() -> None:
    one, other = (Message.build(2, "a", 1, (0, payload)) for payload in ("x", "y"))
    assert one != other
    assert one in {one}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.time = 2  # type: ignore[misc]
    assert not hasattr(one, "__dict__")


def test_tuples_become_lists_inside_and_the_body_stays_as_it_came() -> None:
    # The same message with its numbers written longer than need be: another body, so another id.
    body = b"\x94" + b"\xcc\x00" + b"\xc4\x01a" + b"\xd2\x00\x00\x00\x05" + b"\x91\xcd\x00\x01"
    message = Message.parse(wrap(body), LIMITS)
    assert message.payload == ([1],)
    assert message.data == wrap(body)
    assert message != Message.build(message.type, message.sender, message.time, message.payload)


@pytest.mark.parametrize(("sender", "text"), [(b"abc", "abc"), ("abc", "abc"), (b"\xff", "\\xff"), (b"", "")])
def test_sender_text(sender: bytes | str, text: str) -> None:
    assert Message.build(0, sender, 1, (0,)).sender_text == text


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, 2**64, -(2**63) - 1, "\ud800", datetime.date(2020, 1, 1), 1j],
    ids=repr,
)
def test_what_msgpack_cannot_carry(value: Any) -> None:
    with pytest.raises(TypeError):
        Message.build(flags.WHISPER, "a", 1, (0, value))
    with pytest.raises(TypeError):
        pack_value([value], 1000)


def test_a_list_inside_itself() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError):
        Message.build(flags.WHISPER, "a", 1, (0, value))


@pytest.mark.parametrize(
    "entries",
    [
        7,
        {},
        [],
        [2, "a", 1],
        [True, "a", 1, 0],
        [None, "a", 1, 0],
        ["2", "a", 1, 0],
        [2.0, "a", 1, 0],
        [2, None, 1, 0],
        [2, 7, 1, 0],
        [2, ["a"], 1, 0],
        [2, "a", 1.5, 0],
        [2, "a", None, 0],
        [2, "a", "1", 0],
        [2, "a", True, 0],
    ],
)
def test_what_is_no_message(entries: Any) -> None:
    with pytest.raises(ProtocolError):
        Message.parse(wrap(msgpack.packb(entries)), LIMITS)


@pytest.mark.parametrize(
    "broken",
    [
        b"\xc1",  # a type that there is not
        b"\xa2a",  # text cut short
        b"\xd9",  # a length cut short
        b"\xc6\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xa1\xff",  # text that is no UTF-8
        b"\x81\x90\x00",  # a list as a key
        b"\x81\x80\x00",  # a map as a key
        b"\x81\xd4\x05a\x00",  # an extension as a key
        b"\x81\xd6\xff\x00\x00\x00\x01\x00",  # a time as a key
        b"\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00",  # a time with too many nanoseconds
        b"\xd4\xff\x00",  # a time of one byte
        b"\xd4\x80\x00",  # an extension that is kept for msgpack itself
        b"\x00\x00",  # a second value
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("filler", [b"", b"\xc5\x10\x00" + bytes(4096)], ids=["small", "large"])
def test_broken_msgpack(broken: bytes, filler: bytes) -> None:
    """Refused as a value, and inside a message, by the short way for small ones as by the long way."""
    body = b"\x95\x02\xa1a\x01" + (filler or b"\x00") + broken
    for data in (body, body + b"\xc0"):
        with pytest.raises(ProtocolError):
            Message.parse(wrap(data), LIMITS)
    value = b"\x92" + (filler or b"\x00") + broken
    for data in (value, value + b"\xc0"):
        with pytest.raises(ProtocolError):
            unpack_value(data, LIMITS)


@pytest.mark.parametrize("data", [b"", b"x" * 31, bytes(32), bytes(33), sha256(b"").digest()])
def test_checksum(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Message.parse(data, LIMITS)
    with pytest.raises(ProtocolError):
        Message.parse(Message.build(0, "a", 1, (0,)).data + data + b"\0", LIMITS)


@given(values)
def test_values_round_trip(value: Any) -> None:
    blob = pack_value(value, 1 << 20)
    walk(blob, LIMITS)
    scan(blob, LIMITS)
    assert unpack_value(blob, LIMITS) == value


@given(values, st.data())
def test_every_prefix_of_a_value_is_broken(value: Any, data: st.DataObject) -> None:
    blob = pack_value(value, 1 << 20)
    end = data.draw(st.integers(0, len(blob) - 1))
    for check in (walk, unpack_value):
        with pytest.raises(ProtocolError):
            check(blob[:end], LIMITS)


def test_value_types() -> None:
    value = {"t": (1, (2,)), 3: b"b", b"k": "s", None: True, -1: 2**64 - 1}
    assert unpack_value(pack_value(value, 1000), LIMITS) == {**value, "t": [1, [2]]}
    assert unpack_value(pack_value(bytearray(b"ab"), 1000), LIMITS) == b"ab"


def test_value_size() -> None:
    assert len(pack_value(b"x" * 98, 100)) == 100
    with pytest.raises(ValueTooLarge) as caught:
        pack_value(b"x" * 99, 100)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (101, 100)


@pytest.mark.parametrize("limits", [LIMITS, SMALL])
def test_depth(limits: Limits) -> None:
    blob = pack_value(nested(limits.depth_max), 1000, limits)
    assert unpack_value(blob, limits) == nested(limits.depth_max)
    with pytest.raises(TypeError):
        pack_value(nested(limits.depth_max + 1), 1000, limits)
    for depth in (limits.depth_max + 1, 1000, 100_000):
        with pytest.raises(ProtocolError):
            unpack_value(b"\x91" * depth + b"\x00", limits)
        with pytest.raises(ProtocolError):
            unpack_value(b"\x81\x00" * depth + b"\x00", limits)


def test_depth_by_maps_and_after_siblings() -> None:
    assert unpack_value(msgpack.packb([[[]], [[]], [[[1]]]]), SMALL)
    with pytest.raises(ProtocolError):
        unpack_value(msgpack.packb([1, {"a": [{"b": []}]}]), SMALL)


def test_elements_and_containers() -> None:
    """A map counts its keys and its values."""
    value: Any
    for value in ([0] * 50, dict.fromkeys(range(25), 0), [[]] * 9, [[0] * 20] * 2):
        assert unpack_value(pack_value(value, 1000, SMALL), SMALL) == value
    for value in ([0] * 51, dict.fromkeys(range(26), 0), [[]] * 10, [{}] * 10, [[0] * 25] * 2):
        with pytest.raises(ValueTooLarge):
            pack_value(value, 1000, SMALL)
        with pytest.raises(ProtocolError):
            unpack_value(msgpack.packb(value), SMALL)


@pytest.mark.parametrize("value", [nested(4), [0] * 50, [[]] * 9], ids=["depth", "elements", "containers"])
def test_what_is_just_allowed_as_a_value_comes_back_in_a_message(value: Any) -> None:
    """A legacy peer sends a user's value as it is, as the last entry of ``retrieved``."""
    pack_value(value, 1000, SMALL)
    message = Message.build(flags.WHISPER, "a", 1, (flags.RETRIEVED, b"sha1", b"position", value))
    assert Message.parse(message.data, SMALL).payload[-1] == value


@given(values)
def test_the_short_way_takes_nothing_that_the_long_one_refuses(value: Any) -> None:
    blob = msgpack.packb(value)
    try:
        scan(blob, SMALL)
    except ProtocolError:
        return
    walk(blob, SMALL)


@given(
    st.lists(st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.just({}), max_leaves=30)),
    st.none() | st.integers(1, 1000),
    st.none() | st.tuples(st.integers(0, 2000), st.integers(0, 255)),
)
def test_what_is_decoded_first_is_what_is_found_by_walking(
    value: list[Any], sent_bytes: int | None, change: tuple[int, int] | None
) -> None:
    body = bytearray(msgpack.packb(value))
    if change is not None:
        body[change[0] % len(body)] = change[1]
    blob = bytes(body)
    for limits in (LIMITS, SMALL, Limits(depth_max=2)):
        found = _decoded_first(blob, limits)
        if found is not None:
            assert found[1] == walk(blob, limits, envelope=True, sent_bytes=sent_bytes)
            assert msgpack.packb(found[0]) == msgpack.packb(unpack_scanned(blob))


def test_what_is_decoded_first_and_what_is_not() -> None:
    """Each that is not is at a bound, and read or refused as before."""
    frames: list[Any] = [[0] * 256, [[0] * 100] * 150, nested(33), [[]] * 255]
    for value in frames:
        assert _decoded_first(msgpack.packb(value), LIMITS) is not None
    for value in ([0] * 257, [bytes(1 << 14)], nested(34), [{}], {1: 2}, 7, [[[]] * 255] * 48):
        assert _decoded_first(msgpack.packb(value), LIMITS) is None


def test_a_map_with_a_list_as_a_key_cannot_be_packed() -> None:
    for key in ((1, 2), msgpack.ExtType(1, b""), msgpack.Timestamp(1)):
        with pytest.raises(TypeError):
            pack_value({key: 1}, 1000)
