"""What nodes of ours tell one another of themselves when they link, and whom they refuse for it.

Two rings never become one, unless one of them is nothing yet: a node that is alone in its ring and holds no
record gives that ring up for another. A node whose data folder is older than one that has run since, and a
second process with the id of another that lives, are refused: they could break promises that were made since.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from weakref import WeakSet

from twisted.logger import Logger

from chordtx.chord.ring_identity import RingIdentity, Standing
from chordtx.errors import ChordError, ProtocolError, WrongRing
from chordtx.escaping import escaped
from chordtx.mesh import MeshConnection
from chordtx.mesh.limited_log import LimitedLog
from chordtx.wire import Message, flags

#: How much a count of starts may be above the greatest that was met; a greater one is not believed.
_STARTS_AHEAD_MAX = 1000
_REASON_CHARACTERS_MAX = 500
_ADDRESS_CHARACTERS_MAX = 300
_TOLD_SECONDS = 2.0
_NEW_NODE = "start it as a new node, with an empty data folder"


class Node(Protocol):
    """What this part needs of a node."""

    def own_standing(self) -> Standing:
        """What it tells of itself."""

    def links(self) -> Iterable[MeshConnection]:
        """All links."""

    def met_starts(self) -> dict[int, int]:
        """The greatest counts of starts that were met, by node; to be kept."""

    def is_fellow(self, id: int) -> bool:
        """Whether a node is a member of one of its groups."""

    def fellows(self) -> Iterable[int]:
        """Those that were, some seconds ago."""

    def standing_changed(self, link: MeshConnection, standing: Standing, before: Standing | None) -> None:
        """A node of our ring, or of none, has told of itself, and what it told ``before``."""

    def member_changed(self, link: MeshConnection) -> None:
        """A peer is a member of our ring, or is none any more (``leeching``)."""

    def give_ring_up(self, for_ring: RingIdentity) -> None:
        """Leave our own ring, which is nothing yet, for another."""

    def refused(self, reason: str) -> None:
        """A member of the ring refuses us."""

    def limited_log(self) -> LimitedLog:
        """For lines that peers can cause."""


class Standings:
    """See the module. One for each node."""

    _log = Logger()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._of: dict[int, Standing] = {}
        self._told_hears = False
        self._stores: dict[int, bool] = {}
        self._refused: WeakSet[MeshConnection] = WeakSet()

    def of(self, id: int) -> Standing | None:
        """What a node has told; None while there is no link to it."""
        return self._of.get(id)

    def is_of_our_ring(self, link: MeshConnection) -> bool:
        """Whether a peer is of our ring, or of one that we may come into."""
        standing, ours = self._of.get(link.id_10), self._node.own_standing().ring
        if standing is None or standing.ring is None or link.address is None or not link.address.reachable:
            return False
        return ours is None or standing.ring == ours

    def tell(self, link: MeshConnection) -> None:
        """Tell a peer of ourselves."""
        link.send(flags.STANDING, self._node.own_standing().to_wire())

    def look(self) -> None:
        """Whether this node hears of keys may have changed, or who is its fellow."""
        for id in self._node.fellows():
            standing = self._of.get(id)
            if standing is not None:
                self._count_starts(id, standing)
        if self._node.own_standing().hears != self._told_hears:
            self.tell_all()

    def tell_all(self) -> None:
        """Tell everybody: something has changed."""
        own = self._node.own_standing()
        self._told_hears = own.hears
        told = own.to_wire()
        for link in list(self._node.links()):
            if link.ours:
                link.send(flags.STANDING, told)

    def link_closed(self, link: MeshConnection) -> bool:
        """A link is gone.

        :returns: whether one side had refused the other: another link would be refused too.
        """
        is_refused = link in self._refused
        self._refused.discard(link)
        self._of.pop(link.id_10, None)
        self._stores.pop(link.id_10, None)
        self.look()
        return is_refused

    # Who is a member

    def meta_received(self, link: MeshConnection, message: Message) -> None:
        """``meta [5, '0' | '1']``: whether the peer stores.

        :raises ProtocolError: when it is nothing like that.
        """
        if len(message.payload) != 2 or message.payload[1] not in ("0", "1", b"0", b"1"):
            raise ProtocolError("meta says '0' or '1'")
        self._stores[link.id_10] = message.payload[1] in ("0", b"0")
        self._judge_member(link)

    def judge_members(self) -> None:
        """Our own ring is another one: so others are members of it, or are not any more."""
        for link in list(self._node.links()):
            self._judge_member(link)

    def _judge_member(self, link: MeshConnection) -> None:
        stores = self._stores.get(link.id_10, False)
        leeching = not stores or (link.ours and not self.is_of_our_ring(link))
        changed, link.leeching = leeching != link.leeching, leeching
        if changed:
            self._node.member_changed(link)
            self.look()

    # Telling

    def received(self, link: MeshConnection, message: Message) -> None:
        """``standing [0x44, [ring, has_disk, is_leaving, is_empty, starts, hears, is_stopping]]``.

        :raises ProtocolError: when it is nothing like that.
        """
        if not link.ours or len(message.payload) != 2:
            raise ProtocolError("a standing comes from a node of ours, and has one entry")
        standing = Standing.from_wire(message.payload[1])
        before = self._of.get(link.id_10)
        self._of[link.id_10] = standing
        link.hears = standing.hears
        self.judge(link, standing, before)
        self.look()

    def judge(self, link: MeshConnection, standing: Standing, before: Standing | None = None) -> None:
        """What a peer has told is judged by what we are now. :param before: what it told before."""
        ours = self._node.own_standing()
        if standing.ring is None or ours.ring is None or standing.ring == ours.ring:
            if self._has_run_since(link, standing):
                why = f"a data folder with this node's id has run that is newer than this one: {_NEW_NODE}"
                self.refuse(link, ChordError(why))
            else:
                self._node.standing_changed(link, standing, before)
        elif ours.is_empty and not (standing.is_empty and ours.ring.id > standing.ring.id):
            self._node.give_ring_up(standing.ring)
        elif not standing.is_empty:
            text = f"the peer is of ring {standing.ring.text}, and we are of {ours.ring.text}"
            self.refuse(link, WrongRing(f"{text}: two rings never become one"))

    def ring_chosen(self, ours: RingIdentity) -> None:
        """This is our ring from now on: peers of others are refused."""
        for link in list(self._node.links()):
            standing = self._of.get(link.id_10)
            if standing is not None and standing.ring is not None and standing.ring != ours:
                self.judge(link, standing)
        self.judge_members()

    def _has_run_since(self, link: MeshConnection, standing: Standing) -> bool:
        """Whether this node was met after more starts than it has had by now.

        Those of fellows are counted. They count when it is no fellow any more, too: it may become one again.
        """
        if self._node.is_fellow(link.id_10):
            self._count_starts(link.id_10, standing)
        return standing.has_disk and standing.starts < self._node.met_starts().get(link.id_10, 0)

    def _count_starts(self, id: int, standing: Standing) -> None:
        met = self._node.met_starts()
        known = met.get(id, 0)
        if standing.has_disk and standing.starts > known:
            met[id] = min(standing.starts, known + _STARTS_AHEAD_MAX)

    def refuse(self, link: MeshConnection, error: ChordError) -> None:
        """End a link, and tell the peer why."""
        self._refused.add(link)
        link.send(flags.REFUSAL, str(error))
        link.refuse(error)

    def turned_away(self, link: MeshConnection, other: MeshConnection) -> None:
        """A link is about to be closed, since there is another one to its node, which lives."""
        if link.ours and link.address != other.address:
            reason = f"another process with this node's id runs at {other.address}: {_NEW_NODE}"
            link.send(flags.REFUSAL, reason)
            if other.ours:
                told = other.call("rival", str(link.address), timeout_seconds=_TOLD_SECONDS)
                told.addErrback(lambda failure: failure.trap(ChordError))

    def rival(self, caller: MeshConnection, address: object) -> list[object]:
        """``rival(address)``: somebody else says that it has this node's id. That may be a lie, so it is but
        logged.

        :raises ProtocolError: when the address is no text.
        """
        if type(address) is not str:
            raise ProtocolError("a rival is named by its address")
        text = "{peer} was told by another process at {address} that it has this node's id: {why}"
        why = "it runs on a copy of this node's data folder, or lies"
        where = escaped(address, _ADDRESS_CHARACTERS_MAX)
        self._node.limited_log().warn(text, peer=caller, address=where, why=why)
        return []

    def refusal_received(self, link: MeshConnection, message: Message) -> None:
        """``refusal [0x46, why]``: the peer ends the link.

        :raises ProtocolError: when it is nothing like that.
        """
        if not link.ours or len(message.payload) != 2 or not isinstance(message.payload[1], str):
            raise ProtocolError("a refusal comes from a node of ours, and says why")
        self._refused.add(link)
        reason = escaped(message.payload[1], _REASON_CHARACTERS_MAX)
        self._log.error("{peer} refuses this node: {reason}", peer=str(link.address), reason=reason)
        self._node.refused(f"{link.address} refuses this node: {reason}")
