"""What operators ask of a node: whether the ring is healthy, to leave it for good, to go on without the lost.

Orders are taken from this machine only.
"""

from __future__ import annotations

from collections.abc import Coroutine
from ipaddress import ip_address
from typing import Protocol

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from chordtx.chord.health import Health, LedGroup, judge, led_from_wire, led_to_wire
from chordtx.chord.hosting import Hosting
from chordtx.chord.ring_identity import RingIdentity
from chordtx.chord.set_aside import SetAside, histories_from_wire
from chordtx.chord.walk import RingWalk
from chordtx.errors import ChordError, NotJoined
from chordtx.mesh import Address, MeshConnection
from chordtx.ring import Contact
from chordtx.wire import decode_id

#: How long the members that are left have to answer, before their group goes on without the others.
_ASKED_SECONDS = 0.5
_TRIES = 3


class Node(Protocol):
    """What this part needs of a node."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""

    def identity(self) -> RingIdentity | None:
        """Of its ring."""

    def own_id(self) -> int:
        """Its id."""

    def call(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask another node."""

    def member(self, caller: MeshConnection) -> Contact:
        """The member of the ring that calls. :raises NotJoined: when it is none."""

    def leave_for_good(self) -> Deferred[None]:
        """Have others keep what this node kept, and stop."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class Operating:
    """See the module. One for each node."""

    _log = Logger()

    def __init__(self, node: Node, walk: RingWalk, set_aside: SetAside) -> None:
        self._node = node
        self._walk = walk
        self._set_aside_here = set_aside

    # Health

    async def health(self, expected: int, without: str | None) -> Health:
        """A look at the whole ring.

        :param expected: how many nodes ought to be there. :param without: id of one that is to be stopped.
        :raises NotJoined: when no member can be reached. :raises ProtocolError: for an id that is none.
        """
        identity = self._node.identity()
        if identity is None:
            raise NotJoined("no ring is known yet")
        stopped = None if without is None else Contact(decode_id(without, bits_max=384), "", 0)
        led: dict[int, LedGroup] = {}
        silent: list[str] = []
        nodes, set_aside = 0, 0
        for contact in await self._walk.contacts():
            try:
                led |= led_from_wire(await self._led(contact), identity.partitions)
                nodes += 1
                set_aside += bool(await self._set_aside(contact))
            except ChordError:
                silent.append(str(Address(contact.host, contact.port)))
        found = judge(led, identity.partitions, identity.replicas, nodes, silent, expected, stopped)
        return evolve(found, set_aside=set_aside)

    async def _led(self, contact: Contact) -> object:
        if contact.id == self._node.own_id():
            return self._own_led()
        return (await self._node.call(contact, "led_groups"))[0]

    async def _set_aside(self, contact: Contact) -> list[tuple[int, int]]:
        if contact.id == self._node.own_id():
            return histories_from_wire(self._set_aside_here.histories())
        return histories_from_wire(await self._node.call(contact, "set_aside"))

    def led_groups(self, caller: MeshConnection) -> list[object]:
        """``led_groups()``: see :func:`~chordtx.chord.health.led_to_wire`."""
        return [self._own_led()]

    def _own_led(self) -> list[object]:
        hosting = self._node.hosting()
        return led_to_wire({} if hosting is None else hosting.led())

    # Orders

    def leave(self, caller: MeshConnection) -> Deferred[list[object]]:
        """``leave()``: the node leaves its groups and the ring for good. Answers once it has."""
        _must_be_local(caller)
        self._log.info("leaves for good, as an operator says")
        return self._node.leave_for_good().addCallback(lambda _: [])

    def recover(self, caller: MeshConnection) -> Deferred[list[object]]:
        """``recover()``: groups without a majority go on without those who are missing.

        :returns: how many partitions went on.
        """
        _must_be_local(caller)
        return Deferred.fromCoroutine(self._recover())

    async def _recover(self) -> list[object]:
        contacts = await self._walk.contacts()
        went_on = 0
        for contact in contacts:
            if contact.id == self._node.own_id():
                went_on += await self._force()
            else:
                try:
                    (count,) = await self._node.call(contact, "force")
                    went_on += count if type(count) is int else 0
                except ChordError as error:
                    address = str(Address(contact.host, contact.port))
                    self._log.warn("{address} could not recover: {error}", address=address, error=str(error))
        return [went_on]

    def force(self, caller: MeshConnection) -> Deferred[list[object]]:
        """``force()``: a member passes an operator's word on."""
        self._node.member(caller)
        return Deferred.fromCoroutine(self._force()).addCallback(lambda count: [count])

    async def _force(self) -> int:
        """The groups of this node that have no leader, and that it is the first to go on with.

        :returns: how many of them went on.
        """
        hosting = self._node.hosting()
        if hosting is None:
            return 0
        stuck, forced = hosting.stuck(), 0
        for _ in range(_TRIES):  # another candidate, or a state that is to be copied, may come between
            if not stuck:
                break
            hosting.force(stuck)
            await self._node.sleep(_ASKED_SECONDS)
            going_on = hosting.force_now(stuck)
            for partition in going_on:
                self._log.warn("partition {number} goes on without its lost members", number=partition)
            forced += len(going_on)
            stuck = [partition for partition in stuck if partition not in going_on]
        for partition in stuck:
            self._log.warn("partition {number} could not go on: try again", number=partition)
        return forced


def _must_be_local(caller: MeshConnection) -> None:
    try:
        is_local = ip_address(caller.remote_host).is_loopback
    except ValueError:
        is_local = False
    if not is_local:
        raise ChordError("orders are taken from this machine only")
