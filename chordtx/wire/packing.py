"""msgpack from strangers: what it would cost to decode is known before a single object of it is built.

:func:`scan` walks the structure without building anything, and stops at the first thing that passes a limit.
So nested headers, each claiming a large array, or a frame of empty maps cost a hostile peer's bytes only.
Pure functions, between bytes and Python values.
"""

from __future__ import annotations

import msgpack

from chordtx.config import Limits
from chordtx.errors import ProtocolError

#: What a message has around a user's value: one array more, and a few entries. A value that was just small
#: enough to be packed must still fit when a legacy peer sends it back inside a message.
ENVELOPE_DEPTH = 1
ENVELOPE_ELEMENTS = 16

# Memory of the containers, measured on CPython 3.11 with their place in what holds them. The scalars need no
# such account: each costs at most 40 bytes for one byte sent, a container up to 88.
_ARRAY_BYTES = _EMPTY_MAP_BYTES = 88
_MAP_BYTES = 256
#: Containers may cost 2 MiB in a message of up to 64 KiB: with the scalars it then stays under 4 MiB ...
_CONTAINER_BYTES_FREE = 2 << 20
_FREE_UP_TO_BYTES = 64 << 10
#: ... and what comes above that may cost this many bytes for each byte sent: real data needs about 30.
_CONTAINER_BYTES_PER_BYTE = 64
#: What came compressed is longer than what was sent. That takes memory too, so its parts may take less.
_COMPRESSED_CONTAINER_BYTES_FREE = 1 << 20
_COMPRESSED_CONTAINER_BYTES_PER_BYTE = 32
_COMPRESSED_ELEMENTS_FREE = 32 << 10

#: About what an element takes once it is decoded, its place in an array or map included.
_ELEMENT_BYTES = 64
#: And for each byte of what is too small to be looked at closely.
_DECODED_BYTES_PER_SMALL_BYTE = 8

#: Up to here a message is small enough that counting what might be a header tells all that is needed ...
_SMALL_BYTES_MAX = 1024
#: ... as long as there are this few: msgpack may reserve, for each array, 8 bytes for each of the message.
_SMALL_HEADERS_MAX = 32


#: A message without maps is decoded at once, and looked at after that, up to here: so short, it can be nested
#: too deep, but pass no other bound.
_DECODED_FIRST_BYTES_MAX = 16 << 10
#: msgpack reserves 8 bytes for each entry that an array claims, and nests arrays 1,024 deep: 2 MiB at most.
_DECODED_FIRST_CLAIMED_MAX = 256


class TooDeep(ProtocolError):
    """Nested past ``Limits.depth_max``."""


class TooMany(ProtocolError):
    """More elements or containers than the limits allow."""


def pack(value: object) -> bytes:
    """``value`` in msgpack: tuples as arrays, bytes as bin, integers from -2**63 to 2**64 - 1.

    :raises TypeError: when msgpack cannot carry it.
    """
    try:
        packed: bytes = msgpack.packb(value)
    except (
        ValueError,
        OverflowError,
    ) as error:  # an integer too large, a lone surrogate, a list inside itself
        raise TypeError(f"msgpack cannot carry this value: {error}") from error
    return packed


def unpack(data: bytes, limits: Limits, *, envelope: bool = False) -> object:
    """The value that ``data`` holds, checked by :func:`scan` first.

    :param envelope: ``data`` is a whole message, see :data:`ENVELOPE_DEPTH`.
    :raises ProtocolError: when it is no msgpack, passes a limit, or holds what Python cannot (text that is no
        UTF-8, a list as the key of a map).
    """
    scan(data, limits, envelope=envelope)
    return unpack_scanned(data)


def unpack_message(data: bytes, limits: Limits, sent_bytes: int | None = None) -> tuple[object, int]:
    """As :func:`unpack` of a whole message, for every message passes here.

    :param sent_bytes: as for :func:`scan`.
    :returns: the value, and about how many bytes of memory it takes.
    :raises ProtocolError: as :func:`unpack`.
    """
    found = _decoded_first(data, limits)
    if found is not None:
        return found
    decoded_bytes = scan(data, limits, envelope=True, sent_bytes=sent_bytes)
    return unpack_scanned(data), decoded_bytes


