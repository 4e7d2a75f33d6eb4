"""TLS, names of hosts, data folders, and threads of Twisted's pool, in one asyncio program.

The second argument is a folder for what nodes keep.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from loops import LOCAL, run

from chordtx import ChordSettings
from chordtx.aio import ChordService

FOLDER = Path(sys.argv[2])
SETTINGS = ChordSettings(partition_bits=4, join_timeout_seconds=2.0)


async def main() -> None:
    async with node("first") as first:
        await first.set("key", "kept")
        await in_a_thread()
        peers = [f"localhost:{first.out_addr[1]}"]
        async with node("second", peers) as second:
            assert await second["key"] == "kept"
            await second.unjoin()
        kept_as = first.id
    async with node("first") as again:
        assert again.id == kept_as
        assert await again.get("key") == "kept"
    print("done")


def node(name: str, peers: Iterable[str] = ()) -> ChordService:
    return ChordService(LOCAL, data=str(FOLDER / name), peers=peers, settings=SETTINGS, encryption="SSL")


async def in_a_thread() -> None:
    """Other code of Twisted's works on the loop, too."""
    from twisted.internet.threads import deferToThread

    name = await deferToThread(lambda: threading.current_thread().name).asFuture(asyncio.get_running_loop())
    assert name != threading.current_thread().name


run(main, "none of the 1 remembered peers answers")
