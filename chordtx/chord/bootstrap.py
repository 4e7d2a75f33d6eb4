"""How a node gets into a ring at first: through a member, or by beginning the ring.

- A node without peers begins a ring at once.
- A node that was in a ring before is *returning*. It looks for that ring through the peers that it remembers,
  too. When the whole ring is started again there are only others that wait as well: of those the one with the
  greatest id begins. When none of them is reached in time it begins alone, unless it was given peers.
  (A node that only waited for a ring is not returning, however often it is started: it is as new as before.)
- All nodes may be given one and the same list. The node that stands first in it begins, when nobody else in
  the list answers from a ring. The others wait for it; when it stays away, the next one in the list that
  reaches a majority of the list begins.
- Any other node goes on trying. It says so after a time-out, and sooner when its peers are in no ring either.

Peers of two rings may be given by mistake. A node that is in no ring yet takes neither then: whichever
answers first would have it, and answer its user.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Protocol

from twisted.logger import Logger

from chordtx.chord.ring_identity import RingIdentity, Standing
from chordtx.errors import ChordError, NotJoined, WrongRing
from chordtx.mesh import Address, MeshConnection
from chordtx.mesh.deferreds import Gate
from chordtx.mesh.loop import Loop

Through = Callable[[MeshConnection], Awaitable[None]]
Begin = Callable[[], Awaitable[None]]

_RETRY_SECONDS = 0.1
_LOOK_SECONDS = 1.0  # how often those that are remembered or given are tried
_NAMED_SECONDS = 3.0  # until then we connect to nodes of ours that legacy peers name
_SETTLE_SECONDS = 2.0  # by then nodes started together have found each other, or the ring
_LISTED_SETTLE_SECONDS = 0.5
_HEARD_SECONDS = 0.5  # so long who is joining waits for each given peer to tell its ring
_WHO_BEGINS = "give all nodes one list of peers with their own addresses in it, or start one without peers"
_DIALLED_MAX = 64  # of those that are remembered, the latest first; others at the next look


class Node(Protocol):
    """What its bootstrap needs of a node."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def random(self) -> float:
        """From 0 to 1."""

    def own_id(self) -> int:
        """Its id."""

    def own_address(self) -> Address:
        """Where others reach it."""

    def is_leeching(self) -> bool:
        """Whether it only uses the ring."""

    def identity(self) -> RingIdentity | None:
        """Of its ring, once it knows which one that is."""

    def standing_of(self, id: int) -> Standing | None:
        """What another node has told of itself; None while there is no link to it."""

    def members(self) -> list[MeshConnection]:
        """Links to nodes of ours that are in a ring that this node may be in."""

    def links(self) -> list[MeshConnection]:
        """All links."""

    def dial(self, address: Address) -> None:
        """Connect in the background."""

    def why_not_reached(self, address: Address) -> str | None:
        """Why the last attempt to connect there failed; None when it did not, or there was none."""

    def nobody_is_there(self, address: Address) -> bool:
        """Whether the last attempt showed that no node of this network listens there."""

    def why_not_joined(self, peers: list[Address]) -> Exception:
        """What kept the node out of a ring."""

    def all_refused(self, peers: list[Address]) -> bool:
        """Whether every peer turned out to be of another network, or ring."""

    def keep(self, name: str, round: Callable[[], Awaitable[bool]], pause: Callable[[], float]) -> Loop:
        """Do something again and again, until it says that it is done."""


