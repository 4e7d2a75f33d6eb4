"""What msgpack carries and JSON does not comes through the command line unharmed."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.cli.jsonform import dumps, key_from_json, key_to_json, loads

TIMES = st.builds(msgpack.Timestamp, st.integers(-(2**40), 2**40), st.integers(0, 10**9 - 1))
EXTS = st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(max_size=20)
    | TIMES
    | EXTS
)
KEYS = (
    st.text(max_size=8)
    | st.sampled_from(["$bytes", "$map", "$what"])
    | st.integers(-5, 5)
    | st.binary(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    text = dumps(value)
    assert "\n" not in text
    assert loads(text) == value
    assert type(loads(text)) is type(value)


@given(st.binary(max_size=30))
def test_keys_come_back(key: bytes) -> None:
    assert key_from_json(json.loads(json.dumps(key_to_json(key)))) == key


def test_not_a_number_comes_back() -> None:
    assert math.isnan(loads(dumps(math.nan)))


@pytest.mark.parametrize("value", [{"a": [1, None, {"b": 2.5}]}, "text", ["ü"], {"$a": 1, "$b": 2}])
def test_what_json_has_is_written_as_it_is(value: Any) -> None:
    assert json.loads(dumps(value)) == value


def test_forms() -> None:
    assert dumps(b"\x00\xff") == '{"$bytes": "AP8="}'
    assert dumps({1: "a"}) == '{"$map": [[1, "a"]]}'
    assert dumps({"$bytes": "no"}) == '{"$map": [["$bytes", "no"]]}'
    assert dumps(-math.inf) == '{"$float": "-inf"}'
    assert dumps(msgpack.Timestamp(1, 2)) == '{"$time": [1, 2]}'
    assert dumps(msgpack.ExtType(5, b"a")) == '{"$ext": [5, "YQ=="]}'
    assert dumps((1, 2)) == "[1, 2]"


@pytest.mark.parametrize(
    "text",
    [
        '{"$what": 1}',
        '{"$bytes": 1}',
        '{"$bytes": "A"}',
        '{"$bytes": "A?=="}',
        '{"$map": [[1]]}',
        '{"$map": [[{"a": 1}, 2]]}',
        '{"$map": 1}',
        '{"$float": "1.5"}',
        '{"$time": [1]}',
        '{"$ext": [500, "AA=="]}',
        "{",
    ],
)
def test_broken_forms_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("key", [1, None, [1], {"a": 1}, {"$float": "nan"}])
def test_keys_are_texts_or_bytes(key: Any) -> None:
    with pytest.raises(ValueError):
        key_from_json(key)
