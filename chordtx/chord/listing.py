"""Going through the whole ring: its keys page by page, and its nodes one by one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from chordtx.chord.replica import Replica
from chordtx.chord.routing import ID_BYTES, Routing, position_from_wire
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NoMajorityTimeout, NotJoined, ProtocolError
from chordtx.mesh import Address, MeshConnection
from chordtx.records import PIECE_BYTES
from chordtx.ring import SIZE, Contact, RingNode, usable_contacts
from chordtx.wire import encode_id

_PAGE_KEYS = 500
_PAUSE_SECONDS = 0.1
_NODES_MAX = 100_000


class _CatchingUp(ChordError):
    """An owner does not know all of its keys yet, and is finding out."""


class Listing:
    """One node's walks through the ring.

    A key is named by the owner of one of its positions, that of SHA-384: so each is named once, and a
    node needs to know no keys but those that it stores.

    :param knows_all: whether this node has every record that it ought to have.
    """

    def __init__(
        self,
        node: Any,
        ring: RingNode,
        routing: Routing,
        replica: Replica,
        settings: ChordSettings,
        wall_ms: Callable[[], int],
        knows_all: Callable[[], bool],
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._replica = replica
        self._settings = settings
        self._wall_ms = wall_ms
        self._knows_all = knows_all
        node._methods["keys"] = self._keys

    async def pages(self) -> AsyncGenerator[list[bytes], None]:
        """Every key, in pages, from the greatest position down.

        :raises NoMajority: when the owner of some part of the ring does not answer in time.
        """
        position: int | None = SIZE - 1
        while position is not None:
            position, page = await self._page(position)
            if page:
                yield page

    async def _page(self, position: int) -> tuple[int | None, list[bytes]]:
        clock, patience = self._node.reactor, self._settings.operation_timeout_seconds
        deadline = clock.seconds() + patience
        while True:
            try:
                return await self._page_once(position)
            except _CatchingUp:
                deadline = clock.seconds() + patience  # it answers, and will know
            except ChordError as error:
                if clock.seconds() > deadline:
                    raise NoMajorityTimeout(f"a part of the ring does not list its keys: {error}") from error
            await self._node.sleep(_PAUSE_SECONDS)

    async def _page_once(self, position: int) -> tuple[int | None, list[bytes]]:
        found = await self._routing.lookup(position)
        owner = found.chain[0]
        low = owner.id if owner.id <= position else 0
        reply = await self._ask(owner, position, low)
        if not reply[2]:
            raise _CatchingUp("the owner of this part of the ring has only just come to it")
        keys = [key for key in reply[1] if isinstance(key, bytes)]
        if reply[0] is not None:
            return position_from_wire(reply[0]), keys
        return (low - 1 if low > 0 else None), keys

    async def _ask(self, contact: Contact, position: int, low: int) -> list[Any]:
        arguments = [position.to_bytes(ID_BYTES, "big"), low.to_bytes(ID_BYTES, "big"), _PAGE_KEYS]
        if contact.id == self._ring.me.id:
            reply = self._keys(None, *arguments)
        else:
            try:
                reply = await self._node._call_contact(contact, "keys", *arguments)
            except ChordError as error:
                self._routing.call_failed(contact.id, error)
                raise
        if len(reply) != 3 or not isinstance(reply[1], list):
            raise ProtocolError("a page of keys is [next, keys, complete]")
        return reply

    def _keys(self, caller: MeshConnection | None, place: Any, low_place: Any, limit: Any) -> list[Any]:
        """``keys(position, low, limit)`` -> ``[next position or nil, keys, complete]``."""
        position, low = position_from_wire(place), position_from_wire(low_place)
        if type(limit) is not int or limit < 1:
            raise ProtocolError("a page has a limit")
        if not self._ring.is_member or not self._ring.owns(position):
            raise NotJoined("another node owns this position")
        page = self._replica.store.keys_down_from(position, low, min(limit, 5000))
        now_ms = self._wall_ms()
        keys: list[bytes] = []
        size_bytes = 0
        ends = len(page) < limit or page[-1][0] <= low
        next_place = None if ends else (page[-1][0] - 1).to_bytes(ID_BYTES, "big")
        for place_of_key, key in page:
            record = self._replica.store.get(key)
            if record is not None and record.alive(now_ms):
                size_bytes += len(key)
                if keys and size_bytes > PIECE_BYTES:
                    next_place = place_of_key.to_bytes(ID_BYTES, "big")
                    break
                keys.append(key)
        return [next_place, keys, self._knows_all()]

    async def walk(self) -> list[dict[str, Any]]:
        """Every node of the ring, in the order of the walk, by each one's own word.

        Old peers stand before the node of ours that is their host. One that does not answer is passed over,
        by way of the node before it, and stands there with its error.

        :raises NotJoined: when no member can be reached.
        """
        nodes: list[dict[str, Any]] = []
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
            nodes.extend(_old_peers_of(status))
            nodes.append(status)
        return nodes

    async def _visit(self, contact: Contact) -> tuple[dict[str, Any], Sequence[Contact]]:
        if contact.id == self._ring.me.id:
            return self._node._status_summary(), self._ring.successors
        status = await self._node._call_contact(contact, "status")
        neighbours = await self._node._call_contact(contact, "neighbours")
        if len(status) != 1 or not isinstance(status[0], dict):
            raise ProtocolError("a status is a map")
        if len(neighbours) != 2 or not isinstance(neighbours[1], list):
            raise ProtocolError("neighbours are [predecessor, successors]")
        return status[0], usable_contacts(neighbours[1])


def _old_peers_of(status: dict[str, Any]) -> list[dict[str, Any]]:
    """Taken out of a status, which is a peer's word and may hold anything."""
    told = status.pop("old_peers", [])
    return [each for each in told if isinstance(each, dict)] if isinstance(told, list) else []
