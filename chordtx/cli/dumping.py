"""Writes the records of a ring as JSON Lines."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred

from chordtx.chord import ChordService
from chordtx.cli.jsonform import json_text, key_to_json, to_json
from chordtx.cli.meter import Meter
from chordtx.cli.pipeline import Pipeline
from chordtx.cli.streams import Output

READ_AT_ONCE_MAX = 64


async def dump_lines(node: ChordService, out: Output, meter: Meter) -> None:
    """Write every record, as they come; one that is deleted or expires meanwhile is left out."""
    keys = aclosing(node.keys())  # type: ignore[type-var]  # it is a generator
    async with keys as found, Pipeline(READ_AT_ONCE_MAX) as pipeline:
        async for key in found:
            await pipeline.add(key, _Dumping(node, key, out, meter))


class _Dumping:
    """One record on its way out."""

    def __init__(self, node: ChordService, key: bytes, out: Output, meter: Meter) -> None:
        self._node, self._key, self._out, self._meter = node, key, out, meter

    def __call__(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._dump())

    async def _dump(self) -> None:
        try:
            entry = await self._node.entry(self._key)
        except KeyError:
            return
        record: dict[str, Any] = {"key": key_to_json(entry.key), "value": to_json(entry.value)}
        if entry.expires is not None:
            record["expires"] = entry.expires
        self._out.line(json_text(record))
        self._meter.advance()
