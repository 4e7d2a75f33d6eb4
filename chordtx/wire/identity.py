"""Ids as the protocol writes them: base58 text of an integer, in Bitcoin's alphabet, without padding.

Pure functions; the salt of a node id is given, for this layer knows no randomness. Source: the p2p-project
0.7 protocol, section "Ids".
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256, sha384

from chordtx.errors import ProtocolError

PROTOCOL_VERSION = "0.7"
#: Bits that one base58 digit is sure to add: what is longer than ``bits_max`` allows need not be decoded.
_BITS_PER_DIGIT_MIN = 5.857
#: Ids and positions kept, each way; one costs about 300 bytes.
_REMEMBERED_MAX = 16_384

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE = len(_ALPHABET)
_DIGIT_OF = {character: digit for digit, character in enumerate(_ALPHABET.encode())}
_BASE58 = re.compile(f"[{_ALPHABET}]+".encode())


@lru_cache(maxsize=64)
def protocol_id(subnet: str, encryption: str) -> str:
    """The id of a network; a peer with another one is refused.

    :param encryption: ``Plaintext`` or ``SSL``.
    """
    digest = sha256((subnet + encryption + PROTOCOL_VERSION).encode()).digest()
    return encode_id(int.from_bytes(digest))


def node_id(host: str, port: int, protocol_id: str, salt: bytes) -> str:
    """The id of a new node, 384 bits.

    :param host: outward address, as peers are told it.
    :param salt: random bytes, so that a node which starts anew at an address is a new node.
    """
    digest = sha384(str((host, port)).encode() + protocol_id.encode() + salt).digest()
    return encode_id(int.from_bytes(digest))


@lru_cache(maxsize=_REMEMBERED_MAX)
def encode_id(number: int) -> str:
    """Base58 text of an id or position, which is not negative."""
    digits = []
    while number:
        number, digit = divmod(number, _BASE)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)) or _ALPHABET[0]


def decode_id(text: str | bytes, bits_max: int = 512) -> int:
    """The number that ``text`` stands for.

    :param text: as a peer sent it, so it may be anything, even of another type.
    :raises ProtocolError: when it is no base58, or a number of more than ``bits_max`` bits.
    """
    if not isinstance(text, str | bytes):
        raise ProtocolError(f"an id of type {type(text).__name__}")
    # Length comes first: decoding takes time that grows with its square.
    if (len(text) - 1) * _BITS_PER_DIGIT_MIN > bits_max:
        raise ProtocolError(f"an id of {len(text)} characters")
    number = _decode(text)
    if number.bit_length() > bits_max:
        raise ProtocolError(f"an id of {number.bit_length()} bits")
    return number


@lru_cache(maxsize=_REMEMBERED_MAX, typed=True)
def _decode(text: str | bytes) -> int:
    digits = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if _BASE58.fullmatch(digits) is None:
        raise ProtocolError("an id that is no base58")
    number = 0
    for digit in digits:
        number = number * _BASE + _DIGIT_OF[digit]
    return number
