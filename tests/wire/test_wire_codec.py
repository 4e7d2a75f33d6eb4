"""Bytes to messages and back, as one connection does it."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.wire import Codec, Message, compress, flags, frame, preference

LIMITS = Limits()
every_method = pytest.mark.parametrize("method", preference())


def message(*payload: Any) -> Message:
    return Message.build(flags.WHISPER, b"sender", 1_700_000_000, (flags.WHISPER, *payload))


def read_all(codec: Codec) -> list[Message]:
    return list(iter(codec.next_message, None))


@given(
    st.lists(st.binary(max_size=300), max_size=5), st.sampled_from([*preference(), None]), st.integers(1, 500)
)
def test_torn_streams(contents: list[bytes], method: int | None, step: int) -> None:
    sender, receiver = Codec(LIMITS, compress_bytes_min=100), Codec(LIMITS)
    sender.peer_offers([method])
    sent = [message(content) for content in contents]
    stream = b"".join(map(sender.encode, sent))
    found = []
    for start in range(0, len(stream), step):
        receiver.receive_data(stream[start : start + step])
        found += read_all(receiver)
    assert found == sent
    assert receiver.pending_bytes == 0


@every_method
def test_a_peer_that_must_get_nothing_plain(method: int) -> None:
    sender, receiver = Codec(LIMITS), Codec(LIMITS)
    sender.peer_offers([method], never_plain=True)
    short = message("x")
    sent = sender.encode(short)
    assert sent[4:] != short.data
    assert len(sent) > 4 + len(short.data) - 40  # it does not pay, and is done all the same
    receiver.receive_data(sent)
    assert read_all(receiver) == [short]
    assert sender.encode(short, plain=True)[4:] == short.data
    sender.peer_offers([], never_plain=True)
    assert sender.encode(short)[4:] == short.data  # it knows no method, so it tries none


@every_method
def test_byte_by_byte(method: int) -> None:
    sender, receiver = Codec(LIMITS, compress_bytes_min=1), Codec(LIMITS)
    sender.peer_offers([method])
    found = []
    for byte in sender.encode(message("x" * 500)) + sender.encode(message("y")):
        receiver.receive_data(bytes([byte]))
        found += read_all(receiver)
    assert [found_one.payload[1] for found_one in found] == ["x" * 500, "y"]


@every_method
@pytest.mark.parametrize("size", [60_000, 65_500, 70_000, 140_000, 1_000_000])
@pytest.mark.parametrize("kind", ["zeros", "random"])
def test_large_messages(method: int, size: int, kind: str) -> None:
    """On both sides of what is expanded once, and easy or impossible to compress."""
    sent = message(bytes(size) if kind == "zeros" else random.Random(size).randbytes(size))
    receiver = Codec(LIMITS)
    receiver.receive_data(frame(compress(sent.data, method)))
    assert receiver.next_message() == sent


def test_plain_until_the_peer_offers() -> None:
    codec = Codec(LIMITS)
    large = message("x" * 5000)
    assert codec.encode(large) == frame(large.data)
    codec.peer_offers([flags.ZLIB])
    assert len(codec.encode(large)) < 1000
    assert codec.encode(large, plain=True) == frame(large.data)
    codec.peer_offers([])
    assert codec.encode(large) == frame(large.data)


def test_our_order_decides() -> None:
    codec = Codec(LIMITS, (flags.GZIP, flags.ZLIB), compress_bytes_min=1)
    codec.peer_offers([0x77, "zlib", None, [], flags.ZLIB, flags.GZIP])
    assert codec.encode(message("x" * 500))[4:6] == b"\x1f\x8b"
    codec.peer_offers([flags.ZLIB, flags.BZ2])
    assert codec.encode(message("x" * 500))[4:5] == b"\x78"


def test_short_messages_and_those_that_do_not_shrink_go_plain() -> None:
    codec = Codec(LIMITS, compress_bytes_min=300)
    codec.peer_offers(preference())
    for sent in (message("x" * 200), message(random.Random(1).randbytes(5000))):
        assert codec.encode(sent) == frame(sent.data)
    assert len(codec.encode(message("x" * 300))) < 300


def test_methods_that_we_do_not_offer_are_not_read() -> None:
    codec = Codec(LIMITS, (flags.ZLIB,))
    codec.receive_data(frame(compress(message("x").data, flags.GZIP)))
    with pytest.raises(ProtocolError):
        codec.next_message()


@every_method
def test_wrong_checksum(method: int) -> None:
    for sent in (message("x"), message(bytes(200_000))):
        data = bytearray(sent.data)
        data[-1] ^= 1
        for content in (bytes(data), compress(bytes(data), method)):
            codec = Codec(LIMITS)
            codec.receive_data(frame(content))
            with pytest.raises(ProtocolError):
                codec.next_message()


@every_method
def test_expanded_limit(method: int) -> None:
    sent = message(bytes(5000))
    for limit, is_taken in ((len(sent.data), True), (len(sent.data) - 1, False)):
        codec = Codec(Limits(expanded_bytes_max=limit))
        codec.receive_data(frame(compress(sent.data, method)))
        if is_taken:
            assert codec.next_message() == sent
        else:
            with pytest.raises(ProtocolError):
                codec.next_message()


def test_frame_limit() -> None:
    codec = Codec(Limits(frame_bytes_max=1000))
    codec.receive_data(struct.pack(">I", 1001))
    with pytest.raises(ProtocolError):
        codec.next_message()


def test_what_is_too_large_is_not_sent() -> None:
    codec = Codec(Limits(frame_bytes_max=1000, expanded_bytes_max=3000))
    codec.peer_offers([flags.ZLIB])
    assert len(codec.encode(message(bytes(2000)))) < 1000
    for sent in (message(random.Random(1).randbytes(2000)), message(bytes(4000))):
        with pytest.raises(ValueTooLarge):
            codec.encode(sent)


def test_pending_bytes() -> None:
    codec = Codec(LIMITS)
    codec.receive_data(codec.encode(message("x"))[:-1])
    assert codec.next_message() is None
    assert codec.pending_bytes > 0
