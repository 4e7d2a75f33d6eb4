"""Whether there are legacy peers anywhere in the ring: only then does anything have to be done for them.

A node with a link to one tells all nodes of ours, at once and then at intervals: ``legacy [0x47]``. When
nobody has told it for some time, there is none any more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.mesh import MeshConnection
from chordtx.wire import Message, flags

_SAID_SECONDS = 5.0
_BELIEVED_SECONDS = 17.0


class Node(Protocol):
    """What this part needs of a node."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""

    def is_over(self) -> bool:
        """Whether the node is in another ring since."""

    def tell_everyone(self, *payload: Any) -> Any:
        """Say something to all nodes of the network."""


class Presence:
    """What one node knows of it.

    :param changed: called when legacy peers begin to be there, and when there are none any more.
    :ivar is_active: whether there are legacy peers, anywhere.
    :ivar links: those to legacy peers, of this node.
    """

    def __init__(self, node: Node, changed: Callable[[], None]) -> None:
        self._node = node
        self._changed = changed
        self._heard_until = -inf
        self.is_active = False
        self.links: dict[MeshConnection, None] = {}

    def link_opened(self, link: MeshConnection) -> None:
        """There is a link to a legacy peer, or to a node of ours, which is to know."""
        if link.ours:
            if self.links:
                link.send(flags.LEGACY)
            return
        is_first = not self.links
        self.links[link] = None
        if is_first:
            self._node.tell_everyone(flags.LEGACY)
        self._begin()

    def others_to(self, link: MeshConnection) -> list[MeshConnection]:
        """Links to the same legacy peer as this one."""
        return [other for other in self.links if other is not link and other.id == link.id]

    def link_closed(self, link: MeshConnection) -> None:
        """A legacy peer is gone, or its link is."""
        self.links.pop(link, None)

    def heard(self, link: MeshConnection, message: Message) -> None:
        """``legacy [0x47]``: a node of ours has a link to a legacy peer."""
        if link.ours:
            self._heard_until = self._node.seconds() + _BELIEVED_SECONDS
            self._begin()

    def _begin(self) -> None:
        if not self.is_active:
            self.is_active = True
            self._changed()
            self._node.background(self._go_on())

    async def _go_on(self) -> None:
        while self.links or self._node.seconds() < self._heard_until:
            await self._node.sleep(_SAID_SECONDS)
            if self._node.is_over():
                break
            if self.links:
                self._node.tell_everyone(flags.LEGACY)
        self.is_active = False
        self._changed()
