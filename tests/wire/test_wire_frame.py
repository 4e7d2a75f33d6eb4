"""Frames, whole and torn."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.wire import FrameReader, frame, light_frame

BYTES_MAX = 1 << 24


def read_all(reader: FrameReader) -> list[bytes]:
    return list(iter(reader.next_frame, None))


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_torn_anywhere(contents: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, contents))
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    reader = FrameReader(BYTES_MAX)
    found = []
    for start, end in pairwise(ends):
        reader.receive_data(stream[start:end])
        found += read_all(reader)
    assert found == contents
    assert reader.pending_bytes == 0


def test_byte_by_byte() -> None:
    contents = [b"", b"one", b"x" * 300, b""]
    reader = FrameReader(BYTES_MAX)
    found = []
    for byte in b"".join(map(frame, contents)):
        reader.receive_data(bytes([byte]))
        found += read_all(reader)
    assert found == contents


def test_pending_bytes() -> None:
    reader = FrameReader(BYTES_MAX)
    reader.receive_data(frame(b"abc") + frame(b"defg")[:-1])
    assert reader.pending_bytes == 7 + 7
    assert read_all(reader) == [b"abc"]
    assert reader.pending_bytes == 7


def test_length_past_the_limit_is_refused_before_its_bytes_come() -> None:
    reader = FrameReader(100)
    reader.receive_data(frame(b"x" * 100) + struct.pack(">I", 101)[:3])
    assert read_all(reader) == [b"x" * 100]
    reader.receive_data(b"\x65")
    for _ in range(2):
        with pytest.raises(ProtocolError, match="101"):
            reader.next_frame()


def test_many_frames_in_one_piece() -> None:
    """A quarter of a million: slicing the buffer for each would take minutes."""
    reader = FrameReader(BYTES_MAX)
    reader.receive_data(frame(b"four") * 250_000)
    assert sum(1 for _ in iter(reader.next_frame, None)) == 250_000
    assert reader.pending_bytes == 0


def test_one_large_frame_in_small_pieces() -> None:
    data = frame(bytes(8 << 20))
    reader = FrameReader(BYTES_MAX)
    for start in range(0, len(data), 100):
        assert reader.next_frame() is None
        reader.receive_data(data[start : start + 100])
    found = reader.next_frame()
    assert found is not None
    assert len(found) == 8 << 20


def test_a_stream_that_is_never_at_a_boundary_keeps_little() -> None:
    reader = FrameReader(BYTES_MAX)
    stream = frame(b"x" * 1000) * 65
    reader.receive_data(stream[:500])
    for _ in range(100):
        reader.receive_data(stream[500:] + stream[:500])
        assert len(read_all(reader)) == 65
    assert reader.pending_bytes == 500
    assert len(reader._buffer) < 4 * len(stream)


def test_longer_frames_may_be_allowed_later() -> None:
    reader = FrameReader(10)
    reader.receive_data(frame(b"x" * 10) + frame(b"y" * 11))
    assert reader.next_frame() == b"x" * 10
    reader.allow(11)
    assert reader.next_frame() == b"y" * 11


def test_what_is_discarded_holds_no_memory() -> None:
    reader = FrameReader(BYTES_MAX)
    reader.receive_data(frame(b"x" * 1000)[:-1])
    reader.discard()
    assert reader.pending_bytes == 0
    assert reader.next_frame() is None


def test_a_light_frame_has_the_highest_bit_of_its_length_set() -> None:
    assert light_frame(0x41, b"body").hex() == "80000005" + "41" + b"body".hex()


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
def test_light_frames_come_between_others_once_they_may(piece_bytes: int) -> None:
    reader = FrameReader(BYTES_MAX)
    reader.allow(BYTES_MAX, light=True)
    stream = frame(b"one") + light_frame(7, b"two") + frame(b"") + light_frame(8, b"")
    found = []
    for place in range(0, len(stream), piece_bytes):
        reader.receive_data(stream[place : place + piece_bytes])
        while (data := reader.next_frame()) is not None:
            found.append((reader.is_light, data))
    assert found == [(False, b"one"), (True, b"\x07two"), (False, b""), (True, b"\x08")]


def test_a_light_frame_is_far_too_long_where_none_may_come() -> None:
    reader = FrameReader(BYTES_MAX)
    reader.receive_data(light_frame(7, b"two"))
    with pytest.raises(ProtocolError, match="a frame of 2147483652 bytes"):
        reader.next_frame()


def test_a_light_frame_may_be_no_longer_than_others() -> None:
    reader = FrameReader(10)
    reader.allow(10, light=True)
    reader.receive_data(light_frame(7, b"x" * 9) + light_frame(7, b"x" * 10)[:5])
    assert reader.next_frame() == b"\x07" + b"x" * 9
    with pytest.raises(ProtocolError, match="a frame of 11 bytes, of 10"):
        reader.next_frame()
