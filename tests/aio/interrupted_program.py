"""A program that is ended with Ctrl-C: as in every asyncio program, and its node leaves first."""

from __future__ import annotations

import asyncio

from loops import LOCAL, SETTINGS, run

from chordtx import Stopped
from chordtx.aio import ChordService

nodes: list[ChordService] = []


async def main() -> None:
    async with ChordService(LOCAL, settings=SETTINGS) as node:
        nodes.append(node)
        print("ready", flush=True)
        await asyncio.sleep(3600)


async def seen() -> None:
    try:
        nodes[0].start()
        await nodes[0].stop()
    except Stopped:
        raise AssertionError("it cannot be started again") from None


try:
    run(main)
except KeyboardInterrupt:
    run(seen)
    print("interrupted")
