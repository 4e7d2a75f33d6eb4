"""The methods, and what broken and hostile bytes make of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chordtx.errors import ProtocolError
from chordtx.wire import ExpandsTooMuch, compress, decompress, flags, offered, preference

MIB = 1 << 20
every_method = pytest.mark.parametrize("method", preference())


def test_preference_is_that_of_the_legacy_peers() -> None:
    order = (flags.SNAPPY, flags.ZLIB, flags.GZIP, flags.BZ2, flags.LZMA)
    assert preference() == tuple(method for method in order if method in preference())
    assert preference()[-4:] == order[1:]


def test_what_takes_much_memory_is_not_offered() -> None:
    assert offered() == tuple(method for method in preference() if method not in (flags.BZ2, flags.LZMA))


@given(st.sampled_from(preference()), st.binary(max_size=2000))
def test_round_trip(method: int, data: bytes) -> None:
    assert decompress(compress(data, method), method, len(data)) == data


@every_method
@pytest.mark.parametrize("kind", ["zeros", "random", "text"])
def test_large_round_trip(method: int, kind: str) -> None:
    size = 700_001
    made = {
        "zeros": lambda: bytes(size),
        "random": lambda: random.Random(1).randbytes(size),
        "text": lambda: b"".join(b"%d bottles, " % number for number in range(60_000))[:size],
    }
    data = made[kind]()
    packed = compress(data, method)
    assert decompress(packed, method, size) == data
    with pytest.raises(ExpandsTooMuch):
        decompress(packed, method, size - 1)


@pytest.mark.parametrize(
    ("method", "pack"),
    [
        (flags.ZLIB, zlib.compress),
        (flags.GZIP, gzip.compress),
        (flags.BZ2, bz2.compress),
        (flags.LZMA, lzma.compress),
    ],
)
def test_what_a_peer_packs_at_the_usual_level(method: int, pack: object) -> None:
    data = bytes(range(256)) * 5000
    assert callable(pack)
    assert decompress(pack(data), method, MIB * 2) == data


@every_method
def test_cut_short_anywhere(method: int) -> None:
    packed = compress(b"some text, some more text", method)
    for end in range(len(packed)):
        with pytest.raises(ProtocolError):
            decompress(packed[:end], method, MIB)


@every_method
@pytest.mark.parametrize("extra", [b"\0", b"x" * 20_000])
def test_trailing_bytes(method: int, extra: bytes) -> None:
    packed = compress(b"some text", method)
    for data in (packed + extra, packed + packed):
        with pytest.raises(ProtocolError):
            decompress(data, method, MIB)


@every_method
def test_random_and_mutated(method: int) -> None:
    source = random.Random(method)
    packed = compress(b"some text, some more text" * 20, method)
    for _ in range(1000):
        mutated = bytearray(packed)
        mutated[source.randrange(len(mutated))] ^= 1 << source.randrange(8)
        for data in (bytes(mutated), source.randbytes(source.randrange(80))):
            with suppress(ProtocolError):
                decompress(data, method, 4096)


def test_lzma_with_a_large_dictionary() -> None:
    """64 MiB that an attacker could have reserved with a hundred bytes."""
    with pytest.raises(ProtocolError):
        decompress(lzma.compress(b"x", preset=9), flags.LZMA, MIB)


def test_snappy_that_claims_too_much() -> None:
    if flags.SNAPPY not in preference():
        pytest.skip("python-snappy is not installed")
    for claim in (b"\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\xff" * 9, b"\x80"):
        with pytest.raises(ProtocolError):
            decompress(claim + b"\0x", flags.SNAPPY, 1 << 40)
