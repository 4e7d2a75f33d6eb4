"""The ring walked once: what every node says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from chordtx.chord.routing import Routing
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import Address
from chordtx.ring import SIZE, Contact, RingNode, usable_contacts
from chordtx.wire import encode_id

_NODES_MAX = 100_000
#: A walk that does not come round, as while nodes join, is begun again so often, after this long.
_WALKS_MAX = 10
_AGAIN_SECONDS = 0.2


class Node(Protocol):
    """What a walk needs of a node."""

    def call(self, contact: Contact, method: str, *arguments: object) -> Deferred[list[object]]:
        """Ask another node."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""


class RingWalk:
    """One node's walks. :param own_status: gives the node's own word."""

    def __init__(
        self, node: Node, ring: RingNode, routing: Routing, own_status: Callable[[], dict[str, object]]
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._own_status = own_status

    async def contacts(self) -> list[Contact]:
        """Every node of the ring, in the order of the walk.

        :raises NotJoined: when no member can be reached, or the ring changes all the time.
        """
        for attempt in range(_WALKS_MAX):
            first = (await self._routing.lookup(SIZE - 1)).chain[0]
            contacts = await self._routing.everyone(first, asks=attempt > 0)
            if contacts is not None:
                return contacts
            await self._node.sleep(_AGAIN_SECONDS)
        raise NotJoined("the ring changes faster than it can be walked")

    async def walk(self) -> list[dict[str, object]]:
        """Every node of the ring, in the order of the walk.

        Legacy peers stand before the node of ours that is their host. One that does not answer is passed
        over, by way of the node before it, and stands there with its error.

        :raises NotJoined: when no member can be reached.
        """
        nodes: list[dict[str, object]] = []
        ahead: Sequence[Contact] = (await self._routing.lookup(SIZE - 1)).chain
        answered: set[int] = set()
        silent: set[int] = set()
        while len(nodes) < _NODES_MAX:
            contact = next((contact for contact in ahead if contact.id not in silent), None)
            if contact is None or contact.id in answered:
                break  # once round
            try:
                status, ahead = await self._visit(contact)
            except ChordError as error:
                silent.add(contact.id)
                address = str(Address(contact.host, contact.port))
                nodes.append({"id": encode_id(contact.id), "address": address, "error": str(error)})
                continue
            answered.add(contact.id)
            nodes.extend(_legacy_peers_of(status))
            nodes.append(status)
        return nodes

    async def _visit(self, contact: Contact) -> tuple[dict[str, object], Sequence[Contact]]:
        if contact.id == self._ring.me.id:
            return self._own_status(), self._ring.successors
        status = await self._node.call(contact, "status")
        neighbours = await self._node.call(contact, "neighbours")
        if len(status) != 1 or not isinstance(status[0], dict):
            raise ProtocolError("a status is a map")
        if len(neighbours) != 2 or not isinstance(neighbours[1], list):
            raise ProtocolError("neighbours are [predecessor, successors]")
        return status[0], usable_contacts(neighbours[1])


def _legacy_peers_of(status: dict[str, object]) -> list[dict[str, object]]:
    """Taken out of a status, which is a peer's word and may hold anything."""
    told = status.pop("legacy_peers", [])
    return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
