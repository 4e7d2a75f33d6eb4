"""Which nodes a member links to: all that it hears of, while the ring is no larger than its links allow.

In a larger ring nobody is connected to only because somebody named it. What links there are then, others have
made because they need them: to neighbours, to fingers, and for calls; and those that were there before. Links
that nobody needs are closed where there are more than the bound. So none is made that is closed again soon.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import Stopped
from chordtx.mesh import Address, MeshConnection

_SECONDS = 1.0
_IDLE_SECONDS = 30.0
#: Before the node is in the ring it does not know how large that is.
_LINKS_TO_JOIN_BY = 4
#: In a large ring calls make links only up to this share of the bound; the rest is for who connects to us.
_OF_OUR_MAKING = 0.75
#: How many others a peer is told of: a node with several links soon knows all of a small ring.
_TOLD_MAX = 16
_TOLD_IN_LARGE_RING = 8


class Node(Protocol):
    """What this part needs of a node."""

    def has_link(self, peer: str) -> bool:
        """Whether there is a link to a node, by its id."""

    def is_leeching(self) -> bool:
        """Whether it only uses the ring."""

    def is_in_ring(self) -> bool:
        """Whether it is a member."""

    def ring_size(self) -> float:
        """About how many members the ring has, as far as is known."""

    def dial(self, address: Address) -> None:
        """Connect in the background."""

    def random(self) -> float:
        """From 0 to 1."""

    def links(self) -> list[MeshConnection]:
        """All links."""

    def is_near(self, id: int) -> bool:
        """Whether a node is a neighbour, or keeps something with this one."""

    def is_finger(self, id: int) -> bool:
        """Whether lookups go by a node."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class LinkPolicy:
    """See the module. One for each node. :param id: its own. :param links_max: how many links to members it
    has, or a few more."""

    def __init__(self, node: Node, id: str, links_max: int) -> None:
        self._node = node
        self._id = id
        self._links_max = links_max
        self._under_way: set[Address] = set()
        self._named: dict[str, Address] = {}  # and not connected to, the latest last

    @property
    def is_ring_large(self) -> bool:
        """Whether the ring has more members than this node has links."""
        return self._node.ring_size() > self._links_max + 1

    @property
    def told_max(self) -> int:
        """How many peers others are told of."""
        return _TOLD_IN_LARGE_RING if self.is_ring_large else _TOLD_MAX

    @property
    def calls_make_links(self) -> bool:
        """Whether an operation for a node that there is no link to makes one. Else others pass it on."""
        links_max: float = self._links_max
        if self.is_ring_large and not self._node.is_leeching():
            links_max *= _OF_OUR_MAKING
        return self._links_count() < links_max

    def _links_count(self) -> int:
        return sum(link.is_member for link in self._node.links())

    def peer_met(self, peer: str, address: Address) -> None:
        """A peer was named."""
        if self._node.has_link(peer) or address in self._under_way:
            return
        if self._wants_more():
            self._begin(peer, address)
            return
        self._named.pop(peer, None)
        self._named[peer] = address
        if len(self._named) > self._links_max:
            del self._named[next(iter(self._named))]

    def look(self) -> None:
        """Something may have changed: connect to those that were named before, or close what is too much."""
        while self._named and self._wants_more():
            peer, address = self._named.popitem()
            if not self._node.has_link(peer) and address not in self._under_way:
                self._begin(peer, address)
        self._close_idle()

    def _wants_more(self) -> bool:
        node = self._node
        if not node.is_in_ring():
            return len(node.links()) + len(self._under_way) < _LINKS_TO_JOIN_BY
        has_place = self._links_count() + len(self._under_way) < self._links_max
        return has_place and not self.is_ring_large

    def _close_idle(self) -> None:
        """Close what is beyond the bound and not needed, the longest silent first."""
        node = self._node
        too_many = self._links_count() - self._links_max
        if too_many > 0:
            idle_since = node.seconds() - _IDLE_SECONDS
            idle = [
                link
                for link in node.links()
                if link.is_member and link.heard_at < idle_since and not self._is_needed(link.id_10)
            ]
            for link in sorted(idle, key=lambda link: link.heard_at)[:too_many]:
                link.part(Stopped("the link is not needed"))

    def _is_needed(self, id: int) -> bool:
        return self._node.is_near(id) or self._node.is_finger(id)

    def _begin(self, peer: str, address: Address) -> None:
        # Both sides hear of each other at about the same time: the one with the greater id goes first, so
        # that there is one link and not two of which one must go again.
        delay_seconds = 0.0 if self._id > peer else _SECONDS * (1 + self._node.random())
        self._under_way.add(address)
        self._node.background(self._connect(peer, address, delay_seconds))

    async def _connect(self, peer: str, address: Address, delay_seconds: float) -> None:
        try:
            await self._node.sleep(delay_seconds)
        finally:
            self._under_way.discard(address)
        if not self._node.has_link(peer):
            self._node.dial(address)
