"""Keeps a node's place in the ring: carries out what :class:`~chordtx.ring.RingNode` wants done.

Joins, stabilizes at intervals and whenever a neighbour says that something changed, finds out whether
a neighbour that fell silent is dead, and leaves. It must not know records.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from chordtx.chord.routing import Routing, contact_of
from chordtx.chord.rpc import Rpc
from chordtx.config import ChordSettings, MeshSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import CallTimeout, MeshConnection
from chordtx.mesh.calls import Method
from chordtx.mesh.deferreds import Gate, within
from chordtx.mesh.limited_log import LimitedLog
from chordtx.mesh.loop import Loop, Pause, Round
from chordtx.ring import Ask, Changed, Contact, Effect, Notify, Nudge, PlaceSearch, RingNode, usable_contacts

_NUDGED_SECONDS = 0.02
_CALMER = 1.5
_SUSPECT_SECONDS = 2.0
_PREDECESSOR_SECONDS = 1.0
_CONTACTS_MAX = 64
_ASKED_FOR_PLACE_MAX = 8


class Node(Protocol):
    """What the membership needs of the service."""

    _methods: dict[str, Method]

    @property
    def reactor(self) -> object:
        """For the time."""

    @property
    def settings(self) -> MeshSettings:
        """Of the mesh."""

    @property
    def _rng(self) -> Random:
        """Its random source."""

    @property
    def _rpc(self) -> Rpc:
        """Its links."""

    @property
    def _limited_log(self) -> LimitedLog:
        """For lines that peers can cause."""

    def _background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""

    def _keep(self, name: str, round: Round, pause: Pause, first_after_seconds: float = 0.0) -> Loop:
        """Do something again and again until the node stops."""


class Membership:
    """One node's dealings with its neighbours.

    :param node: the service.
    :param changed: called after each change of our neighbours.
    :param calm_max: how many times longer the pauses between rounds become while nothing changes.
    """

    _log = Logger()

    def __init__(
        self,
        node: Node,
        ring: RingNode,
        routing: Routing,
        settings: ChordSettings,
        changed: Callable[[], None],
        calm_max: float = 1.0,
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._settings = settings
        self._changed = changed
        self._asking: set[int] = set()
        self._loop: Loop | None = None
        self._stopped = False
        self._calm_max = calm_max
        self._calm = 1.0
        self._has_predecessor = Gate()
        node._methods.update(
            find=self._find,
            neighbours=self._neighbours,
            notify=self._notified,
            nudge=self._nudge,
            left=self._left,
        )

    # Joining and leaving

    def create(self) -> None:
        """Begin a ring of one."""
        self._carry_out(self._ring.create())
        self._keep_going()

    async def join(self, through: MeshConnection) -> None:
        """Join the ring that a neighbour is in.

        :raises ChordError: when it is in none, or what it named does not answer.
        """
        found = await self._routing.lookup(self._ring.me.id, only=through)
        chosen = next((contact for contact in found.chain if contact.id != self._ring.me.id), None)
        if chosen is None:
            raise NotJoined("the ring knows nobody but ourselves")
        owner, successors = await self._find_place(chosen)
        self._carry_out(self._ring.join_answered(owner, successors))
        self._keep_going()

    async def predecessor_known(self) -> None:
        """Wait until the predecessor has told of itself, but not for long: without it the ring works too."""
        with suppress(CallTimeout):
            await within(_PREDECESSOR_SECONDS, self._node.reactor, self._has_predecessor.when_open(), _late)

    async def _find_place(self, asked: Contact) -> tuple[Contact, Sequence[Contact]]:
        """Ask around until the members before and after our place agree."""
        search = PlaceSearch(self._ring.me.id)
        for _ in range(_ASKED_FOR_PLACE_MAX):
            named = search.answered(asked, *await self._ask(asked))
            if search.found is not None:
                return search.found
            if named is None:
                break
            asked = named
        raise NotJoined("those around our place do not agree on it yet")

    def go_on_alone(self) -> None:
        """A node that has lost all of a larger ring, and has a link to no member, is the ring from now on.

        Others can join through it then: they may be what it has lost, started again, and wait for it. What is
        stored is not given up by that: a majority of its group decides. Another part of the ring is found as
        after a split.
        """
        if self._ring.is_cut_off and not self._node._rpc.members():
            self._log.warn("all neighbours in the ring are lost: it goes on with this node alone")
            self._carry_out(self._ring.create())

    def stop(self) -> None:
        """No more rounds."""
        self._stopped = True
        if self._loop is not None:
            self._loop.stop()

    async def say_goodbye(self) -> None:
        """Tell the neighbours that we leave, so that they close the gap at once."""
        self.stop()
        contacts = {contact.id: contact for contact in self._ring.successors}
        if self._ring.predecessor is not None:
            contacts[self._ring.predecessor.id] = self._ring.predecessor
        told = [self._node._rpc.call(contact, "left") for contact in contacts.values()]
        await DeferredList(told, consumeErrors=True)

    # What others ask

    def _find(
        self, caller: MeshConnection, position: object, hops: object, seconds: object
    ) -> Deferred[list[object]]:
        """``find(position, hops, seconds)``: who owns a position. The caller waits ``seconds``."""
        if not (isinstance(position, bytes) and len(position) == 48 and type(hops) is int):
            raise ProtocolError("find takes a position and a count of hops")
        if not (type(seconds) is int or type(seconds) is float) or not seconds > 0:
            raise ProtocolError("find takes the seconds that its caller waits")
        if not self._ring.is_member:
            raise NotJoined("this node is in no ring")
        return Deferred.fromCoroutine(self._find_for(int.from_bytes(position, "big"), hops, seconds))

    async def _find_for(self, position: int, hops: int, seconds: float) -> list[object]:
        longest = self._settings.call_timeout_seconds
        found = await self._routing.lookup(position, hops, within_seconds=min(seconds, longest))
        return type(found)(found.start, found.chain, found.hops + 1).to_wire()

    def _neighbours(self, caller: MeshConnection) -> list[object]:
        if not self._ring.is_member:
            raise NotJoined("this node is in no ring")
        predecessor = self._ring.predecessor
        return [
            None if predecessor is None else predecessor.to_wire(),
            [contact.to_wire() for contact in self._ring.successors],
        ]

    def _notified(self, caller: MeshConnection) -> list[object]:
        if not self._ring.is_member:
            raise NotJoined("this node is in no ring")
        if caller.address is None or not caller.address.reachable:
            raise NotJoined("a node that names no address cannot be in a ring: nobody could reach it")
        before = self._ring.predecessor
        self._carry_out(self._ring.notified(self._node._rpc.member(caller)))
        after = self._ring.predecessor
        if before is not None and after is not None and before != after:
            # The one displaced has a new successor, and finds that out by asking us.
            self._tell(before, "nudge")
        return []

    def _nudge(self, caller: MeshConnection) -> list[object]:
        self._node._rpc.member(caller)
        if self._loop is not None:
            self._loop.wake(_NUDGED_SECONDS)
        return []

    def _left(self, caller: MeshConnection) -> list[object]:
        # It says already that it stores nothing: so not from members, but from whom it concerns.
        if not self._node._rpc.has_place(caller):
            raise NotJoined("somebody else has the link to this id")
        caller.leeching = True
        self._routing.forget(caller.id_10)
        self._carry_out(self._ring.left(caller.id_10))
        return []

    # What happens

    def link_opened(self, link: MeshConnection) -> None:
        """A node of ours that is in a ring is connected."""
        self._carry_out(self._ring.met(contact_of(link)))

    def place_found(self, owner: Contact) -> None:
        """Our own id was looked up through somebody: this one claims it."""
        self._carry_out(self._ring.place_found(owner))

    def link_lost(self, link: MeshConnection, is_silent: bool) -> None:
        """A link is gone; whether the peer is too is found out, unless it had fallen silent."""
        self._routing.forget(link.id_10)
        ring = self._ring
        neighbour = next((c for c in (*ring.successors, ring.predecessor) if c and c.id == link.id_10), None)
        if neighbour is None:
            return
        if is_silent:
            self.failed(neighbour)
        elif neighbour.id not in self._asking:
            self._node._background(self._carry_out_ask(neighbour))

    def failed(self, contact: Contact) -> None:
        """A node is dead, or cannot be reached, which is the same to us."""
        self._log.info("{contact} is gone from the ring", contact=f"{contact.host}:{contact.port}")
        self._routing.forget(contact.id)
        self._carry_out(self._ring.failed(contact.id))

    # Keepalive

    def _keep_going(self) -> None:
        first_after_seconds = self._settings.stabilize_interval_seconds
        self._loop = self._node._keep("membership", self._round, self._pause_seconds, first_after_seconds)

    def _pause_seconds(self) -> float:
        drawn = self._node._rng.random()
        return self._settings.stabilize_interval_seconds * self._calm * (0.75 + 0.5 * drawn)

    def _hurry(self) -> None:
        """Something changes: rounds are frequent for a while."""
        if self._calm > 1.0 and self._loop is not None:
            self._calm = 1.0
            self._loop.wake(_NUDGED_SECONDS)

    def _round(self) -> None:
        self._calm = min(self._calm * _CALMER, self._calm_max)
        self._carry_out(self._ring.stabilize())
        for contact in self._strangers():
            self._carry_out(self._ring.met(contact))
        self._fix_finger()

    def _strangers(self) -> Iterable[Contact]:
        listed = {contact.id for contact in self._ring.successors}
        return [contact_of(link) for link in self._node._rpc.members() if link.id_10 not in listed]

    def _fix_finger(self) -> None:
        # A ring that fits into our links needs no fingers.
        successor = self._ring.successor
        if successor is None or self._ring.complete:
            return
        if self._routing.arcs.size() <= self._node.settings.connections_max + 1:
            return
        target = self._routing.fingers.next_target(successor)
        if target is not None:
            self._node._background(self._routing.lookup(target))

    # Effects

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Changed():
                    self._hurry()
                    if self._ring.predecessor is not None:
                        self._has_predecessor.opened()
                    self._routing.ring_changed()
                    self._changed()
                case Ask(contact):
                    if contact.id not in self._asking:
                        self._node._background(self._carry_out_ask(contact))
                case Notify(contact):
                    self._tell(contact, "notify")
                case Nudge(contact):
                    self._tell(contact, "nudge")

    def _tell(self, contact: Contact, method: str) -> None:
        self._node._rpc.call(contact, method).addErrback(lambda _: None)

    async def _carry_out_ask(self, contact: Contact) -> None:
        self._asking.add(contact.id)
        try:
            predecessor, successors = await self._ask(contact)
        except ChordError as error:
            self._node._limited_log.debug(
                "{contact} does not answer: {error}", contact=str(contact.port), error=str(error)
            )
            self._asking.discard(contact.id)
            # A node that is late, on a link that is not silent, is busy. To give it up would give its work to
            # others, which would be late in turn. The next round asks again.
            is_late = isinstance(error, CallTimeout) and self._node._rpc.is_linked(contact.id)
            if not self._stopped and not is_late:
                self.failed(contact)
            return
        finally:
            self._asking.discard(contact.id)
        if not self._stopped:
            self._routing.learn_neighbours(contact, predecessor, successors)
            self._carry_out(self._ring.neighbours_answered(contact, predecessor, successors))

    async def _ask(self, contact: Contact) -> tuple[Contact | None, list[Contact]]:
        call = self._node._rpc.call(contact, "neighbours")
        seconds = _SUSPECT_SECONDS + self._settings.call_timeout_seconds
        reply = await within(seconds, self._node.reactor, call, _late)
        if len(reply) != 2 or not isinstance(reply[1], list):
            raise ProtocolError("neighbours are a predecessor and a list")
        predecessors = [] if reply[0] is None else usable_contacts(reply[:1])
        return next(iter(predecessors), None), usable_contacts(reply[1][:_CONTACTS_MAX])


def _late() -> CallTimeout:
    return CallTimeout("it does not answer in time")
