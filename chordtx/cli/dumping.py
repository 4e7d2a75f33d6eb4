"""Writes the records of a ring as JSON Lines."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from chordtx.chord import ChordService
from chordtx.cli.jsonform import json_text, key_to_json, to_json
from chordtx.cli.meter import Meter
from chordtx.cli.streams import Output
from chordtx.values import Value


async def dump_lines(node: ChordService, out: Output, meter: Meter) -> None:
    """Write every record, page by page; one that is deleted or expires meanwhile may be left out."""
    async with aclosing(node.entries()) as entries:  # type: ignore[type-var]  # it is a generator
        async for entry in entries:
            out.line(line_of(entry.key, entry.value, entry.expires))
            meter.advance()


def line_of(key: bytes, value: Value, expires: float | None) -> str:
    """A record as a line, without its end. :param expires: in Unix seconds; None for never."""
    record: dict[str, Any] = {"key": key_to_json(key), "value": to_json(value)}
    if expires is not None:
        record["expires"] = expires
    return json_text(record)
