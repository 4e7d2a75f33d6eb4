"""Keeps a link to everybody that a member hears of, while the ring is as small as its links go.

In a larger ring links that nobody needs are closed: those to nodes that are not near, when nothing came over
them for a while.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import Stopped
from chordtx.mesh import Address, MeshConnection

_SECONDS = 1.0
_IDLE_SECONDS = 10.0


class Node(Protocol):
    """What of a node is needed for it."""

    def has_link(self, peer: str) -> bool:
        """Whether there is a link to a node, by its id."""

    def links_count(self) -> int:
        """How many links there are."""

    def dial(self, address: Address) -> None:
        """Connect in the background."""

    def random(self) -> float:
        """From 0 to 1."""

    def links(self) -> list[MeshConnection]:
        """All links."""

    def is_near(self, id: int) -> bool:
        """Whether a node is a neighbour, or keeps something with this one."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""


class Spreading:
    """One node's. :param id: its own. :param links_max: so many it makes."""

    def __init__(self, node: Node, id: str, links_max: int) -> None:
        self._node = node
        self._id = id
        self._links_max = links_max
        self._under_way: set[Address] = set()

    def peer_met(self, peer: str, address: Address) -> None:
        """A peer was named."""
        node = self._node
        if node.has_link(peer) or node.links_count() >= self._links_max:
            return
        if address in self._under_way or len(self._under_way) >= self._links_max:
            return
        # Both sides hear of each other at about the same time: the one with the greater id goes first, so
        # that there is one link and not two of which one must go again.
        delay_seconds = 0.0 if self._id > peer else _SECONDS * (1 + node.random())
        node.background(self._connect(peer, address, delay_seconds))

    def close_idle(self) -> None:
        """Close what is beyond the bound and not needed, the longest silent first."""
        node = self._node
        too_many = node.links_count() - self._links_max
        if too_many > 0:
            idle_since = node.seconds() - _IDLE_SECONDS
            idle = [
                link
                for link in node.links()
                if link.ours and link.heard_at < idle_since and not node.is_near(link.id_10)
            ]
            for link in sorted(idle, key=lambda link: link.heard_at)[:too_many]:
                link.part(Stopped("the link is not needed"))

    async def _connect(self, peer: str, address: Address, delay_seconds: float) -> None:
        self._under_way.add(address)
        try:
            await self._node.sleep(delay_seconds)
        finally:
            self._under_way.discard(address)
        if not self._node.has_link(peer):
            self._node.dial(address)
