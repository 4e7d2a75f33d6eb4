"""Asking the host of a position: the node of ours that would own it if there were no legacy peers."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import NotJoined
from chordtx.mesh import CallTimeout, PeerLost
from chordtx.ring import Contact

#: A host that dies is noticed, and another one is in its place, within this.
_ASKED_SECONDS = 10.0
_PAUSE_SECONDS = 0.1


class Node(Protocol):
    """What this part needs of a node."""

    async def find_owner(self, position: int) -> Contact:
        """The node of ours that owns a position. :raises NotJoined: when no member of the ring is reached."""

    def call_any(self, contact: Contact, method: str, *arguments: Any) -> Deferred[list[Any]]:
        """Ask a node, which may be this one."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""


class Hosts:
    """All hosts, as one node asks them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def ask(self, position: int, method: str, *arguments: Any) -> list[Any]:
        """Ask a position's host.

        :raises ChordError: when it cannot be reached.
        """
        late = self._node.seconds() + _ASKED_SECONDS
        while True:
            try:
                host = await self._node.find_owner(position)
                return await self._node.call_any(host, method, *arguments)
            except (NotJoined, PeerLost, CallTimeout):
                if self._node.seconds() >= late:
                    raise
            await self._node.sleep(_PAUSE_SECONDS)
