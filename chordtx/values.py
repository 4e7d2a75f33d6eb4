"""What users store: keys, values and times to live, as they give them. Pure."""

from __future__ import annotations

import enum
from math import isfinite
from numbers import Real
from typing import Any, Final

#: None, bool, int, float, str, bytes, or a list or dict of such. It is ``Any``, so that who has stored
#: something can use it as what it is. What goes into the dict is taken as ``object``.
Value = Any
#: A key as users give it. Keys come back as bytes.
Key = bytes | bytearray | memoryview | str


class Absent(enum.Enum):
    """The kind of :data:`ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "chordtx.ABSENT"


#: In the place of a version: there is no such key.
ABSENT: Final = Absent.ABSENT
#: What tells one state of a key from another: opaque text, or that there is no such key.
Version = str | Absent
#: Some 3,000 years. A time beyond that is a mistake, and would not fit into what others read.
TTL_SECONDS_MAX = 10**11


def key_bytes(key: object) -> bytes:
    """A key, or the beginning of one, as bytes: text is taken as its UTF-8.

    :raises TypeError: when it is neither bytes-like nor text.
    """
    if isinstance(key, str):
        return key.encode("utf-8")
    if isinstance(key, bytes):
        return key
    if isinstance(key, bytearray | memoryview):
        return bytes(key)
    raise TypeError(f"a key is bytes-like or str, not {type(key).__name__}")


def check_limit(limit: object) -> int | None:
    """How many entries a listing may give, as users say it; None for all.

    :raises TypeError: when it is no int. :raises ValueError: when it is below 0.
    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise TypeError(f"a limit is an int, not {type(limit).__name__}")
    if limit < 0:
        raise ValueError("a limit is at least 0")
    return limit


def check_ttl(ttl: object) -> float | None:
    """A time to live in seconds, as users give it; None for none.

    :raises TypeError: when it is no number. :raises ValueError: when it is not above 0, not finite, or longer
        than :data:`TTL_SECONDS_MAX`.
    """
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, Real):
        raise TypeError(f"a ttl is a number of seconds, not {type(ttl).__name__}")
    try:
        seconds = float(ttl)
    except OverflowError:
        raise ValueError(f"a ttl is at most {TTL_SECONDS_MAX} seconds") from None
    if not isfinite(seconds):
        raise ValueError(f"a ttl is seconds, and not {seconds}: None is for ever")
    if seconds <= 0:
        raise ValueError("a ttl is seconds, and above 0")
    if seconds > TTL_SECONDS_MAX:
        raise ValueError(f"a ttl is at most {TTL_SECONDS_MAX} seconds")
    return seconds
