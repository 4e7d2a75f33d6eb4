"""Texts made fit for a line of a log or a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ChordError, NoMajorityTimeout, WrongSubnet
from chordtx.escaping import escaped, escaped_json, escaped_lines

#: Each kind of character that does something to a terminal, or to the lines of a log.
UNFIT = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "\ud800",
    "\udfff",
]
FIT = "plain, grün, 日本, \u0301, 👩\u200d🚀, \\, \xa0, \ufeff"


def is_fit(text: str) -> bool:
    """By Unicode's own categories: no controls, no separators of lines, no halves of pairs."""
    return not any(unicodedata.category(each) in {"Cc", "Zl", "Zp", "Cs"} or each in UNFIT for each in text)


@pytest.mark.parametrize("character", UNFIT, ids=ascii)
def test_each_unfit_character_is_escaped(character: str) -> None:
    number = ord(character)
    escape = f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
    assert escaped(f"a{character}b") == f"a{escape}b"


def test_the_rest_stays_as_it_is() -> None:
    assert escaped(FIT) == escaped_lines(FIT) == escaped_json(FIT) == FIT


@given(st.text(), st.integers(3, 40))
def test_any_text_becomes_one_line_of_bounded_length(text: str, characters_max: int) -> None:
    line = escaped(text, characters_max)
    assert is_fit(line)
    assert len(line) <= characters_max
    assert is_fit(escaped(text))
    assert line == escaped(text) or line.endswith("...")


@given(st.binary())
def test_any_bytes_become_one_line(data: bytes) -> None:
    assert is_fit(escaped(data))
    assert is_fit(escaped(data, 10))


def test_bytes_are_utf_8_or_escaped() -> None:
    assert escaped("ü\n".encode() + b"\xff\x9b") == "ü\\x0a\\xff\\x9b"


def test_lines_stay_lines() -> None:
    assert escaped_lines("a\n\tb\r\x1b[2J") == "a\n\tb\\x0d\\x1b[2J"
    assert is_fit(escaped_lines("".join(UNFIT)).replace("\n", "").replace("\t", ""))


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_means_the_same(value: object) -> None:
    text = escaped_json(json.dumps(value, ensure_ascii=False))
    assert is_fit(text)
    assert json.loads(text) == value


def test_text_of_an_error_is_one_line() -> None:
    evil = "".join(UNFIT)
    for error in (ChordError(evil), NoMajorityTimeout(evil, 3, 1), WrongSubnet(evil, theirs=evil)):
        assert is_fit(str(error))
        assert is_fit(getattr(error, "theirs", ""))
    assert len(str(ChordError("x" * 100_000))) < 5000
    assert str(NoMajorityTimeout("too few")) == "too few"
