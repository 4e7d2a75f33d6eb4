"""Ring merge: a node finds another part of its ring by looking its own id up through somebody it once met.

After a partition each side has a ring of its own, and neither would ever hear of the other. But nodes
remember whom they had links to. In one ring the lookup ends at the node itself; anybody else who claims
the id is of another ring, and :meth:`~chordtx.ring.RingNode.place_found` has the two joined. What is stored
in a partition is decided by its group: only one side can have had a majority of it.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.membership import Membership
from chordtx.chord.routing import ID_BYTES, Found, Routing, contact_of
from chordtx.chord.rpc import Rpc
from chordtx.config import ChordSettings
from chordtx.errors import ChordError
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.loop import Loop, Pause, Round
from chordtx.ring import RingNode


class Node(Protocol):
    """What the ring merge needs of the service."""

    @property
    def _rng(self) -> Random:
        """Its random source."""

    @property
    def _rpc(self) -> Rpc:
        """Its links."""

    @property
    def _routing(self) -> Routing:
        """What it knows of the ring."""

    def _remembered(self) -> list[Address]:
        """Where nodes were reached that it has no link to now."""

    def _link_to(self, address: Address, peer: str | None = None) -> Deferred[MeshConnection]:
        """A link to whoever is reached there."""

    def _keep(self, name: str, round: Round, pause: Pause, first_after_seconds: float = 0.0) -> Loop:
        """Do something again and again until the node stops."""


class RingMerge:
    """See the module. One for each node.

    :param node: the service.
    """

    _log = Logger()

    def __init__(self, node: Node, ring: RingNode, membership: Membership, settings: ChordSettings) -> None:
        self._node = node
        self._ring = ring
        self._membership = membership
        self._settings = settings
        self._loop: Loop | None = None

    def keep_looking(self) -> None:
        """Look, again and again, until :meth:`stop`."""
        self._loop = self._node._keep(
            "ring merge", self._look_once, self._pause_seconds, self._pause_seconds()
        )

    def stop(self) -> None:
        """Look no more."""
        if self._loop is not None:
            self._loop.stop()

    def _pause_seconds(self) -> float:
        return self._settings.ring_merge_interval_seconds * (0.5 + self._node._rng.random())

    async def _look_once(self) -> None:
        if not self._ring.is_member:
            return
        try:
            await self._look()
        except ChordError as error:
            self._log.debug("nobody to reunite with: {error}", error=str(error))
        self._membership.go_on_alone()

    async def _look(self) -> None:
        link = await self._somebody()
        if link is None or not link.ours or link.leeching:
            return
        place = self._ring.me.id.to_bytes(ID_BYTES, "big")
        seconds = self._settings.call_timeout_seconds
        reply = await self._node._rpc.call(contact_of(link), "find", place, 0, seconds)
        self._membership.place_found(Found.from_wire(reply).chain[0])

    async def _somebody(self) -> MeshConnection | None:
        """A link to somebody that we have none to and do not know to be in our ring, or else to anybody."""
        known = {(contact.host, contact.port) for contact in self._node._routing.arcs.contacts()}
        remembered = [each for each in self._node._remembered() if (each.host, each.port) not in known]
        if remembered:
            return await self._node._link_to(self._node._rng.choice(remembered))
        members = self._node._rpc.members()
        return self._node._rng.choice(members) if members else None