class Bootstrap:
    """See the module. One for each node; it calls ``may_begin`` of others.

    :param peers: what people gave. :param timeout_seconds: after which those who wait are told.
    :param retries: False tells those who wait as soon as nobody listens at any given peer.
    :param joined: opened once the node is in a ring. It fails when that takes too long, and is opened all the
        same when it comes later.
    """

    _log = Logger()

    def __init__(
        self, node: Node, peers: Iterable[Address], timeout_seconds: float, retries: bool, joined: Gate
    ) -> None:
        self._node = node
        self._peers = list(peers)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._joined = joined
        self._remembered: list[Address] = []
        self._looked_at = self._began_at = -inf
        self._attempt = 0
        self._loop: Loop | None = None
        self._has_said = self._has_met_one = False
        self._wrong_ring: WrongRing | None = None
        self._why_not_yet = ""

    @property
    def is_joined(self) -> bool:
        """Whether the node is in a ring; a leeching one: whether it has reached one."""
        return self._joined.is_open

    def remember(self, addresses: Iterable[Address]) -> None:
        """Peers from an earlier run, in which this node was in a ring."""
        self._remembered = [*dict.fromkeys([*self._remembered, *addresses])]

    def may_begin(self, caller: MeshConnection) -> list[bool]:
        """``may_begin()`` -> ``[whether this node waits for its ring, and would begin it]``."""
        return [self._is_returning and not self.is_joined]

    @property
    def _is_returning(self) -> bool:
        return bool(self._remembered) and not self._node.is_leeching()

    def look(self, through: Through, begin: Begin, *, has_met_one: bool = False) -> None:
        """Go on until the node is in a ring; a leeching one, until it can reach one.

        :param through: joins through a member. :param begin: begins a ring.
        :param has_met_one: whether it is about to come into a ring that it has a link to: then it begins none
            before the time-out.
        """
        self.stop()
        self._has_met_one = has_met_one
        attempt = self._attempt
        self._began_at = self._node.seconds()
        self._looked_at = -inf
        self._has_said, self._why_not_yet = False, ""

        def try_once() -> Awaitable[bool]:
            return self._try_once(attempt, through, begin)

        self._loop = self._node.keep("joining the ring", try_once, self._pause_seconds)

    def stop(self) -> None:
        """Look no more; an attempt that is under way ends."""
        self._attempt += 1
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()

    def _pause_seconds(self) -> float:
        return _RETRY_SECONDS * (0.5 + self._node.random())

    async def _try_once(self, attempt: int, through: Through, begin: Begin) -> bool:
        is_in = False
        self._wrong_ring = None
        try:
            is_in = await self._try(through, begin)
        except ChordError as error:
            if isinstance(error, WrongRing):
                self._wrong_ring = error
            if str(error) != self._why_not_yet:  # once, for it is tried ten times a second
                self._why_not_yet = str(error)
                self._log.info("not joined yet: {error}", error=self._why_not_yet)
        finally:
            if attempt == self._attempt:
                self._tell(is_in)
        return is_in

    def _tell(self, is_in: bool) -> None:
        if is_in:
            self._joined.opened()
            return
        is_late = self._waited_seconds > self._timeout_seconds and self._place_in_list is None
        is_in_vain = self._node.all_refused(self._peers) or self._is_nobody_there
        if self._joined.error is None and (self._wrong_ring or is_late or is_in_vain):
            self._joined.failed(self._wrong_ring or self._why_not_joined())

    def _why_not_joined(self) -> Exception:
        waiting = self._waiting_peers
        if not waiting:
            return self._node.why_not_joined(self._peers)
        return NotJoined(f"no ring was reached; these peers wait for one as well: {waiting}; {_WHO_BEGINS}")

    @property
    def _waiting_peers(self) -> str:
        """The given peers that answer, and are in no ring either."""
        standings = (
            (peer, self._node.standing_of(link.id_10))
            for peer in self._peers
            for link in self._links_to(peer)
        )
        waiting = (peer for peer, standing in standings if standing is not None and standing.ring is None)
        return ", ".join(map(str, dict.fromkeys(waiting)))

    @property
    def _is_nobody_there(self) -> bool:
        """Whether nobody listens at any given peer, and that is not to be waited for."""
        return (
            not self._retries
            and bool(self._peers)
            and self._place_in_list is None
            and not self._node.links()
            and all(self._node.nobody_is_there(peer) for peer in self._peers)
        )

    @property
    def _waited_seconds(self) -> float:
        return self._node.seconds() - self._began_at

    @property
    def _place_in_list(self) -> int | None:
        """Where in the list of peers the node itself stands."""
        own = self._node.own_address()
        if self._node.is_leeching() or len(self._peers) < 2 or own not in self._peers:
            return None
        return self._peers.index(own)

    async def _try(self, through: Through, begin: Begin) -> bool:
        node = self._node
        member = next(iter(node.members()), None)
        if member is not None:
            if node.identity() is None and not self._has_met_one:
                if not self._have_all_told():
                    return False
                self._check_rings()
            await through(member)
            return True
        if node.is_leeching():
            return False
        self._dial_again()
        if not await self._may_begin_now():
            return False
        if node.members():
            return False  # somebody was faster
        await begin()
        return True

    # Which ring it is

    def _have_all_told(self) -> bool:
        """Whether each given peer has told its ring, or is not reached. What hangs is not waited for."""
        return self._waited_seconds >= _HEARD_SECONDS or all(
            peer == self._node.own_address()
            or self._node.why_not_reached(peer) is not None
            or any(not link.ours or self._node.standing_of(link.id_10) for link in self._links_to(peer))
            for peer in self._peers
        )

    def _links_to(self, peer: Address) -> list[MeshConnection]:
        return [link for link in self._node.links() if peer in (link.dialled, link.address)]

    def _check_rings(self) -> None:
        """:raises WrongRing: when peers of two rings were given. (An empty one gives way to the other.)"""
        found: dict[RingIdentity, Address] = {}
        for peer in self._peers:
            for link in self._links_to(peer):
                standing = self._node.standing_of(link.id_10)
                if standing is not None and standing.ring is not None and not standing.is_empty:
                    found.setdefault(standing.ring, peer)
        if len(found) > 1:
            told = " and ".join(f"{peer} is of ring {ring.text}" for ring, peer in found.items())
            raise WrongRing(f"the peers are of different rings: {told}; give peers of one ring only")

    def _dial_again(self) -> None:
        now = self._node.seconds()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if len(self._node.links()) < _DIALLED_MAX:  # with more links it finds all others by them
                dialled = self._remembered[-_DIALLED_MAX:]
                self._remembered = [*dialled, *self._remembered[:-_DIALLED_MAX]]
                for address in dialled:
                    self._node.dial(address)

    async def _may_begin_now(self) -> bool:
        place = self._place_in_list
        if self._has_met_one:
            return self._waited_seconds > self._timeout_seconds
        if self._is_returning:
            return await self._may_begin_again()
        if place is not None:
            return self._may_begin_of_list(place)
        self._say_who_waits()
        return not self._peers or self._peers == [self._node.own_address()] or self._are_legacy_peers_alone()

    def _say_who_waits(self) -> None:
        if self._has_said or self._waited_seconds < _NAMED_SECONDS:
            return
        waiting = self._waiting_peers
        if waiting:
            self._has_said = True
            self._log.warn(
                "waits for a ring, and so do its peers {peers}: {hint}", peers=waiting, hint=_WHO_BEGINS
            )

    def _are_legacy_peers_alone(self) -> bool:
        """Whether there are only legacy peers, which hold no ring of ours: so we begin one around them.

        They name others of ours, if there are any, which are connected to first.
        """
        links = self._node.links()
        is_early = self._waited_seconds < min(_NAMED_SECONDS, self._timeout_seconds)
        return bool(links) and not is_early and not any(link.ours for link in links)

    # One list for all

    def _may_begin_of_list(self, place: int) -> bool:
        others = [peer for peer in self._peers if peer != self._node.own_address()]
        reached = [peer for peer in others if self._is_reached(peer)]
        if place == 0:
            tried = [peer for peer in others if peer in reached or self._node.why_not_reached(peer)]
            return len(tried) == len(others) and self._waited_seconds >= _LISTED_SETTLE_SECONDS
        if not self._has_said:
            self._has_said = True
            self._log.info("waits for {first} to begin the ring", first=str(self._peers[0]))
        is_next = not any(peer in reached for peer in self._peers[:place])
        has_majority = 2 * (len(reached) + 1) > len(self._peers)
        return self._waited_seconds > self._timeout_seconds and is_next and has_majority

    def _is_reached(self, peer: Address) -> bool:
        return any(link.ours for link in self._links_to(peer))

    # A ring that is started again

    async def _may_begin_again(self) -> bool:
        if self._waited_seconds < min(_SETTLE_SECONDS, self._timeout_seconds):
            return False
        waiting = [link for link in self._node.links() if link.ours and await self._waits_too(link)]
        if waiting:
            return all(link.id_10 < self._node.own_id() for link in waiting)
        if self._waited_seconds < self._timeout_seconds or self._peers:
            return False
        text = "none of the {count} remembered peers answers: beginning alone"
        self._log.warn(text, count=len(self._remembered))
        return True

    async def _waits_too(self, link: MeshConnection) -> bool:
        try:
            answer = await link.call("may_begin", timeout_seconds=_LOOK_SECONDS)
        except ChordError:
            return False
        return answer == [True]
