"""A node in an asyncio program.

python examples/with_asyncio.py [HOST:PORT of a ring]
"""

from __future__ import annotations

import asyncio
import sys

from chordtx.aio import ChordService


async def main(peers: list[str]) -> None:
    async with ChordService(listen="tcp:0:interface=127.0.0.1", peers=peers) as node:
        await asyncio.gather(*(node.set(f"number {number}", number) for number in range(10)))
        print(sum([await node[f"number {number}"] for number in range(10)]))
        async with asyncio.timeout(10):
            print(sorted([key.decode() async for key in node]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