def _decoded_first(data: bytes, limits: Limits) -> tuple[object, int] | None:
    """What :func:`unpack_message` gives, for short messages without maps; None for others, right or wrong.

    As nearly all calls and answers are. Walking through them takes three times as long as decoding them.
    """
    size_bytes = len(data)
    if size_bytes > _DECODED_FIRST_BYTES_MAX or size_bytes > min(limits.elements_max, limits.containers_max):
        return None
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            max_array_len=_DECODED_FIRST_CLAIMED_MAX,
            max_map_len=0,
            object_pairs_hook=_refuse_map,
        )
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return None
    if type(value) is not list:
        return None
    level = [value]
    elements = arrays = 0
    for _ in range(limits.depth_max + ENVELOPE_DEPTH):
        arrays += len(level)
        inner = []
        for array in level:
            elements += len(array)
            for part in array:
                if type(part) is list:
                    inner.append(part)
        if not inner:
            arrays_bytes = arrays * _ARRAY_BYTES
            if arrays_bytes > _COMPRESSED_CONTAINER_BYTES_FREE:
                return None
            return value, size_bytes + elements * _ELEMENT_BYTES + arrays_bytes
        level = inner
    return None


def _refuse_map(_: object) -> None:
    raise ValueError("a map")


def scan(data: bytes, limits: Limits, *, envelope: bool = False, sent_bytes: int | None = None) -> int:
    """Check, without building it, that what ``data`` holds keeps to ``limits``.

    :param sent_bytes: how many bytes were sent for it, when it came compressed: they count then, see
        :func:`_bounds`.
    :returns: about how many bytes of memory it takes once it is decoded.
    :raises ProtocolError: when it does not, or is broken in a way that shows on the way.
    """
    if _is_small(data, limits):
        return _DECODED_BYTES_PER_SMALL_BYTE * len(data)
    return walk(data, limits, envelope=envelope, sent_bytes=sent_bytes)


def walk(data: bytes, limits: Limits, *, envelope: bool = False, sent_bytes: int | None = None) -> int:
    """As :func:`scan`, but always to the end: ``data`` is just one value, and its maps have keys that can be.

    Iterative, for nesting must not cost stack; and in one piece, for a call costs as much as an element.
    """
    depth_max, claimed_max, containers_max, memory_bytes_max = _bounds(
        len(data), limits, envelope, sent_bytes
    )
    claimed = containers = memory_bytes = 0
    position, owed, in_map = 0, 1, False
    outer: list[tuple[int, bool]] = []
    try:
        while owed or outer:
            if not owed:
                owed, in_map = outer.pop()
                continue
            head = data[position]
            owed -= 1
            size_bytes = _SIZES[head]
            if size_bytes:
                position += size_bytes
                continue
            if head in _SHORT_TEXTS:
                position += 2 + data[position + 1]
                continue
            # Entries owed by a map are even in number, and go down: a key leaves an odd rest.
            if in_map and owed % 2 and head in _NEVER_A_KEY:
                raise ProtocolError("a map with a key that no dict can hold")
            count, header_bytes = _FIXED_HEADERS.get(head) or _header(data, position, head)
            position += header_bytes
            if head not in _CONTAINERS:
                position += count
                continue
            outer.append((owed, in_map))
            in_map = head in _MAPS
            owed = 2 * count if in_map else count
            claimed += owed
            containers += 1
            memory_bytes += _MAP_BYTES if in_map and count else _ARRAY_BYTES
            if (
                claimed > claimed_max
                or len(outer) > depth_max
                or containers > containers_max
                or memory_bytes > memory_bytes_max
            ):
                raise _excess(claimed >= len(data), len(outer) > depth_max)
    except IndexError:
        raise ProtocolError("msgpack that ends early") from None
    if position > len(data):
        raise ProtocolError("msgpack that ends early")
    if position < len(data):
        raise ProtocolError("bytes after the msgpack")
    return len(data) + claimed * _ELEMENT_BYTES + memory_bytes


