"""How a node gets into a ring at first: through the peers that it was given, or by beginning one.

A node that was in a ring before remembers peers from then, and is *returning*. It looks for the ring through
these too. When the whole ring is started again there is none, only others that wait as well: then the one
with the greatest id begins it, so that there is one and not several. When none of those that it remembers can
be reached until the time is over, it begins alone, unless it was given peers: those may come up yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.errors import ChordError, NotJoined, Stopped
from chordtx.mesh import Address, MeshConnection

_RETRY_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # how often a returning node tries those that it remembers
_SETTLE_SECONDS = 2.0  # until then those that are started together have found each other, or the ring


class Joining:
    """The way into the ring, and who waits for it.

    :param node: the service: ``members``, ``routing_table``, ``refused``, ``leeching`` and so on.
    :param peers: what people gave, for messages. :param timeout_seconds: after which those who wait are told.
    """

    _log = Logger()

    def __init__(self, node: Any, peers: list[Any], timeout_seconds: float) -> None:
        self._node = node
        self._peers = peers
        self._timeout_seconds = timeout_seconds
        self._remembered: list[Address] = []
        self._looked_at = self._began_at = -inf
        self._waiting: list[Deferred[None]] = []
        self._error: Exception | None = None
        self.is_joined = False

    def when_joined(self) -> Deferred[None]:
        """See :meth:`chordtx.ChordService.when_joined`."""
        waiting: Deferred[None] = Deferred()
        if not self._node.running:
            waiting.errback(Stopped("the service is not running"))
        elif self.is_joined:
            waiting.callback(None)
        elif self._error is not None:
            waiting.errback(self._error)
        else:
            self._waiting.append(waiting)
        return waiting

    def remember(self, addresses: list[Address]) -> None:
        """Peers from an earlier run."""
        self._remembered = [*dict.fromkeys([*self._remembered, *addresses])]

    def may_begin(self, caller: MeshConnection) -> list[bool]:
        """``may_begin()`` -> ``[whether this node waits for its ring, and would begin it]``."""
        return [self._is_returning and not self.is_joined]

    @property
    def _is_returning(self) -> bool:
        return bool(self._remembered) and not self._node.leeching

    def begin_again(self) -> None:
        """Forget how it went before."""
        self.is_joined, self._error = False, None

    def settle(self, error: Exception | None) -> None:
        """Tell those who wait: joined, or why not."""
        if error is None:
            self.is_joined = True
        else:
            self._error = error
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            if error is None:
                deferred.callback(None)
            else:
                deferred.errback(error)

    async def join(
        self, through: Callable[[MeshConnection], Awaitable[None]], begin: Callable[[int], Awaitable[None]]
    ) -> None:
        """Go on until the node is in a ring; a leeching one, until it can reach one.

        Those who wait are told when the time is over, but a node goes on trying: its peers may come up yet.

        :param through: joins through a member. :param begin: begins a ring, to which so many others will come
            that were in it before.
        """
        self._began_at = self._node.reactor.seconds()
        deadline = self._began_at + self._timeout_seconds
        while True:
            try:
                if await self._try(through, begin):
                    self.settle(None)
                    return
            except (ChordError, OSError) as error:
                self._log.info("not joined yet: {error}", error=str(error))
            if self._error is None and (self._node.reactor.seconds() > deadline or self._all_refused()):
                self.settle(self._why_not())
            await self._node.sleep(_RETRY_SECONDS * (0.5 + self._node.rng.random()))

    async def _try(
        self, through: Callable[[MeshConnection], Awaitable[None]], begin: Callable[[int], Awaitable[None]]
    ) -> bool:
        node = self._node
        member = next(iter(node.members()), None)
        if member is not None:
            await through(member)
            return True
        if node.leeching:
            return False
        if self._is_returning:
            return await self._try_to_begin_again(begin)
        # Old peers alone hold no ring of ours: so we begin one around them.
        links = node.routing_table.values()
        only_old = bool(links) and not any(link.ours for link in links)
        if self._peers and not only_old:
            return False
        await begin(0)
        return True

    async def _try_to_begin_again(self, begin: Callable[[int], Awaitable[None]]) -> bool:
        now = self._node.reactor.seconds()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            for address in self._remembered:
                self._node.connect_quietly(address)
        if now - self._began_at < min(_SETTLE_SECONDS, self._timeout_seconds):
            return False
        others = [link for link in self._node.routing_table.values() if link.ours]
        waiting = [link for link in others if await self._waits_too(link)]
        if self._node.members():
            return False  # somebody was faster
        is_late = now - self._began_at >= self._timeout_seconds and not self._peers
        if waiting and not all(link.id_10 < self._node.id_10 for link in waiting):
            return False
        if not waiting and not is_late:
            return False
        if not waiting:
            text = "none of the {count} remembered peers answers: beginning alone"
            self._log.warn(text, count=len(self._remembered))
        await begin(len(waiting))
        return True

    async def _waits_too(self, link: MeshConnection) -> bool:
        try:
            answer = await link.call("may_begin", timeout_seconds=_LOOK_SECONDS)
        except ChordError:
            return False
        return answer == [True]

    def _all_refused(self) -> bool:
        """Whether every peer that was given turned out to be of another network."""
        node = self._node
        return len(node.refused) >= len(self._peers) > 0 and not node.routing_table and not node.awaiting_ids

    def _why_not(self) -> Exception:
        if self._node.refused and not self._node.routing_table:
            error: Exception = self._node.refused[-1]
            return error
        said = [f"{peer}: {self._node.why_not_reached(peer) or 'no ring there'}" for peer in self._peers]
        return NotJoined(f"no ring was reached ({'; '.join(said) or 'no peers'}): is a node listening there?")
