"""Finding who owns a position and who keeps a key: lookups, and what is learned from them.

A lookup is recursive, as it is 1.7 times as fast that way (ToN 2003, section IV): each node asks the
closest one preceding the position, and the answer comes back the same way. What is known for certain
(:class:`~chordtx.ring.ArcTable`) is used without asking anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import MeshConnection, PeerLost
from chordtx.ring import (
    SIZE,
    ArcTable,
    Contact,
    FingerTable,
    RingNode,
    distance,
    usable_contacts,
)

ID_BYTES = 48
_ARCS_MAX = 4096
_HOPS_MAX = 64
_CHAIN_MAX = 64
_ATTEMPTS_MAX = 4
#: How many times as long as a call a whole lookup may take.
_LOOKUP_CALLS = 2
#: A node gets this share of the time that is left: so there is time to ask another, if it does not answer.
_SHARE_OF_A_HOP = 0.6


@frozen
class Found:
    """Where a lookup ended.

    :ivar start: where the owner's arc starts, None when the answering node did not know.
    :ivar chain: the owner, and those that follow it on the walk. :ivar hops: nodes asked on the way.
    """

    start: int | None
    chain: tuple[Contact, ...]
    hops: int

    def to_wire(self) -> list[object]:
        """``[start (48 bytes) or nil, contacts, hops]``."""
        start = None if self.start is None else self.start.to_bytes(48, "big")
        return [start, [contact.to_wire() for contact in self.chain], self.hops]

    @classmethod
    def from_wire(cls, value: object) -> Found:
        """Contacts that nobody can connect to are left out: what they own, the next in the chain owns.

        :raises NotJoined: when no contact is left. :raises ProtocolError: when it is anything else.
        """
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[1], list) or not value[1]:
            raise ProtocolError("a lookup ends with [start, contacts, hops]")
        start, chain, hops = value
        if start is not None and not (isinstance(start, bytes) and len(start) == 48):
            raise ProtocolError("an arc starts at 48 bytes")
        if type(hops) is not int:
            raise ProtocolError("hops are a number")
        number = None if start is None else int.from_bytes(start, "big")
        contacts = usable_contacts(chain[:_CHAIN_MAX])
        if not contacts:
            raise NotJoined("a lookup ends with nobody who can be connected to")
        return cls(number, tuple(contacts), hops)


class Call(Protocol):
    """Asks a contact, and gives up after a while."""

    def __call__(
        self, contact: Contact, method: str, /, *arguments: object, timeout_seconds: float
    ) -> Deferred[list[object]]: ...


class Routing:
    """What one node knows of the ring beyond its own place, and how it finds out more.

    :param ring: its own place; no member while the node leeches.
    :param members: gives the links to nodes of ours that are in the ring.
    :param call: asks a contact: ``call(contact, method, *arguments)``.
    """

    def __init__(
        self,
        ring: RingNode,
        settings: ChordSettings,
        members: Callable[[], Iterable[MeshConnection]],
        call: Call,
        seconds: Callable[[], float],
    ) -> None:
        self._ring = ring
        self._settings = settings
        self._members = members
        self._call = call
        self._seconds = seconds
        self.arcs = ArcTable(_ARCS_MAX)
        self.fingers = FingerTable(ring.me.id)

    # What is known

    def ring_changed(self) -> None:
        """Our own neighbours changed: nothing is more certain about this part of the ring."""
        ring = self._ring
        if not ring.is_member:
            self.arcs.forget(ring.me.id)
            return
        chain = [ring.me, *ring.successors]
        if ring.complete:
            listed = {contact.id for contact in chain}
            for contact in self.arcs.contacts():
                if contact.id not in listed:
                    self.arcs.forget(contact.id)
            chain.append(ring.me)
        self.arcs.learn_chain(chain)
        if len(chain) > 1 and chain[1] == ring.me:
            self.arcs.learn_arc(ring.me, ring.me.id)
        if ring.predecessor is not None:
            self.arcs.learn_arc(ring.me, ring.predecessor.id)

    def own_arc_start(self) -> bytes | None:
        """Where our own arc starts, 48 bytes; None while that is not known."""
        ring = self._ring
        if not ring.is_member:
            return None
        if ring.predecessor is not None:
            return ring.predecessor.id.to_bytes(ID_BYTES, "big")
        is_alone = ring.complete and not ring.successors
        return ring.me.id.to_bytes(ID_BYTES, "big") if is_alone else None

    def learn(self, found: Found) -> None:
        """Keep what a lookup told."""
        self.arcs.learn_chain(found.chain)
        if found.start is not None:
            self.arcs.learn_arc(found.chain[0], found.start)
        for contact in found.chain[:1]:
            self.fingers.learn(contact)

    def learn_neighbours(
        self, of: Contact, predecessor: Contact | None, successors: Sequence[Contact]
    ) -> None:
        """A member named its neighbours."""
        self.arcs.learn_chain([of, *successors])
        if predecessor is not None:
            self.arcs.learn_arc(of, predecessor.id)

    def met(self, contact: Contact) -> None:
        """A member has joined, or we have met it: the owner of the arc that it lies in owns less than we
        thought."""
        self.arcs.learn_chain([contact])

    def arc_told(self, link: MeshConnection, start: int) -> None:
        """A member says with an answer where its own arc starts.

        What others tell of it may be older, and come later: so each answer is compared with what is known.
        """
        if self.arcs.start(link.id_10) != start:
            self.arcs.learn_arc(contact_of(link), start)

    def forget(self, id: int) -> None:
        """A node is gone, or in no ring any more."""
        self.arcs.forget(id)
        self.fingers.forget(id)

    def call_failed(self, id: int, error: BaseException | None) -> None:
        """A call to a node failed: forget it when that says that it is not there. A node that is only late,
        or has trouble of its own, is there; see :class:`~chordtx.mesh.liveness.Liveness` for one that is
        not."""
        if isinstance(error, PeerLost | NotJoined):
            self.forget(id)

    async def everyone(self, first: Contact, *, asks: bool = False) -> list[Contact] | None:
        """All members, in the order of the walk.

        :param first: where to begin. :param asks: do without what is known already.
        :returns: None when the walk meets somebody again before it came round: the ring changes just now.
        :raises NotJoined: when no member of the ring can be reached.
        """
        members = {first.id: first}
        at = first
        while len(members) <= _ARCS_MAX:
            following = None if asks else self.arcs.following(at.id)
            if following is None:
                following = (await self.lookup((at.id - 1) % SIZE)).chain[0]
            if following.id == first.id:
                return list(members.values())
            if following.id in members:
                break
            members[following.id] = at = following
        return None

    # Lookups

    def answer(self, position: int) -> Found | None:
        """find_successor, when this node can answer it alone."""
        ring = self._ring
        if not ring.is_member:
            return None
        chain = ring.answer(position)
        if chain is None:
            return None
        if chain and chain[0] == ring.me:
            start = ring.predecessor.id if ring.predecessor is not None else None
            if start is None and ring.complete and not ring.successors:
                start = ring.me.id
            return Found(start, chain, 0)
        return Found(ring.me.id, chain, 0)

    async def lookup(
        self,
        position: int,
        hops: int = 0,
        only: MeshConnection | None = None,
        within_seconds: float | None = None,
    ) -> Found:
        """find_successor(position).

        :param only: ask this member and nobody else (to join through it, before we are in a ring).
        :param within_seconds: how long the caller waits; as long as two calls when None.
        :raises NotJoined: when no member of the ring can be reached.
        """
        if only is None:
            found = self.answer(position)
            if found is not None:
                self.learn(found)
                return found
        if hops >= _HOPS_MAX:
            raise NotJoined("a lookup went in circles")
        tried: set[int] = set()
        call_seconds = self._settings.call_timeout_seconds
        deadline = self._seconds() + (within_seconds or _LOOKUP_CALLS * call_seconds)
        for _ in range(_ATTEMPTS_MAX):
            seconds = min(call_seconds, _SHARE_OF_A_HOP * (deadline - self._seconds()))
            if seconds <= 0:
                break
            hop = self._next_hop(position, tried) if only is None else contact_of(only)
            tried.add(hop.id)
            try:
                place = position.to_bytes(ID_BYTES, "big")
                reply = await self._call(hop, "find", place, hops + 1, seconds, timeout_seconds=seconds)
                found = Found.from_wire(reply)
            except (ProtocolError, NotJoined):
                self.forget(hop.id)
                if only is not None:
                    raise
            except ChordError:
                if only is not None:
                    raise
            else:
                self.learn(found)
                return found
        raise NotJoined("no member of the ring answers lookups")

    def _next_hop(self, position: int, tried: set[int]) -> Contact:
        linked = [contact_of(link) for link in self._members() if link.id_10 not in tried]
        fingers = [contact for contact in self.fingers.contacts() if contact.id not in tried]
        hop = self._nearest_before(position, [*linked, *fingers], tried)
        if not linked or any(hop.id == contact.id for contact in linked):
            return hop
        # An open link saves making one: a node that takes us half as far is good enough.
        me = self._ring.me.id
        other = min(linked, key=lambda contact: distance(contact.id, position) or SIZE)
        far = distance(me, other.id)
        return other if far < distance(me, position) and 2 * far >= distance(me, hop.id) else hop

    def _nearest_before(self, position: int, candidates: list[Contact], tried: set[int]) -> Contact:
        if self._ring.is_member:
            hop = self._ring.next_hop(position, candidates)
            if hop.id not in tried:
                return hop
        if not candidates:
            raise NotJoined("no member of the ring is connected")
        probe = RingNode(self._ring.me, self._settings.successors_max)
        return probe.next_hop(position, candidates)


def contact_of(link: MeshConnection) -> Contact:
    """The peer of an open link, as the ring knows it."""
    assert link.address is not None
    return Contact(link.id_10, link.address.host, link.address.port)