def _bounds(
    data_bytes: int, limits: Limits, envelope: bool, sent_bytes: int | None
) -> tuple[int, int, int, int]:
    """For :func:`walk`, the most of depth, elements, containers and memory that ``data_bytes`` may hold.

    What came compressed may cost as much as its sender has paid for, and no more.
    """
    spare = ENVELOPE_ELEMENTS if envelope else 0
    depth_max = limits.depth_max + (ENVELOPE_DEPTH if envelope else 0)
    # Each element takes a byte at least, and so does the outermost header.
    claimed_max = min(limits.elements_max + spare, data_bytes - 1)
    free_bytes, bytes_per_byte = _CONTAINER_BYTES_FREE, _CONTAINER_BYTES_PER_BYTE
    if sent_bytes is not None:
        claimed_max = min(claimed_max, max(_COMPRESSED_ELEMENTS_FREE, sent_bytes // 2))
        free_bytes, bytes_per_byte = _COMPRESSED_CONTAINER_BYTES_FREE, _COMPRESSED_CONTAINER_BYTES_PER_BYTE
    above_bytes = max(0, (data_bytes if sent_bytes is None else sent_bytes) - _FREE_UP_TO_BYTES)
    return (
        depth_max,
        claimed_max,
        limits.containers_max + spare,
        free_bytes + above_bytes * bytes_per_byte + spare * _ARRAY_BYTES,
    )


def _excess(is_short: bool, is_deep: bool) -> ProtocolError:
    if is_short:
        return ProtocolError("msgpack that claims more than there is")
    return TooDeep("nested too deep") if is_deep else TooMany("too many elements, arrays and maps")


def unpack_scanned(data: bytes) -> object:
    """As :func:`unpack`, for who has called :func:`scan`."""
    try:
        return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=False)
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise ProtocolError(f"broken msgpack: {error}") from error


def _is_small(data: bytes, limits: Limits) -> bool:
    """Whether ``data`` is sure to keep to every limit. False may be wrong, true never is. One pass in C."""
    if len(data) > _SMALL_BYTES_MAX or len(data) > limits.elements_max:
        return False
    headers = data.translate(_MARK_EXTENSIONS, _ORDINARY)
    allowed = min(_SMALL_HEADERS_MAX, limits.depth_max, limits.containers_max)
    return len(headers) <= allowed and _EXTENSION not in headers


def costs_little(data: bytes) -> bool:
    """Whether what :func:`pack` made is sure to keep to the bounds of compressed messages. One pass in C.

    False may be wrong; true never is, as long as the nesting is right.
    """
    if len(data) > _COMPRESSED_ELEMENTS_FREE:
        return False
    return len(data.translate(None, _ORDINARY)) * _MAP_BYTES <= _COMPRESSED_CONTAINER_BYTES_FREE


def is_flat(packed: bytes, limits: Limits) -> bool:
    """Whether what :func:`pack` made is small and holds one container at most: :func:`walk` would pass it.

    No key can be a container then, and nothing is nested. False may be wrong, since other bytes can look like
    a header; true never is.
    """
    if len(packed) > _SMALL_BYTES_MAX or len(packed) > limits.elements_max:
        return False
    return len(packed.translate(None, _ORDINARY)) <= 1


def _header(data: bytes, position: int, head: int) -> tuple[int, int]:
    """The number that a header carries (of entries, or of bytes that follow), and its own length in bytes.

    What is cut short reads as less; the end of the walk then shows it.
    """
    width_bytes = _WIDTHS.get(head)
    if width_bytes is None:
        raise ProtocolError(f"msgpack has no type 0x{head:02x}")
    count = int.from_bytes(data[position + 1 : position + 1 + width_bytes])
    return count, 1 + width_bytes + (head in _EXTENSIONS)


# The msgpack format by first byte. Source: the msgpack specification, "Formats".
_MAPS = frozenset([*range(0x80, 0x90), 0xDE, 0xDF])
_CONTAINERS = frozenset([*_MAPS, *range(0x90, 0xA0), 0xDC, 0xDD])
_EXTENSIONS = frozenset([0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])
#: A list or dict has no hash. An extension has one, but that of msgpack's Timestamp a peer can foresee, and
#: it compares in Python: a few thousand of one hash would take seconds.
_NEVER_A_KEY = _CONTAINERS | _EXTENSIONS
#: bin and str of up to 255 bytes, which are most.
_SHORT_TEXTS = frozenset([0xC4, 0xD9])
#: Bytes of the length field of bin, str, ext, array and map.
_WIDTHS = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4,
    0xC7: 1, 0xC8: 2, 0xC9: 4,
    0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
#: For fixmap, fixarray and fixext, what :func:`_header` returns.
_FIXED_HEADERS = {head: (head & 0x0F, 1) for head in range(0x80, 0xA0)} | {
    0xD4 + power: (1 << power, 2) for power in range(5)
}
_NUMBERS = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}


def _size_bytes(head: int) -> int:
    if head < 0x80 or head >= 0xE0 or head in (0xC0, 0xC2, 0xC3):  # small integers, nil, false, true
        return 1
    return head - 0xA0 + 1 if 0xA0 <= head < 0xC0 else _NUMBERS.get(head, 0)


#: Bytes that an element takes whose size its first byte tells; 0 for the others.
_SIZES = tuple(map(_size_bytes, range(256)))
_ORDINARY = bytes(head for head in range(256) if head not in _NEVER_A_KEY)
_EXTENSION = b"x"
_MARK_EXTENSIONS = bytes(ord(_EXTENSION) if head in _EXTENSIONS else head for head in range(256))
