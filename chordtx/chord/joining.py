"""How a node gets into a ring at first: through the peers that it was given, or by beginning one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.errors import ChordError, NotJoined, Stopped
from chordtx.mesh import MeshConnection

_RETRY_SECONDS = 0.1


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
        self, through: Callable[[MeshConnection], Awaitable[None]], begin: Callable[[], None]
    ) -> None:
        """Go on until the node is in a ring; a leeching one, until it can reach one.

        Those who wait are told when the time is over, but a node goes on trying: its peers may come up yet.

        :param through: joins through a member. :param begin: begins a ring.
        """
        deadline = self._node.reactor.seconds() + self._timeout_seconds
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
        self, through: Callable[[MeshConnection], Awaitable[None]], begin: Callable[[], None]
    ) -> bool:
        node = self._node
        member = next(iter(node.members()), None)
        if member is not None:
            await through(member)
            return True
        # Old peers alone hold no ring of ours: so we begin one around them.
        links = node.routing_table.values()
        only_old = bool(links) and not any(link.ours for link in links)
        if node.leeching or (self._peers and not only_old):
            return False
        begin()
        return True

    def _all_refused(self) -> bool:
        """Whether every peer that was given turned out to be of another network."""
        node = self._node
        return len(node.refused) >= len(self._peers) > 0 and not node.routing_table and not node.awaiting_ids

    def _why_not(self) -> Exception:
        if self._node.refused and not self._node.routing_table:
            error: Exception = self._node.refused[-1]
            return error
        peers = ", ".join(str(peer) for peer in self._peers)
        return NotJoined(f"no ring was reached through {peers or 'no peers'}: is a node listening there?")
