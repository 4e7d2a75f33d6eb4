"""A record as users see it: its value, and what the ring knows of it beside."""

from __future__ import annotations

from typing import NamedTuple

from chordtx.values import Value


class Entry(NamedTuple):
    """What stands under a key, at one moment.

    :ivar key: bytes. :ivar value: what was stored.
    :ivar version: opaque text. It is another one after each change of the key, and it is never used again.
    :ivar expires: when the record expires, in Unix seconds; None for never.
    """

    key: bytes
    value: Value
    version: str
    expires: float | None
