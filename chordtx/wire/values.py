"""Users' values as the packed blobs that records hold and replicas never open."""

from __future__ import annotations

from chordtx.config import Limits
from chordtx.errors import ProtocolError, ValueTooLarge
from chordtx.values import Value
from chordtx.wire.packing import TooMany, is_flat, pack, unpack, walk

_LIMITS = Limits()


def pack_value(value: object, bytes_max: int, limits: Limits = _LIMITS) -> bytes:
    """``value`` as a blob that every node with these limits can read back.

    :raises TypeError: when msgpack cannot carry it: of another type, nested past ``limits.depth_max``, an
        integer outside -2**63 .. 2**64 - 1, a map with a tuple or an extension type as a key.
    :raises ValueTooLarge: when the blob is past ``bytes_max``, or holds more elements than the limits allow.
    """
    blob = pack(value)
    check_value(blob, bytes_max, limits)
    return blob


def check_value(blob: bytes, bytes_max: int, limits: Limits) -> None:
    """See whether a packed value is within the limits.

    :raises TypeError, ValueTooLarge: as :func:`pack_value`.
    """
    if len(blob) > bytes_max:
        raise ValueTooLarge(f"the value takes {len(blob)} bytes, of {bytes_max}", len(blob), bytes_max)
    try:
        if not is_flat(blob, limits):
            walk(blob, limits)
    except TooMany as error:
        raise ValueTooLarge(f"the value has {error}", len(blob), bytes_max) from error
    except ProtocolError as error:
        raise TypeError(f"msgpack cannot carry this value: {error}") from error


def unpack_value(blob: bytes, limits: Limits) -> Value:
    """The value in ``blob``; arrays come back as lists.

    :raises ProtocolError: when it is broken or past the limits.
    """
    if not isinstance(blob, bytes):
        raise ProtocolError("a value comes as bytes")
    return unpack(blob, limits)
