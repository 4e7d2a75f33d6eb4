"""Writes as JSON Lines what nodes have set aside and the ring has not."""

from __future__ import annotations

import time

from chordtx.chord import ChordService
from chordtx.chord.set_aside import Kept
from chordtx.cli.dumping import line_of
from chordtx.cli.jsonform import json_text, to_json
from chordtx.cli.meter import Meter
from chordtx.cli.running import Failed, say
from chordtx.cli.streams import Output


async def export_lines(node: ChordService, out: Output, meter: Meter) -> None:
    """Write each record that some node has set aside, and that is not in the ring just so; but for those that
    have expired. The same one is written once, whoever has it.

    :raises Failed: in the end, when some node could not be asked.
    """
    written: set[str] = set()
    silent = []
    for each in await node.ring():
        if "error" in each:
            silent.append(str(each["address"]))
        elif each.get("kind") == "chordtx":
            async for kept in node.set_aside(str(each["address"])):
                if kept.expires is not None and kept.expires <= time.time():
                    meter.leave_out()
                    continue
                line = line_of(*kept)
                if line not in written and not await _is_there(node, kept):
                    written.add(line)
                    out.line(line)
                    meter.advance()
    if silent:
        raise Failed(f"not all that was set aside: these do not answer: {', '.join(silent)}")
    if not written:
        say("no node has set aside anything that the ring has not")


async def _is_there(node: ChordService, kept: Kept) -> bool:
    """Whether the ring has this very value. As text, for 1, 1.0 and true are equal otherwise."""
    try:
        entry = await node.entry(kept.key)
    except KeyError:
        return False
    return json_text(to_json(entry.value)) == json_text(to_json(kept.value))
