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

from twisted.logger import Logger

from chordtx.errors import ChordError
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.first_link import all_refused, why_not_joined
from chordtx.mesh.loop import Loop
from chordtx.mesh.waiting import Gate

Through = Callable[[MeshConnection], Awaitable[None]]
Begin = Callable[[int], Awaitable[None]]

_RETRY_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # how often a returning node tries those that it remembers
_NAMED_SECONDS = 3.0  # until then those of ours that an old peer names are connected to
_SETTLE_SECONDS = 2.0  # until then those that are started together have found each other, or the ring


class Joining:
    """The way into the ring.

    :param node: the service: ``_members``, ``routing_table``, ``_refused``, ``_keep`` and so on.
    :param peers: what people gave, for messages. :param timeout_seconds: after which those who wait are told.
    :param joined: opened once the node is in a ring. It fails when that takes too long, and is opened all the
        same when it comes later.
    """

    _log = Logger()

    def __init__(self, node: Any, peers: list[Address], timeout_seconds: float, joined: Gate) -> None:
        self._node = node
        self._peers = peers
        self._timeout_seconds = timeout_seconds
        self._joined = joined
        self._remembered: list[Address] = []
        self._looked_at = self._began_at = -inf
        self._attempt = 0
        self._loop: Loop | None = None

    @property
    def is_joined(self) -> bool:
        """Whether the node is in a ring; a leeching one: whether it has reached one."""
        return self._joined.is_open

    def remember(self, addresses: list[Address]) -> None:
        """Peers from an earlier run."""
        self._remembered = [*dict.fromkeys([*self._remembered, *addresses])]

    def may_begin(self, caller: MeshConnection) -> list[bool]:
        """``may_begin()`` -> ``[whether this node waits for its ring, and would begin it]``."""
        return [self._is_returning and not self.is_joined]

    @property
    def _is_returning(self) -> bool:
        return bool(self._remembered) and not self._node.leeching

    def look(self, through: Through, begin: Begin) -> None:
        """Go on until the node is in a ring; a leeching one, until it can reach one.

        Those who wait are told when the time is over, but a node goes on trying: its peers may come up yet.

        :param through: joins through a member. :param begin: begins a ring, to which so many others will come
            that were in it before.
        """
        self.stop()
        attempt = self._attempt
        self._began_at = self._node.reactor.seconds()
        self._looked_at = -_LOOK_SECONDS

        def try_once() -> Awaitable[bool]:
            return self._try_once(attempt, through, begin)

        self._loop = self._node._keep("joining the ring", try_once, self._pause_seconds)

    def stop(self) -> None:
        """Look no more; an attempt that is under way ends."""
        self._attempt += 1
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()

    def _pause_seconds(self) -> float:
        drawn: float = self._node._rng.random()
        return _RETRY_SECONDS * (0.5 + drawn)

    async def _try_once(self, attempt: int, through: Through, begin: Begin) -> bool:
        is_in = False
        try:
            is_in = await self._try(through, begin)
        except ChordError as error:
            self._log.info("not joined yet: {error}", error=str(error))
        finally:
            if attempt == self._attempt:
                self._tell(is_in)
        return is_in

    def _tell(self, is_in: bool) -> None:
        is_late = self._node.reactor.seconds() > self._began_at + self._timeout_seconds
        if is_in:
            self._joined.opened()
        elif self._joined.error is None and (is_late or all_refused(self._node, self._peers)):
            self._joined.failed(why_not_joined(self._node, self._peers, "no ring"))

    async def _try(self, through: Through, begin: Begin) -> bool:
        node = self._node
        member = next(iter(node._members()), None)
        if member is not None:
            await through(member)
            return True
        if node.leeching:
            return False
        if self._is_returning:
            return await self._try_to_begin_again(begin)
        if self._peers and not self._are_old_peers_alone():
            return False
        await begin(0)
        return True

    def _are_old_peers_alone(self) -> bool:
        """Whether there are only old peers, which hold no ring of ours: so we begin one around them.

        They name others of ours, if there are any, which are connected to first: of two rings around one old
        peer each would take what it hands to the other for deleted.
        """
        links = self._node.routing_table.values()
        is_early = self._node.reactor.seconds() - self._began_at < min(_NAMED_SECONDS, self._timeout_seconds)
        return bool(links) and not is_early and not any(link.ours for link in links)

    async def _try_to_begin_again(self, begin: Begin) -> bool:
        now = self._node.reactor.seconds()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            for address in self._remembered:
                self._node._connect_quietly(address)
        if now - self._began_at < min(_SETTLE_SECONDS, self._timeout_seconds):
            return False
        others = [link for link in self._node.routing_table.values() if link.ours]
        waiting = [link for link in others if await self._waits_too(link)]
        if self._node._members():
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
