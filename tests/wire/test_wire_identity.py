"""Ids as text."""

from __future__ import annotations

from hashlib import sha384
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.wire import decode_id, encode_id, node_id, protocol_id


@given(st.integers(0, 2**512 - 1))
def test_round_trip(number: int) -> None:
    text = encode_id(number)
    assert decode_id(text) == decode_id(text.encode()) == number


def test_leading_zeros_are_not_padded() -> None:
    assert encode_id(0) == "1"
    assert encode_id(57) == "z"
    assert encode_id(58) == "21"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        # Of the Internet-Draft draft-msporny-base58, section 5; without padding, for an id is a number.
        (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        (
            b"The quick brown fox jumps over the lazy dog.",
            "USm3fpXnKG5EUBx2ndxBDMPVciP5hGey2Jh4NDv6gmeo1LkMeiKrLJUUBk6Z",
        ),
        (bytes.fromhex("0000287fb4cd"), "233QC4"),
        # Bitcoin's own tests.
        (bytes.fromhex("61"), "2g"),
        (bytes.fromhex("626262"), "a3gV"),
        (bytes.fromhex("73696d706c792061206c6f6e6720737472696e67"), "2cFupjhnEsSn59qHXstmK2ffpLv2"),
        (bytes.fromhex("ecac89cad93923c02321"), "EJDM8drfXA6uyA"),
    ],
)
def test_known_texts(data: bytes, text: str) -> None:
    number = int.from_bytes(data)
    assert encode_id(number) == text
    assert decode_id(text) == decode_id(text.encode()) == number


def test_node_id_is_made_of_address_network_and_salt() -> None:
    network = protocol_id("chord", "Plaintext")
    digest = sha384(b"('127.0.0.1', 4444)" + network.encode() + b"salt").digest()
    assert decode_id(node_id("127.0.0.1", 4444, network, b"salt")) == int.from_bytes(digest)
    assert node_id("127.0.0.1", 4444, network, b"s") != node_id("127.0.0.1", 4444, network, b"t")


@pytest.mark.parametrize(
    "text",
    [
        "",
        b"",
        "0",
        "O",
        "I",
        "l",
        " 2",
        "2 ",
        "2\n",
        "-2",
        "é",
        b"\xff",
        "\ud800",
        None,
        7,
        ["2"],
        {},
        2.0,
        True,
    ],
)
def test_what_is_no_id(text: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_id(text)


def test_ids_are_bounded() -> None:
    largest = encode_id(2**384 - 1)
    assert decode_id(largest, 384) == 2**384 - 1
    for text in (encode_id(2**384), "z" * 66, "z" * 1_000_000):
        with pytest.raises(ProtocolError):
            decode_id(text, 384)
    with pytest.raises(ProtocolError):
        decode_id(encode_id(2**512))
