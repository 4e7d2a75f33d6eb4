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
from chordtx.wire import Codec, ExpandsTooMuch, Message, compress, flags, frame, preference

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
@pytest.mark.parametrize("size", [60_000, 70_000, 140_000, 1_000_000])
@pytest.mark.parametrize("kind", ["zeros", "random", "text"])
def test_large_messages(method: int, size: int, kind: str) -> None:
    """Easy or impossible to compress: what the one sends the other reads."""
    made = {
        "zeros": bytes(size),
        "random": random.Random(size).randbytes(size),
        "text": b"".join(b"%d bottles, " % number for number in range(size // 10))[:size],
    }
    sent = message(made[kind])
    sender, receiver = Codec(LIMITS), Codec(LIMITS)
    sender.peer_offers([method])
    receiver.receive_data(sender.encode(sent))
    assert receiver.next_message() == sent


@every_method
def test_what_expands_too_much_is_refused_and_the_next_is_read(method: int) -> None:
    allowed = LIMITS.expansion_bytes_free // 2
    fits, exceeds = message(bytes(allowed)), message(bytes(LIMITS.expansion_bytes_free * 2))
    receiver = Codec(LIMITS)
    for each in (exceeds, fits):
        receiver.receive_data(frame(compress(each.data, method)))
    receiver.receive_data(frame(exceeds.data))
    if method == flags.SNAPPY:  # which expands 22 : 1 at most, so that its sender has paid for more
        exceeds = message(bytes(LIMITS.expansion_bytes_free * 20))
        receiver = Codec(LIMITS)
        for each in (exceeds, fits):
            receiver.receive_data(frame(compress(each.data, method)))
        receiver.receive_data(frame(exceeds.data))
    with pytest.raises(ExpandsTooMuch):
        receiver.next_message()
    assert [receiver.next_message(), receiver.next_message()] == [fits, exceeds]


@pytest.mark.parametrize("value", [[0] * 200_000, [[]] * 20_000, {n: {n: n} for n in range(9_000)}])
def test_what_costs_too_much_when_it_comes_compressed_is_sent_plain(value: Any) -> None:
    sent = message(value)
    sender, receiver = Codec(LIMITS), Codec(LIMITS)
    sender.peer_offers([flags.ZLIB])
    receiver.receive_data(frame(compress(sent.data, flags.ZLIB)))
    with pytest.raises(ExpandsTooMuch):
        receiver.next_message()
    assert sender.encode(sent) == frame(sent.data)
    receiver.receive_data(sender.encode(sent))
    assert receiver.next_message() == sent


def test_before_the_handshake_frames_are_short_and_plain() -> None:
    first = message(bytes(LIMITS.greeting_bytes_max - 60))
    second = message(bytes(LIMITS.greeting_bytes_max))
    packed = frame(compress(first.data, flags.ZLIB))
    codec = Codec(LIMITS, has_greeted=False)
    codec.receive_data(frame(first.data))
    assert codec.next_message() == first
    for stream in (frame(second.data)[:4], packed):
        refusing = Codec(LIMITS, has_greeted=False)
        refusing.receive_data(stream)
        with pytest.raises(ProtocolError):
            refusing.next_message()
    codec.greeted()
    codec.receive_data(packed + frame(second.data))
    assert [codec.next_message(), codec.next_message()] == [first, second]


def test_what_is_discarded_is_not_read() -> None:
    codec = Codec(LIMITS)
    codec.receive_data(frame(message("x").data))
    codec.discard()
    assert codec.next_message() is None
    assert codec.pending_bytes == 0


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
    assert len(codec.encode(message(bytes(2000)))) < 1000  # though it is longer than a frame may be
    for sent in (message(random.Random(1).randbytes(2000)), message(bytes(4000))):
        with pytest.raises(ValueTooLarge):
            codec.encode(sent)


def test_pending_bytes() -> None:
    codec = Codec(LIMITS)
    codec.receive_data(codec.encode(message("x"))[:-1])
    assert codec.next_message() is None
    assert codec.pending_bytes > 0
