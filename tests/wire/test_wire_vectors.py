"""Bytes that a published peer made, read and made again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from chordtx.config import Limits
from chordtx.wire import (
    Codec,
    FrameReader,
    Message,
    decode_id,
    decompress,
    encode_id,
    flags,
    frame,
    preference,
    protocol_id,
)

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "wire-vectors.json").read_text())
LIMITS = Limits()


def plain(value: Any) -> Any:
    """A value as the vectors write it, with bytes and maps marked, as Python has it."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    return {plain(key): plain(entry) for key, entry in value["$map"]}


MESSAGES = [pytest.param(vector, id=vector["name"]) for vector in VECTORS["messages"]]
COMPRESSED = [
    pytest.param(vector, int(method, 16), id=f"{vector['name']}-{method}")
    for vector in VECTORS["messages"]
    for method in vector["compressed"]
]


@pytest.mark.parametrize("vector", VECTORS["protocol_ids"], ids=lambda vector: str(vector["id"]))
def test_protocol_id(vector: dict[str, str]) -> None:
    assert protocol_id(vector["subnet"], vector["encryption"]) == vector["id"]


@pytest.mark.parametrize("vector", VECTORS["positions"], ids=lambda vector: str(vector["key"])[:16])
@pytest.mark.parametrize("method", ["sha1", "sha224", "sha256", "sha384", "sha512"])
def test_position_as_text(vector: dict[str, str], method: str) -> None:
    position = int(vector[method], 16)
    digest = hashlib.new(method, bytes.fromhex(vector["key"])).digest()
    assert position == int.from_bytes(digest.ljust(384 // 8, b"\0"))
    assert encode_id(position) == vector[f"{method}_b58"]
    assert decode_id(vector[f"{method}_b58"]) == position
    assert decode_id(vector[f"{method}_b58"].encode()) == position


@pytest.mark.parametrize("vector", MESSAGES)
def test_message_made(vector: dict[str, Any]) -> None:
    message = Message.build(vector["type"], plain(vector["sender"]), vector["time"], plain(vector["payload"]))
    assert message.body.hex() == vector["serialized"]
    assert message.id.hex() == vector["id"]
    assert frame(message.data).hex() == vector["frame"]
    assert Codec(LIMITS).encode(message).hex() == vector["frame"]


@pytest.mark.parametrize("vector", MESSAGES)
def test_message_read(vector: dict[str, Any]) -> None:
    codec = Codec(LIMITS)
    codec.receive_data(bytes.fromhex(vector["frame"]))
    message = codec.next_message()
    assert message is not None
    assert (message.type, message.time) == (vector["type"], vector["time"])
    assert message.sender == plain(vector["sender"])
    assert message.payload == tuple(plain(vector["payload"]))
    assert message.id.hex() == vector["id"]
    assert message.data == bytes.fromhex(vector["frame"])[4:]


@pytest.mark.parametrize(("vector", "method"), COMPRESSED)
def test_compressed_read(vector: dict[str, Any], method: int) -> None:
    if method not in preference():
        assert method == flags.SNAPPY
        pytest.skip("python-snappy is not installed")
    codec = Codec(LIMITS)
    codec.receive_data(bytes.fromhex(vector["compressed"][f"0x{method:02x}"]))
    message = codec.next_message()
    assert message is not None
    assert message.id.hex() == vector["id"]
    assert message.payload == tuple(plain(vector["payload"]))


@pytest.mark.parametrize(("vector", "method"), COMPRESSED)
def test_compressed_made(vector: dict[str, Any], method: int) -> None:
    """What we compress expands to the same; the compressed bytes themselves are each library's own."""
    if method not in preference():
        pytest.skip("python-snappy is not installed")
    codec = Codec(LIMITS, compress_bytes_min=1)
    codec.peer_offers([method])
    message = Message.build(vector["type"], plain(vector["sender"]), vector["time"], plain(vector["payload"]))
    reader = FrameReader(LIMITS.frame_bytes_max)
    reader.receive_data(codec.encode(message))
    data = reader.next_frame()
    assert data is not None
    expanded = data if data == message.data else decompress(data, method, LIMITS.expanded_bytes_max)
    assert frame(expanded).hex() == vector["frame"]
