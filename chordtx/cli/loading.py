"""Stores the records of JSON Lines."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from chordtx.cli.jsonform import from_json, key_from_json
from chordtx.cli.meter import Meter
from chordtx.cli.pipeline import Pipeline
from chordtx.cli.running import Failed
from chordtx.errors import Conflict
from chordtx.values import ABSENT

UNDER_WAY_MAX = 256  # enough to keep a ring busy over a slow link, and little to lose when interrupted
_FIELDS, _FIELDS_MAX = {"key", "value"}, {"key", "value", "expires"}


class Line(NamedTuple):
    """A line that was read.

    :ivar expires: Unix seconds; None for never. :ivar number: of the line, from 1.
    :ivar size_bytes: of the line with its end.
    """

    key: bytes
    value: Any
    expires: float | None
    number: int
    size_bytes: int


async def load_lines(
    node: ChordService,
    lines: AsyncIterator[bytes],
    meter: Meter,
    wall_seconds: Callable[[], float],
    *,
    if_absent: bool = False,
) -> None:
    """Store the records of JSON Lines, but for those that have expired; of two with the same key the later
    one wins.

    :param wall_seconds: gives Unix time. :param if_absent: whether keys that are there are left as they are:
        then the first one wins.
    :raises Failed: naming the first line that is no record, or that cannot be stored.
    """
    number = 0
    async with Pipeline(UNDER_WAY_MAX) as pipeline:
        async for text in lines:
            number += 1
            if text.strip():
                line = _read(text, number)
                await pipeline.add(line.key, _Storing(node, line, meter, wall_seconds, if_absent))


class _Storing:
    """One line on its way into the ring."""

    def __init__(
        self, node: ChordService, line: Line, meter: Meter, wall_seconds: Callable[[], float], if_absent: bool
    ) -> None:
        self._node, self._line, self._meter, self._wall_seconds = node, line, meter, wall_seconds
        self._if_absent = if_absent

    def __call__(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._store())

    async def _store(self) -> None:
        line = self._line
        ttl = None if line.expires is None else line.expires - self._wall_seconds()
        if ttl is not None and ttl <= 0:
            self._meter.leave_out(line.size_bytes)
            return
        try:
            if self._if_absent:
                await self._node.compare_and_set(line.key, line.value, ABSENT, ttl=ttl)
            else:
                await self._node.set(line.key, line.value, ttl=ttl)
        except Conflict:
            self._meter.leave_as_it_is(line.size_bytes)
            return
        except (TypeError, ValueError, OverflowError) as error:
            raise Failed(f"line {line.number}: this record cannot be stored: {error}") from error
        self._meter.advance(line.size_bytes)


def _read(text: bytes, number: int) -> Line:
    try:
        said = json.loads(text)
        if not isinstance(said, dict) or not _FIELDS <= said.keys() <= _FIELDS_MAX:
            raise ValueError('it is not {"key": ..., "value": ...}, with "expires" or without')
        key, value = key_from_json(said["key"]), from_json(said["value"])
        return Line(key, value, _expires(said), number, len(text) + 1)
    except (ValueError, RecursionError) as error:
        raise Failed(f"line {number}: {error}") from error


def _expires(said: dict[str, Any]) -> float | None:
    if "expires" not in said:
        return None
    expires = said["expires"]
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires < math.inf:
        raise ValueError('"expires" is a number of seconds since 1970')
    try:
        return float(expires)
    except OverflowError as error:
        raise ValueError('"expires" is later than can be') from error
