"""Leader election: of many processes one leads, and another one soon after that has died.

    python examples/leader_election.py --peer HOST:PORT ann
    python examples/leader_election.py --peer HOST:PORT bob
    python examples/leader_election.py --peer HOST:PORT --watch cyd

Ann leads; end her, and Bob leads. Cyd only prints who leads. Without ``--peer`` it begins a ring of its own,
for a try.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

from chordtx import ChordService, Lock, LockLost, NoMajority

PAUSE_SECONDS = 1.0


class Election:
    """Who leads, for one purpose.

    :param lease_seconds: after a leader has died, it takes up to so long until the next one leads.
    """

    def __init__(self, node: ChordService, purpose: str, lease_seconds: float = 10.0) -> None:
        self._node = node
        self._purpose = purpose
        self._key = f"leader:{purpose}"
        self._lease_seconds = lease_seconds

    async def stand(self, me: str, lead: Callable[[int], Coroutine[Any, Any, None]]) -> None:
        """Lead whenever it is our turn, for ever.

        :param lead: is called with the token of the term; it is cancelled when the lead is lost.
        """
        while True:
            with suppress(NoMajority, LockLost):  # cut off, or the lead is lost: stand again
                async with self._node.lock(self._purpose, ttl=self._lease_seconds) as lock:
                    await self._announce(me, lock.token)
                    await self._until_lost(lock, Deferred.fromCoroutine(lead(lock.token)))
            await self._node.sleep(PAUSE_SECONDS)

    async def _until_lost(self, lock: Lock, leading: Deferred[None]) -> None:
        lock.when_lost().addCallback(lambda _: leading.cancel())
        try:
            await leading
        except CancelledError:
            if lock.is_held:
                raise  # it is not the lead that ends, but all of us

    async def _announce(self, me: str, token: int) -> None:
        def announced(before: Any) -> Any:
            # Who was stopped on the way here must not overwrite who leads now.
            if before is not None and before["token"] > token:
                raise LockLost("somebody else leads by now", token)
            return {"name": me, "token": token}

        await self._node.modify(self._key, announced)

    async def leaders(self) -> AsyncIterator[tuple[str, int]]:
        """The name and the token of who leads, and of each one after it. The name is that of the last
        leader, also between its death and the next one's turn."""
        watch = self._node.watch(self._key)
        try:
            await watch.when_ready()  # no change is missed from here on
            known = 0
            found = await self._node.get(self._key)
            while True:
                if found is not None and found["token"] > known:
                    known = found["token"]
                    yield found["name"], known
                event = await anext(watch)
                found = await self._node.get(self._key) if event.kind == "reset" else event.value
        finally:
            await watch.aclose()


async def main(reactor: Any, given: argparse.Namespace) -> None:
    listen = None if given.peer else "tcp:0:interface=127.0.0.1"
    async with ChordService(reactor, listen=listen, peers=given.peer, leech=bool(given.peer)) as node:
        election = Election(node, "example", given.lease)

        async def lead(token: int) -> None:
            print(f"{given.name} leads with token {token}", flush=True)
            try:
                await Deferred()  # the work of a leader; here it has none
            finally:
                print(f"{given.name} leads no longer", flush=True)

        if given.watch:
            async for name, token in election.leaders():
                print(f"the leader is {name} with token {token}", flush=True)
        else:
            await election.stand(given.name, lead)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--watch", action="store_true", help="only print who leads")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds")
    parser.add_argument("--peer", action="append", default=[], metavar="HOST:PORT")
    options = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, options)))
