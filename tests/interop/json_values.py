"""Values as the drivers of legacy peers write them: JSON, with what JSON has no word for under ``$`` names.

Bytes are ``{"$bytes": hex}``, a map that JSON cannot carry is ``{"$map": [[key, value], ...]}``. Imported by
:mod:`tests.interop.peers` and, on py2p's Python, by ``legacy_py2p.py``: only the language is used here.
"""

from __future__ import annotations

from typing import Any


def to_json(value: Any) -> Any:
    """Put a value that msgpack carries into what JSON carries."""
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(inner) for key, inner in value.items()}
        return {"$map": [[to_json(key), to_json(inner)] for key, inner in value.items()]}
    if isinstance(value, (list, tuple)):
        return [to_json(inner) for inner in value]
    return value


def from_json(value: Any) -> Any:
    """Undo :func:`to_json`."""
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"$bytes"}:
        return bytes.fromhex(value["$bytes"])
    if set(value) == {"$map"}:
        return {from_json(key): from_json(inner) for key, inner in value["$map"]}
    return {key: from_json(inner) for key, inner in value.items()}
