"""What operators see of a node and its ring, and what they may order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from chordtx.chord.set_aside import Kept, histories_from_wire, page_from_wire
from chordtx.chord.status import status_of_groups, status_of_ring
from chordtx.mesh import Address, MeshService
from chordtx.ring import Contact

if TYPE_CHECKING:
    from chordtx.chord.health import Health
    from chordtx.chord.hosting import Hosting
    from chordtx.chord.node_folder import NodeFolder
    from chordtx.chord.operating import Operating
    from chordtx.chord.ring_identity import RingIdentity
    from chordtx.chord.walk import RingWalk
    from chordtx.config import ChordSettings
    from chordtx.legacy import LegacyPeers
    from chordtx.ring import RingNode
    from chordtx.values import Value


class RingView(MeshService):
    """The methods of :class:`~chordtx.ChordService` for operators."""

    if TYPE_CHECKING:
        _chord_settings: ChordSettings
        _hosting: Hosting | None
        _identity: RingIdentity | None
        _kept: NodeFolder
        _legacy: LegacyPeers
        _operating: Operating
        _ring: RingNode
        _walk: RingWalk

        def _unpacked(self, packed: bytes) -> Value: ...

    @property
    def next(self) -> Contact | None:
        """The next node along the walk, None in a ring of one."""
        return self._ring.successor

    @property
    def prev(self) -> Contact | None:
        """The node before on the walk, None while unknown."""
        return self._ring.predecessor

    @property
    def status(self) -> dict[str, object]:
        """This node's view, fit for JSON: id, address, ring, neighbours, arc, groups, records, peers."""
        return super().status

    def _own_status(self) -> dict[str, object]:
        return {
            "leeching": not self._ring.is_member,
            **status_of_ring(self._ring),
            **status_of_groups(self._identity, self._hosting),
            **self._kept.status,
        }

    def _status_summary(self) -> dict[str, object]:
        """:attr:`status`, with the number of peers instead of each, and the legacy peers that it hosts."""
        return {**self.status, "peers": len(self.routing_table), "legacy_peers": self._legacy.hosted()}

    def health(self, expected: int = 0, without: str | None = None) -> Deferred[Health]:
        """Whether every partition has a leader and a full group.

        :param expected: how many nodes ought to be there. :param without: id of a node that is to be stopped:
            whether every group would have a majority without it is looked at, too.
        """
        return self._run(self._operating.health(expected, without))

    def ring(self) -> Deferred[list[dict[str, object]]]:
        """The ring, walked once.

        :returns: fires with one dict a node, in the order of the walk: id, address, records and so on.
        """
        return self._run(self._walk.walk())

    def order(self, peer: str, what: str, *arguments: object) -> Deferred[list[object]]:
        """Ask one node: for its ``status``; or, if it runs on this machine, to ``leave`` or ``recover``.

        :param peer: its address. :returns: fires with what it answers.
        """
        seconds = 2 * self._chord_settings.leave_timeout_seconds
        linked = self._run(self._connect(Address.parse(peer)))
        return linked.addCallback(lambda link: link.call(what, *arguments, timeout_seconds=seconds))

    async def set_aside(self, peer: str) -> AsyncIterator[Kept]:
        """What one node had when another history than its own went on: the records that it set aside.

        :param peer: its address.
        """
        for partition, mark in histories_from_wire(await self.order(peer, "set_aside")):
            after, has_more = None, True
            while has_more:
                told = await self.order(peer, "read_set_aside", partition, mark, after)
                page, has_more = page_from_wire(told)
                for key, packed, expires in page:
                    yield Kept(key, self._unpacked(packed), expires)
                    after = key
