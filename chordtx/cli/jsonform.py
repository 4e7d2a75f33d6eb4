"""Values as JSON and back, nothing lost.

msgpack carries what JSON does not. Each such value is written as a map of one key that begins with ``$``:

=========================== =====================================================
``{"$bytes": BASE64}``      bytes, and keys that are no UTF-8
``{"$map": [[K, V], ...]}`` a map with keys other than texts, or one that would look like a form of this table
``{"$float": TEXT}``        ``nan``, ``inf``, ``-inf``
``{"$time": [S, NS]}``      a timestamp: seconds and nanoseconds since 1970
``{"$ext": [N, BASE64]}``   an extension type and its bytes
=========================== =====================================================
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from typing import Any

import msgpack

from chordtx.escaping import escaped_json

FORMS_HELP = """What JSON has no form for is written as {"$bytes": BASE64} for bytes (and for keys that are no
UTF-8), {"$map": [[KEY, VALUE], ...]} for maps with other keys than texts, {"$float": "nan"|"inf"|"-inf"},
{"$time": [SECONDS, NANOSECONDS]} and {"$ext": [NUMBER, BASE64]}, in values at any depth."""


def dumps(value: Any) -> str:
    """One line of JSON.

    :param value: what msgpack carries.
    """
    return json_text(to_json(value))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON as the command writes it: what a terminal would obey is escaped, which means the same."""
    return escaped_json(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def loads(text: str | bytes) -> Any:
    """The value that :func:`dumps` wrote.

    :raises ValueError: when it is no JSON, or a form that begins with ``$`` is unknown or broken.
    """
    return from_json(json.loads(text))


def to_json(value: Any) -> Any:
    """What ``json`` takes, for a value that msgpack carries."""
    match value:
        case bytes() | bytearray():
            return {"$bytes": base64.b64encode(value).decode()}
        case dict():
            return _map_to_json(value)
        case list() | tuple() if not isinstance(value, msgpack.ExtType):
            return [to_json(each) for each in value]
        case float() if not math.isfinite(value):
            return {"$float": str(value)}
        case msgpack.Timestamp():
            return {"$time": [value.seconds, value.nanoseconds]}
        case msgpack.ExtType():
            return {"$ext": [value.code, base64.b64encode(value.data).decode()]}
    return value


def _map_to_json(value: dict[Any, Any]) -> dict[str, Any]:
    if all(isinstance(key, str) for key in value) and not _looks_like_form(value):
        return {key: to_json(each) for key, each in value.items()}
    return {"$map": [[to_json(key), to_json(each)] for key, each in value.items()]}


def _looks_like_form(value: dict[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)).startswith("$")


def from_json(value: Any) -> Any:
    """The value that :func:`to_json` was given.

    :raises ValueError: on an unknown or broken form.
    """
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    if not _looks_like_form(value):
        return {key: from_json(each) for key, each in value.items()}
    [(form, content)] = value.items()
    if form not in _READERS:
        raise ValueError(f"unknown form {form!r}")
    try:
        return _READERS[form](content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"broken {form!r}: {error}") from error


def _read_bytes(content: Any) -> bytes:
    return base64.b64decode(content, validate=True)


def _read_map(content: Any) -> dict[Any, Any]:
    return {_hashable(from_json(key)): from_json(each) for key, each in content}


def _hashable(key: Any) -> Any:
    return tuple(_hashable(each) for each in key) if isinstance(key, list) else key


def _read_float(content: Any) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"{content!r} is not nan, inf or -inf")
    return float(content)


def _read_time(content: Any) -> msgpack.Timestamp:
    seconds, nanoseconds = content
    return msgpack.Timestamp(seconds, nanoseconds)


def _read_ext(content: Any) -> msgpack.ExtType:
    code, data = content
    return msgpack.ExtType(code, _read_bytes(data))


_READERS: dict[str, Callable[[Any], Any]] = {
    "$bytes": _read_bytes,
    "$map": _read_map,
    "$float": _read_float,
    "$time": _read_time,
    "$ext": _read_ext,
}


def key_to_json(key: bytes) -> Any:
    """A key as text when it is UTF-8, in the form for bytes otherwise."""
    try:
        return key.decode()
    except UnicodeDecodeError:
        return to_json(key)


def key_from_json(key: Any) -> bytes:
    """The key that :func:`key_to_json` was given.

    :raises ValueError: when it is neither text nor bytes.
    """
    key = from_json(key)
    if isinstance(key, str):
        return key.encode()
    if not isinstance(key, bytes):
        raise ValueError("a key is a text or bytes")
    return key
