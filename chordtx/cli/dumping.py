"""Writes the records of a ring as JSON Lines."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from chordtx.chord import ChordService
from chordtx.cli.jsonform import json_text, key_to_json, to_json
from chordtx.cli.meter import Meter
from chordtx.cli.streams import Output


async def dump_lines(node: ChordService, out: Output, meter: Meter) -> None:
    """Write every record, page by page; one that is deleted or expires meanwhile may be left out."""
    async with aclosing(node.entries()) as entries:  # type: ignore[type-var]  # it is a generator
        async for entry in entries:
            record: dict[str, Any] = {"key": key_to_json(entry.key), "value": to_json(entry.value)}
            if entry.expires is not None:
                record["expires"] = entry.expires
            out.line(json_text(record))
            meter.advance()
