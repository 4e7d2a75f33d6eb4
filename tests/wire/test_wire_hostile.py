"""Frames of 64 KiB made to hurt: each is refused, or read, for little memory; only ProtocolError comes out.

Time is not asserted, for load would break that; memory is, as the interpreter counts it.
"""

from __future__ import annotations

import bz2
import lzma
import random
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256

import pytest

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.wire import Codec, Message, compress, flags, frame, preference, unpack_value

FRAME_BYTES = 64 << 10
MIB = 1 << 20
LIMITS = Limits()
PEAK_BYTES_MAX = 4 * MIB
EXPANDING = [method for method in preference() if method != flags.SNAPPY]
#: What liblzma reserves for the dictionary that the legacy peers declare; see chordtx.wire.compression.
LZMA_DICTIONARY_BYTES = 8 * MIB + 256 * 1024
#: Type, sender, time; the array's own head is in front.
HEAD = b"\x02\xa1a\x01"
ROOM = FRAME_BYTES - 32 - 16


def with_id(body: bytes) -> bytes:
    return sha256(body).digest() + body


def message_of(entry: bytes) -> bytes:
    """One more payload entry, as it is."""
    return with_id(b"\x95" + HEAD + b"\x00" + entry)


def message_full_of(element: bytes) -> bytes:
    """An array of as many of ``element`` as fit."""
    count = ROOM // len(element)
    return message_of(b"\xdd" + struct.pack(">I", count) + element * count)


