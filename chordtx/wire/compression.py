"""The protocol's five compression methods, with the memory that a stranger's bytes may cost bounded.

What expands is taken in pieces of at most :data:`PIECE_BYTES_MAX`, so a bomb is noticed before its memory is
spent. Pure functions from bytes to bytes. The one cost that we cannot bound more tightly is the dictionary of
lzma: the published peers declare one of 8 MiB, and liblzma reserves that at once (though it touches no more
of it than it writes). A larger one is refused.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Protocol

from chordtx.errors import ProtocolError
from chordtx.wire import flags

try:
    import snappy as _snappy
except ImportError:  # it is optional, as it was for the legacy peers
    _snappy = None

PIECE_BYTES_MAX = 64 * 1024
#: The input goes in by this much: zlib copies what it has not yet used after every piece.
_FEED_BYTES_MAX = 16 * 1024
#: An 8 MiB dictionary and liblzma's own state.
_LZMA_MEMORY_BYTES_MAX = 9 * 1024 * 1024
#: Snappy's longest copy: 3 bytes of input for 64 of output.
_SNAPPY_EXPANSION_MAX = 22
#: Added to zlib's window bits to mean a gzip header and trailer.
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


class _Decompressor(Protocol):
    """What the decompressors of :mod:`bz2` and :mod:`lzma` share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def preference() -> tuple[int, ...]:
    """The methods that this interpreter has, the one to use first in front (legacy peers' order)."""
    always = (flags.ZLIB, flags.GZIP, flags.BZ2, flags.LZMA)
    return always if _snappy is None else (flags.SNAPPY, *always)


def offered() -> tuple[int, ...]:
    """Those that a node offers to its peers: they expand fast, and take little memory meanwhile.

    A block of bz2 takes 3.6 MB and the dictionary of lzma 8 MiB, however little was sent. No published peer
    needs them: all know zlib, and prefer it.
    """
    return tuple(method for method in preference() if method not in (flags.BZ2, flags.LZMA))


def compress(data: bytes, method: int) -> bytes:
    """``data`` compressed; the levels are the fast ones, for a message is packed once and soon gone.

    :param method: one of :func:`preference`.
    """
    return _COMPRESS[method](data)


class ExpandsTooMuch(ProtocolError):
    """Compressed data that expands to more than it may.

    :ivar bytes_max: to how many bytes it may.
    """

    def __init__(self, message: str, bytes_max: int) -> None:
        super().__init__(message)
        self.bytes_max = bytes_max


def decompress(data: bytes, method: int, bytes_max: int) -> bytes:
    """What ``data`` expands to.

    :param method: one of :func:`preference`.
    :raises ExpandsTooMuch: when it expands past ``bytes_max``; no more than that is held until then.
    :raises ProtocolError: when ``data`` is not whole, or has anything after it.
    """
    found: list[bytes] = []
    total_bytes = 0
    try:
        for piece in _PIECES[method](data, bytes_max):
            total_bytes += len(piece)
            if total_bytes > bytes_max:
                text = f"a message of {len(data)} bytes that expands past {bytes_max}"
                raise ExpandsTooMuch(text, bytes_max)
            found.append(piece)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
        raise ProtocolError("broken compressed data") from error
    return b"".join(found)


def _feeds(data: bytes) -> Iterator[bytes]:
    return (data[start : start + _FEED_BYTES_MAX] for start in range(0, len(data), _FEED_BYTES_MAX))


def _zlib_pieces(data: bytes, _bytes_max: int, window_bits: int) -> Iterator[bytes]:
    expander = zlib.decompressobj(window_bits)
    fed_bytes = 0
    for feed in _feeds(data):
        fed_bytes += len(feed)
        yield expander.decompress(feed, PIECE_BYTES_MAX)
        # Output can wait inside even when all input is used, so it ends only with an empty piece.
        while not expander.eof and (more := expander.decompress(expander.unconsumed_tail, PIECE_BYTES_MAX)):
            yield more
        if expander.eof:
            break
    _check_end(expander.eof, expander.unused_data, len(data) - fed_bytes)


def _block_pieces(data: bytes, _bytes_max: int, open_: Callable[[], _Decompressor]) -> Iterator[bytes]:
    expander = open_()
    fed_bytes = 0
    for feed in _feeds(data):
        fed_bytes += len(feed)
        yield expander.decompress(feed, PIECE_BYTES_MAX)
        while not expander.eof and not expander.needs_input:
            yield expander.decompress(b"", PIECE_BYTES_MAX)
        if expander.eof:
            break
    _check_end(expander.eof, expander.unused_data, len(data) - fed_bytes)


def _check_end(eof: bool, unused: bytes, unfed_bytes: int) -> None:
    if not eof:
        raise ProtocolError("compressed data that ends early")
    if unused or unfed_bytes:
        raise ProtocolError("bytes after the compressed data")


def _snappy_pieces(data: bytes, bytes_max: int) -> Iterable[bytes]:
    """One piece: snappy has no other way. But it opens with the length to come, so that is judged first."""
    claimed_bytes = _varint(data)
    if claimed_bytes > _SNAPPY_EXPANSION_MAX * len(data):
        raise ProtocolError(f"a message that claims to expand to {claimed_bytes} bytes")
    if claimed_bytes > bytes_max:
        text = f"a message of {len(data)} bytes that claims to expand to {claimed_bytes}"
        raise ExpandsTooMuch(text, bytes_max)
    try:
        return [_snappy.uncompress(data)]
    except _snappy.UncompressError as error:
        raise ProtocolError("broken compressed data") from error


def _varint(data: bytes) -> int:
    value = 0
    for index, byte in enumerate(data[:5]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value
    raise ProtocolError("a snappy length that does not end")


def _compress_zlib(data: bytes, window_bits: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    return packer.compress(data) + packer.flush()


def _compress_snappy(data: bytes) -> bytes:
    packed: bytes = _snappy.compress(data)
    return packed


_COMPRESS: dict[int, Callable[[bytes], bytes]] = {
    flags.SNAPPY: _compress_snappy,
    flags.ZLIB: partial(_compress_zlib, window_bits=zlib.MAX_WBITS),
    flags.GZIP: partial(_compress_zlib, window_bits=_GZIP_WINDOW_BITS),
    flags.BZ2: partial(bz2.compress, compresslevel=1),
    flags.LZMA: partial(lzma.compress, preset=0),
}
_PIECES: dict[int, Callable[[bytes, int], Iterable[bytes]]] = {
    flags.SNAPPY: _snappy_pieces,
    flags.ZLIB: partial(_zlib_pieces, window_bits=zlib.MAX_WBITS),
    flags.GZIP: partial(_zlib_pieces, window_bits=_GZIP_WINDOW_BITS),
    flags.BZ2: partial(_block_pieces, open_=bz2.BZ2Decompressor),
    flags.LZMA: partial(
        _block_pieces,
        open_=partial(lzma.LZMADecompressor, format=lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES_MAX),
    ),
}
