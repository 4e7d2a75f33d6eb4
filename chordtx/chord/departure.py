"""Leaving so that nobody waits: others keep, or lead, what this node kept and led, before it is gone."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.placement import Placement
from chordtx.chord.ring_identity import Standing
from chordtx.ring import Contact, RingNode

_CHECK_SECONDS = 0.05
#: Who has copied a group's records may be named as a member of it, by a leader that does not know yet that it
#: leaves. So long it waits to see that.
_NAMED_SECONDS = 1.0


class Node(Protocol):
    """What of a node its departure needs."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""

    def standing_of(self, id: int) -> Standing | None:
        """What another node has told of itself; None while there is no link to it."""

    def everyone(self) -> tuple[Contact, ...] | None:
        """All nodes of the ring; None while they are not known."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""


class Departure:
    """One node's."""

    _log = Logger()

    def __init__(self, node: Node, ring: RingNode, placement: Placement) -> None:
        self._node = node
        self._ring = ring
        self._placement = placement

    async def leave_groups(self, timeout_seconds: float) -> None:
        """Wait until others keep what this node kept, which has told them that it leaves."""
        began_at = self._node.seconds()
        late, named = began_at + timeout_seconds, began_at + min(_NAMED_SECONDS, timeout_seconds)
        while self._is_needed_until(late, named):
            self._placement.look(at_once=True)
            await self._node.sleep(_CHECK_SECONDS)
        if count := self._needed():
            self._log.warn("leaves while {count} groups have nobody in its place", count=count)

    def _is_needed_until(self, late: float, named: float) -> bool:
        now, hosting = self._node.seconds(), self._node.hosting()
        if self._needed():
            return now < late
        return hosting is not None and hosting.is_learning and self._is_anybody_staying() and now < named

    def _needed(self) -> int:
        """Of how many groups it is a member, as long as there is somebody who stays."""
        hosting = self._node.hosting()
        return 0 if hosting is None or not self._is_anybody_staying() else len(hosting.kept)

    def _is_anybody_staying(self) -> bool:
        ring = self._ring
        if any(self._stays(contact) for contact in ring.successors):
            return True
        if ring.complete:
            return False
        everyone = self._node.everyone()  # all whom the list names leave, but there are more
        return everyone is None or any(
            self._stays(contact) for contact in everyone if contact.id != ring.me.id
        )

    def _stays(self, contact: Contact) -> bool:
        standing = self._node.standing_of(contact.id)
        return standing is None or not standing.is_leaving

    async def give_leads_away(self, timeout_seconds: float) -> None:
        """Have others lead, so that nobody waits for leases; this node stays a member of its groups."""
        hosting = self._node.hosting()
        late = self._node.seconds() + timeout_seconds
        while hosting is not None and hosting.give_leads_away() and self._node.seconds() < late:
            await self._node.sleep(_CHECK_SECONDS)