def map_full_of(key: Callable[[int], bytes]) -> bytes:
    """A map with as many entries as fit, all with nil as their value."""
    entries = [key(number) + b"\xc0" for number in range(ROOM // (len(key(0)) + 1))]
    return message_of(b"\xdf" + struct.pack(">I", len(entries)) + b"".join(entries))


def nested_claims(header: bytes) -> bytes:
    return message_of(header * (ROOM // len(header)))


HOSTILE = {
    "nested array32 headers, large claims": nested_claims(b"\xdd\x00\x00\xff\x00"),
    "nested array32 headers, larger claims": nested_claims(b"\xdd\xff\xff\xff\xff"),
    "1,000 nested array32 headers": message_of(b"\xdd\x00\x00\xf0\x00" * 1000 + bytes(50_000)),
    "nested array16 headers": nested_claims(b"\xdc\x10\x00"),
    "nested array16 headers, short": message_of(b"\xdc\x01\x00" * 1000),
    "nested array16 headers in a row, short": message_of(
        b"\xdc\x00\xff" + b"\xe0" * 250 + b"\xdc\x01\x00" * 1015 + b"\xe0" * 12_000
    ),
    "nested arrays": nested_claims(b"\x91"),
    "nested arrays of 15": nested_claims(b"\x9f"),
    "nested maps": nested_claims(b"\x81\x00"),
    "nested map32 headers": nested_claims(b"\xdf\x00\x00\x40\x00\x00"),
    "arrays in a row, each with a large claim": message_full_of(b"\xdd\x00\x00\xf0\x00"),
    "empty maps": message_full_of(b"\x80"),
    "empty arrays": message_full_of(b"\x90"),
    "empty arrays, written long": message_full_of(b"\xdd\x00\x00\x00\x00"),
    "maps of one": message_full_of(b"\x81\x00\x00"),
    "maps of one text": message_full_of(b"\x81\xa1a\x00"),
    "maps of five": message_full_of(b"\x85" + bytes(range(5)) * 2),
    "maps of six": message_full_of(b"\x86" + b"".join(bytes([key, 0]) for key in range(6))),
    "maps of eleven": message_full_of(b"\x8b" + b"".join(bytes([key, 0]) for key in range(11))),
    "arrays of one": message_full_of(b"\x91\x00"),
    "arrays of one costly number": message_full_of(b"\x91\xe0"),
    "29,000 empty maps and costly numbers": message_of(
        b"\xdc\xff\x00" + b"\x80" * 29_000 + b"\xe0" * (0xFF00 - 29_000)
    ),
    "nils": message_full_of(b"\xc0"),
    "costly numbers": message_full_of(b"\xe0"),
    "floats": message_full_of(b"\xcb" + b"\x01" * 8),
    "short texts": message_full_of(b"\xa2ab"),
    "wide texts": message_full_of("\xa4\U0001f600".encode("latin-1", "replace")[:1] + "\U0001f600".encode()),
    "one wide text": message_of(b"\xdb" + struct.pack(">I", 65_400) + b"a" * 65_396 + "\U0001f600".encode()),
    "short bytes": message_full_of(b"\xc4\x02ab"),
    "extensions": message_full_of(b"\xd4\x05a"),
    "empty extensions": message_full_of(b"\xc7\x00\x05"),
    "times": message_full_of(b"\xd6\xff\x01\x02\x03\x04"),
    "a map of numbers": map_full_of(lambda number: b"\xcd" + struct.pack(">H", number)),
    "a map of times with one hash": map_full_of(
        lambda number: b"\xd7\xff" + struct.pack(">Q", ((10_000 - number) << 34) + number)
    ),
    "a map that claims too much": message_of(b"\xdf\x00\x01\x00\x00" + bytes(60_000)),
    "zeros": bytes(FRAME_BYTES),
    "a body of zeros": with_id(bytes(FRAME_BYTES - 32)),
}

LEGAL_STEM = b"\x95" + HEAD + b"\x00"
#: A head, and what is repeated after it.
BOMBS = {
    "zeros": (b"", b"\0"),
    "empty maps": (LEGAL_STEM + b"\xdd\x00\xe0\x00\x00", b"\x80"),
    "maps of one": (LEGAL_STEM + b"\xdd\x00\x08\x00\x00", b"\x81\x00\x00"),
    "nested arrays": (LEGAL_STEM, b"\x91"),
    "bytes of one entry": (LEGAL_STEM + b"\xc6\x00\x50\x00\x00", b"\0"),
}


@lru_cache
def bomb(method: int, name: str, size_bytes: int, is_sum_right: bool = True) -> bytes:
    """A frame that expands to ``size_bytes``, as a peer would make it."""
    head, element = BOMBS[name]
    body = head + element * (size_bytes // len(element))
    data = (sha256(body).digest() if is_sum_right else bytes(32)) + body
    if method == flags.LZMA:
        packed = lzma.compress(data)  # the dictionary of the usual level
    elif method == flags.BZ2:
        packed = bz2.compress(data, 9 if len(element) == 1 else 1)  # blocks of 900 kB that repeat take long
    else:
        packed = compress(data, method)
    return packed


@lru_cache
def padded(method: int, body: bytes) -> bytes:
    """A frame of up to 64 KiB: ``body``'s entry, as often as it may expand to, and noise."""
    entry, noise = body[len(LEGAL_STEM) :], random.Random(3).randbytes(55_000)
    for count, noise_bytes in ((11, 55_000), (4, 55_000), (2, 30_000), (1, 0)):
        head = b"\xdc" + struct.pack(">H", 5 + count) + HEAD + b"\x00"
        made = head + b"\xc5" + struct.pack(">H", noise_bytes) + noise[:noise_bytes] + entry * count
        packed = compress(with_id(made), method)
        if len(packed) <= FRAME_BYTES:
            break
    return packed


def bomb_peak_bytes_max(method: int) -> int:
    return PEAK_BYTES_MAX + (LZMA_DICTIONARY_BYTES if method == flags.LZMA else 0)


def peak_bytes(data: bytes, limits: Limits = LIMITS) -> int:
    """The most memory held at any time, from the arrival of a frame until its message is dropped."""
    codec = Codec(limits)
    stream = frame(data)
    tracemalloc.start()
    try:
        codec.receive_data(stream)
        codec.next_message()
    except ProtocolError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_of_a_hostile_frame(name: str) -> None:
    assert len(HOSTILE[name]) <= FRAME_BYTES
    assert peak_bytes(HOSTILE[name]) < PEAK_BYTES_MAX


@pytest.mark.parametrize("is_sum_right", [True, False], ids=["right sum", "wrong sum"])
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("method", EXPANDING)
def test_memory_of_a_bomb(method: int, name: str, is_sum_right: bool) -> None:
    """5 MiB that come in one short frame."""
    data = bomb(method, name, 5 * MIB, is_sum_right)
    assert len(data) <= FRAME_BYTES
    assert peak_bytes(data) < bomb_peak_bytes_max(method)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("method", EXPANDING)
def test_memory_of_what_may_just_expand(method: int, name: str) -> None:
    """As much of each hostile element as a compressed frame of 64 KiB may hold: the rest of it is noise."""
    data = padded(method, HOSTILE[name][32:])
    assert len(data) <= FRAME_BYTES
    assert peak_bytes(data) < bomb_peak_bytes_max(method)


def test_memory_of_a_snappy_bomb() -> None:
    """Snappy expands at most 22 : 1: so here are one that claims more, and one that a frame has room for."""
    if flags.SNAPPY not in preference():
        pytest.skip("python-snappy is not installed")
    for data in (b"\xff\xff\xff\x07" + bytes(60_000), bomb(flags.SNAPPY, "empty maps", 20 * FRAME_BYTES)):
        assert len(data) <= FRAME_BYTES
        assert peak_bytes(data) < PEAK_BYTES_MAX


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values(name: str) -> None:
    """The same as a blob in a record, past the head of the message."""
    blob = HOSTILE[name][32 + len(LEGAL_STEM) :]
    with suppress(ProtocolError):
        unpack_value(blob, LIMITS)


def feed(codec: Codec, data: bytes) -> None:
    codec.receive_data(data)
    try:
        while codec.next_message() is not None:
            pass
    except ProtocolError:
        pass


def test_random_streams() -> None:
    source = random.Random(20)
    for _ in range(5_000):
        feed(Codec(LIMITS), source.randbytes(source.randrange(120)))
        feed(Codec(LIMITS), frame(source.randbytes(source.randrange(120))))


def test_random_bodies_with_a_right_checksum() -> None:
    source = random.Random(21)
    for _ in range(8_000):
        feed(Codec(LIMITS), frame(with_id(source.randbytes(source.randrange(1, 80)))))
        feed(Codec(LIMITS), frame(with_id(LEGAL_STEM + source.randbytes(source.randrange(80)))))


@pytest.mark.parametrize("filler_bytes", [0, 2000], ids=["small", "large"])
def test_mutated_bodies_with_a_right_checksum(filler_bytes: int) -> None:
    """Every structure that msgpack has, with a few bytes changed."""
    value = {
        "k": [1, -1, 2**63, -(2**63), 1.5, None, True, b"bin", "t\u20acxt"],
        b"b": {1: {2: [[], {}, [3]]}},
        7: b"\xd6\xff",
    }
    sent = Message.build(2, b"sender", 1, (11, value, b"x" * filler_bytes, [b"y" * 300, "z" * 40]))
    source = random.Random(22)
    for _ in range(6_000):
        body = bytearray(sent.body)
        for _ in range(source.randrange(1, 4)):
            body[source.randrange(len(body))] = source.randrange(256)
        feed(Codec(LIMITS), frame(with_id(bytes(body))))


@pytest.mark.parametrize("method", preference())
def test_mutated_frames(method: int) -> None:
    sent = Message.build(2, b"sender", 1, (11, "text " * 30, [1, 2, {"a": b"b"}]))
    source = random.Random(method)
    for packed in (sent.data, compress(sent.data, method)):
        for _ in range(800):
            data = bytearray(frame(packed))
            data[source.randrange(len(data))] ^= 1 << source.randrange(8)
            feed(Codec(LIMITS), bytes(data))
