"""Leaving: others take over this node's places in groups, or its leads, before it goes."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.placement import Placement

_CHECK_SECONDS = 0.05
#: Nobody else stays, as far as a node knows: it goes all the same after this long. Others may just have come,
#: and what it keeps is lost with it.
_ALONE_SECONDS = 0.5


class Node(Protocol):
    """What its departure needs of a node."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""


class Departure:
    """See the module. One for each node."""

    _log = Logger()

    def __init__(self, node: Node, placement: Placement) -> None:
        self._node = node
        self._placement = placement

    async def leave_groups(self, timeout_seconds: float) -> None:
        """Wait until others keep what this node kept, which has told them that it leaves."""
        now = seen_at = self._node.seconds()
        late = now + timeout_seconds
        while now < late and now - seen_at < _ALONE_SECONDS and self._has_places():
            self._placement.look(at_once=True)
            await self._node.sleep(_CHECK_SECONDS)
            now = self._node.seconds()
            if self._placement.is_anybody_staying():
                seen_at = now
        hosting = self._node.hosting()
        if hosting is not None and (count := len(hosting.kept)):
            self._log.warn("leaves while nobody is in its place yet, groups: {count}", count=count)

    def _has_places(self) -> bool:
        """Whether it is in a group, or somebody may name it as a member because it has copied the records."""
        hosting = self._node.hosting()
        if hosting is None:
            return False
        for partition in (learning := hosting.learning):
            hosting.ask_whether_gone(partition, ())
        return bool(hosting.kept or learning)

    async def give_leads_away(self, timeout_seconds: float) -> None:
        """Have others lead, so that nobody waits for leases; this node stays a member of its groups."""
        hosting = self._node.hosting()
        late = self._node.seconds() + timeout_seconds
        while hosting is not None and hosting.leadership.give_away() and self._node.seconds() < late:
            await self._node.sleep(_CHECK_SECONDS)
