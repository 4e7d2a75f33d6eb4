"""Configuration that many processes share: each has it in memory, and hears of changes.

    python examples/watched_config.py --peer HOST:PORT shop
    python examples/watched_config.py --peer HOST:PORT shop --set colour green

The first form prints the settings, and each change, until it is interrupted. Without ``--peer`` it begins a
ring of its own, for a try.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from chordtx import ChordService, NoMajority

PAUSE_SECONDS = 1.0
Settings = dict[str, Any]


class WatchedConfig:
    """The settings under one name. Reads are from memory. :ivar values: as they are known now."""

    def __init__(self, node: ChordService, name: str) -> None:
        self._node = node
        self._prefix = f"config:{name}:"
        self.values: Settings = {}

    async def set(self, setting: str, value: Any) -> None:
        """Change a setting for all. None deletes it."""
        await self._node.set(self._prefix + setting, value)

    async def follow(self, changed: Callable[[Settings], None]) -> None:
        """Keep :attr:`values` up to date, for ever. ``changed`` is called with them after each change."""
        watch = self._node.watch(prefix=self._prefix)
        try:
            await watch.when_ready()  # what changes from here on is told: the listing comes after this
            await self._list()
            changed(self.values)
            async for event in watch:
                if event.key is None:  # a reset: some changes were not told, so look at all there is
                    await self._list()
                elif event.value is None:
                    self.values.pop(self._setting(event.key), None)
                else:
                    self.values[self._setting(event.key)] = event.value
                changed(self.values)
        finally:
            await watch.aclose()

    async def _list(self) -> None:
        while True:
            try:
                items = self._node.items(prefix=self._prefix)
                self.values = {self._setting(key): value async for key, value in items}
                return
            except NoMajority:  # the settings of before serve on until the ring answers
                await self._node.sleep(PAUSE_SECONDS)

    def _setting(self, key: bytes) -> str:
        return key.decode().removeprefix(self._prefix)


async def main(reactor: Any, given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(reactor, listen=listen, peers=given.peer, leech=bool(given.peer)) as node:
        config = WatchedConfig(node, given.name)
        if given.set:
            await config.set(*given.set)
        else:
            await config.follow(lambda values: print(sorted(values.items()), flush=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--set", nargs=2, metavar=("SETTING", "VALUE"))
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
