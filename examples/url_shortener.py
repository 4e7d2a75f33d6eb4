"""A URL shortener whose codes and counters live in a ring.

    python examples/url_shortener.py --peer HOST:PORT https://example.org/a https://example.org/b
    python examples/url_shortener.py --peer HOST:PORT --open CODE CODE

The first form prints a code for each URL; the second one follows codes, counts the visits, and prints them.
Without ``--peer`` it begins a ring of its own, for a try.
"""

from __future__ import annotations

import argparse
import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from chordtx import ABSENT, ChordService, Conflict, NoMajority

LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"  # none that people mix up


class Shortener:
    """Codes for URLs. Any number of processes may share one ring.

    :param length: of a code, in letters. Codes are drawn at random: where most are taken, it takes long.
    :ivar unknown: visits of which nobody knows whether they are counted.
    """

    def __init__(self, node: ChordService, length: int = 7) -> None:
        self._node = node
        self._length = length
        self._random = random.SystemRandom()
        self.unknown = 0

    async def shorten(self, url: str) -> str:
        """A new code for ``url``."""
        while True:
            code = "".join(self._random.choices(LETTERS, k=self._length))
            try:
                # Of all who draw this code, one stores its URL.
                await self._node.compare_and_set(f"url:{code}", url, ABSENT)
            except (Conflict, NoMajority):
                # Taken; or nobody knows whether our URL stands there. Another code is right in both cases.
                continue
            return code

    async def open(self, code: str) -> str:
        """The URL of a code: one visit more. KeyError when there is no such code."""
        url = await self._node[f"url:{code}"]
        try:
            await self._node.increment(f"visits:{code}")
        except NoMajority:
            self.unknown += 1  # the visitor is served all the same
        return str(url)

    async def visits(self, code: str) -> int:
        """How often the URL of a code was asked for."""
        return int(await self._node.get(f"visits:{code}", 0))


async def main(reactor: Any, given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(reactor, listen=listen, peers=given.peer, leech=bool(given.peer)) as node:
        shortener = Shortener(node, given.length)
        for word in given.words:
            if given.open:
                print(word, await shortener.open(word), await shortener.visits(word), flush=True)
            else:
                print(await shortener.shorten(word), word, flush=True)
        if shortener.unknown:
            print(f"{shortener.unknown} visits may be counted or not", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="+", metavar="URL_OR_CODE")
    parser.add_argument("--open", action="store_true", help="the words are codes to follow")
    parser.add_argument("--length", type=int, default=7, help="of new codes, in letters")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
