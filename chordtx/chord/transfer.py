"""Moving records to where they belong: catching up after a join, handing over before a leave, and after
every change of the ring seeing that each record's replicas have it.

All of it exchanges versions first, and then only what is missing: so it may run at any time, twice, and
from several nodes at once; merging by version makes the outcome the same. One batch is under way at a
time, so users' calls go in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from chordtx.chord.replica import Replica
from chordtx.chord.routing import ID_BYTES, Routing, position_from_wire
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.records import Record, Unknown, Version
from chordtx.ring import SIZE, Contact, RingNode, distance, in_arc

_SETTLE_SECONDS = 1.0
_SWEEPING_SHARE_MAX = 0.1
_PLACE_SECONDS = 0.05
_NOBODY_KNOWS_SECONDS = 5.0
_BATCH_PAUSE_SECONDS = 0.005
_TAKE_BYTES = 1 << 20
_OFFERED_TO = 2

Entry = tuple[bytes, Record]


class Transfer:
    """One node's share in keeping every record where it belongs.

    :param node: the service: ``reactor``, ``background``, ``call_contact``, ``sleep``.
    """

    _log = Logger()

    def __init__(
        self, node: Any, ring: RingNode, routing: Routing, replica: Replica, settings: ChordSettings
    ) -> None:
        self._node = node
        self._ring = ring
        self._routing = routing
        self._replica = replica
        self._settings = settings
        self._stopped = False
        self._changed = False
        self._swept_epoch = -1
        self._swept_at = 0.0
        self._rest_until = 0.0
        self._settled_start: int | None = None
        self._settling = False
        node.methods.update(
            belongings=self._belongings, fetch=self._fetch, offer=self._offer, take=self._take
        )

    # What is known for certain

    def begin_ring(self) -> None:
        """There is nobody else: what we have is all there is."""
        self._replica.caught_up = True
        self._settled_start = self._ring.me.id

    def knows_all_from(self, position: int) -> bool:
        """Whether every record from ``position``, which we own, to our id is here.

        Not so while we catch up after our join; nor, for the part that was another's, after that one's end:
        its records are with others, who know that they belong to us and hand them over.
        """
        start, me = self._settled_start, self._ring.me.id
        return self._replica.caught_up and start is not None and in_arc(position, start, me)

    def _arc_changed(self) -> None:
        if not self._replica.caught_up:
            return
        if self._arc_is_settled():
            self._settled_start = self._arc_start()
        elif not self._settling:
            self._settling = True
            self._node.background(self._settle())

    def _arc_start(self) -> int | None:
        if self._ring.predecessor is not None:
            return self._ring.predecessor.id
        return self._ring.me.id if self._ring.complete and not self._ring.successors else None

    def _arc_is_settled(self) -> bool:
        """Whether our arc is within the one of which we know all."""
        start, settled, me = self._arc_start(), self._settled_start, self._ring.me.id
        if start is None or settled is None:
            return False
        return (distance(start, me) or SIZE) <= (distance(settled, me) or SIZE)

    async def _settle(self) -> None:
        """Our arc has grown: ask everyone for what of it they have. A key's replicas may be anywhere."""
        while not self._stopped and not self._arc_is_settled():
            start = self._arc_start()
            if start is not None and await self._catch_up_from_everyone():
                self._settled_start = start
            else:
                await self._node.sleep(_PLACE_SECONDS)
        if not self._stopped:
            self._settled_start = self._arc_start()
        self._settling = False

    async def _catch_up_from_everyone(self) -> bool:
        try:
            others = (await self._routing.everyone(self._ring.me))[1:]
        except ChordError:
            return False
        outcomes = [await self._catch_up_from(contact) for contact in others]
        return None not in outcomes

    # Catching up after a join

    async def catch_up(self) -> None:
        """Get what belongs to us from those who have it, and vote from then on.

        Begins once we have our place: from then on the one that owned our arc before says with each answer
        that it owns less now, so that no writer takes its word for something that we then miss.

        Every neighbour on the list is asked: the owner before us is among them, and so is everyone that
        passes records on to us because it has them already. One of those after us must have caught up
        itself. Where none has, for all that had are gone, waiting longer would not help.
        """
        replica = self._replica
        patience = self._node.reactor.seconds() + _NOBODY_KNOWS_SECONDS
        while not replica.caught_up:
            start = self._arc_start()
            if self._has_its_place and await self._catch_up_from_all():
                self._settled_start = start
                replica.caught_up = True
            elif self._node.reactor.seconds() > patience:
                self._log.warn("no neighbour has caught up: going on with what there is")
                self._settled_start = start
                replica.caught_up = True
            else:
                await self._node.sleep(_PLACE_SECONDS)
        self._arc_changed()
        self._log.info("caught up: {count} records", count=len(replica.store))

    @property
    def _has_its_place(self) -> bool:
        return self._ring.predecessor is not None or not self._ring.successors

    async def _catch_up_from_all(self) -> bool:
        """Ask every neighbour, those too that become it meanwhile.

        :returns: whether each gave what it has, and one after us has caught up.
        """
        asked: dict[int, bool | None] = {}
        while source := next((c for c in self._neighbours() if c.id not in asked), None):
            asked[source.id] = await self._catch_up_from(source)
        after_us = [asked.get(contact.id) for contact in self._ring.successors]
        return None not in after_us and True in after_us

    def _neighbours(self) -> list[Contact]:
        listed = {contact.id: contact for contact in self._ring.successors}
        if self._ring.predecessor is not None:
            listed[self._ring.predecessor.id] = self._ring.predecessor
        return list(listed.values())

    async def _catch_up_from(self, source: Contact) -> bool | None:
        """Get from one neighbour what it has of ours.

        :returns: whether it had caught up itself; None when it did not answer to the end.
        """
        position: int | None = SIZE - 1
        has_all = False
        try:
            while position is not None:
                position, has_all = await self._catch_up_batch(source, position)
        except (ChordError, OSError) as error:
            self._log.info("could not catch up from {port}: {error}", port=source.port, error=str(error))
            return None
        return has_all

    async def _catch_up_batch(self, source: Contact, position: int) -> tuple[int | None, bool]:
        place = position.to_bytes(ID_BYTES, "big")
        before = self._ring.predecessor
        arc_start = None if before is None else before.id.to_bytes(ID_BYTES, "big")
        limit = self._settings.hand_over_batch
        reply = await self._node.call_contact(source, "belongings", place, limit, arc_start)
        if len(reply) != 3 or not isinstance(reply[1], list):
            raise ProtocolError("belongings are [next, [[key, clock, writer], ...], caught up]")
        wanted = [key for key, version in map(_offered, reply[1]) if self._lacks(key, version)]
        while wanted:
            taken = self._keep(await self._node.call_contact(source, "fetch", wanted))
            if not taken:
                break
            wanted = [key for key in wanted if key not in taken]
        next_position = None if reply[0] is None else position_from_wire(reply[0])
        return next_position, bool(reply[2])

    def _belongings(
        self, caller: MeshConnection, place: Any, limit: Any, arc_start: Any
    ) -> Deferred[list[Any]]:
        """``belongings(position, limit, arc start or nil)``: what we have, down from a position, and the
        caller, whose arc that is, ought to have too ->
        ``[next position or nil, [[key, clock, writer], ...], caught up]``."""
        if type(limit) is not int or limit < 1:
            raise ProtocolError("belongings takes a position and a limit")
        if arc_start is not None:
            self._routing.arc_told(caller, position_from_wire(arc_start))
        return Deferred.fromCoroutine(
            self._belongings_of(caller, position_from_wire(place), min(limit, 5000))
        )

    async def _belongings_of(self, caller: MeshConnection, position: int, limit: int) -> list[Any]:
        page = self._replica.store.keys_down_from(position, 0, limit)
        found: list[list[Any]] = []
        for _, key in page:
            record = self._replica.store.get(key)
            if record is not None and await self._belongs_to(key, caller.id_10):
                found.append([key, *record.newest])
        ends = len(page) < limit or page[-1][0] == 0
        next_place = None if ends else (page[-1][0] - 1).to_bytes(ID_BYTES, "big")
        return [next_place, found, self._replica.caught_up]

    async def _belongs_to(self, key: bytes, id: int) -> bool:
        try:
            members = self._routing.known_replica_set(key)
            if isinstance(members, Unknown):
                members = await self._routing.replica_set(key)
        except NotJoined:
            return True
        return any(contact.id == id for contact in members)

    def _fetch(self, caller: MeshConnection, keys: Any) -> list[Any]:
        """``fetch(keys)`` -> ``[[key, record], ...]``: as many as fit into an answer, at least one."""
        if not isinstance(keys, list):
            raise ProtocolError("fetch takes a list of keys")
        found: list[Any] = []
        size = 0
        for key in keys:
            record = self._replica.store.get(key) if isinstance(key, bytes) else None
            if record is not None:
                found.append([key, record.to_wire()])
                size += record.cost_bytes
                if size > _TAKE_BYTES:
                    break
        return found

    def _keep(self, entries: Sequence[Any]) -> set[bytes]:
        kept: set[bytes] = set()
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], bytes):
                raise ProtocolError("records come as [key, record]")
            self._replica.write(None, entry[0], entry[1])
            kept.add(entry[0])
        return kept

    def _lacks(self, key: bytes, version: Version) -> bool:
        record = self._replica.store.get(key)
        return record is None or record.newest < version

    # After changes, and before leaving

    def ring_changed(self) -> None:
        """Our neighbours changed: once that has settled, see that everything is where it belongs."""
        self._changed = True
        self._arc_changed()

    async def keep_in_place(self) -> None:
        """Sweep whenever the ring has changed, near us or elsewhere, and now and then in any case.

        Users go first: sweeping takes no more than a share of the time.
        """
        clock = self._node.reactor
        self._swept_at = clock.seconds()
        while not self._stopped:
            await self._node.sleep(_SETTLE_SECONDS)
            if self._is_due(clock.seconds()):
                self._changed = False
                self._swept_epoch = self._routing.arcs.epoch
                self._swept_at = begun = clock.seconds()
                self._changed = not await self.sweep() or self._changed
                self._rest_until = clock.seconds() + (clock.seconds() - begun) * (1 / _SWEEPING_SHARE_MAX - 1)

    def stop(self) -> None:
        """No more sweeps but the one before a leave."""
        self._stopped = True

    def _is_due(self, now: float) -> bool:
        changed = self._changed or self._swept_epoch != self._routing.arcs.epoch
        return now >= self._rest_until and (
            changed or now - self._swept_at >= self._settings.repair_interval_seconds
        )

    async def sweep(self, leaving: bool = False) -> bool:
        """Offer what we have to those who ought to have it; drop what is no longer ours once they do.

        :param leaving: reckon without ourselves.
        :returns: False when somebody could not be reached, so that it is to be done again.
        """
        reached_all = True
        batch: list[bytes] = []
        for key in self._replica.store.keys():
            batch.append(key)
            if len(batch) >= self._settings.hand_over_batch:
                reached_all = await self._sweep_batch(batch, leaving) and reached_all
                batch = []
                if not leaving:
                    await self._node.sleep(_BATCH_PAUSE_SECONDS)
        if batch:
            reached_all = await self._sweep_batch(batch, leaving) and reached_all
        return reached_all

    async def _sweep_batch(self, keys: list[bytes], leaving: bool) -> bool:
        offers: dict[Contact, list[Entry]] = {}
        strays: dict[bytes, Record] = {}
        reached_all = True
        for key in keys:
            record = self._replica.store.get(key)
            if record is None:
                continue
            try:
                members = await self._members(key, leaving)
            except ChordError:
                reached_all = False
                continue
            ours = any(contact.id == self._ring.me.id for contact in members)
            for contact in self._offered_to(members) if ours else members:
                offers.setdefault(contact, []).append((key, record))
            if not ours and members:
                strays[key] = record
        told = [
            Deferred.fromCoroutine(self._offer_to(contact, entries)) for contact, entries in offers.items()
        ]
        outcomes = await DeferredList(told, consumeErrors=True)
        reached_all = reached_all and all(succeeded for succeeded, _ in outcomes)
        if reached_all and not leaving:
            self._drop(strays)
        return reached_all

    async def _members(self, key: bytes, leaving: bool) -> tuple[Contact, ...]:
        if not leaving:
            return await self._routing.replica_set(key)
        await self._routing.replica_set(key)
        members = self._routing.known_replica_set(key, without=self._ring.me.id)
        if isinstance(members, Unknown):
            raise NotJoined("the ring is not known well enough")
        return members

    def _offered_to(self, members: Sequence[Contact]) -> list[Contact]:
        """The next two after us in the set: so each is offered a record by two others."""
        place = next(index for index, contact in enumerate(members) if contact.id == self._ring.me.id)
        order = [*members[place + 1 :], *members[:place]]
        return order[:_OFFERED_TO]

    def _drop(self, strays: dict[bytes, Record]) -> None:
        """Forget what was passed on, unless it is newer by now, or the answers showed that it is ours."""
        for key, record in strays.items():
            members = self._routing.known_replica_set(key)
            ours = isinstance(members, Unknown) or self._ring.me in members
            if not ours and self._replica.store.get(key) == record:
                self._replica.store.drop(key)

    async def _offer_to(self, contact: Contact, entries: list[Entry]) -> None:
        offered = [[key, *record.newest] for key, record in entries]
        wanted = set(await self._node.call_contact(contact, "offer", offered))
        chunk: list[Any] = []
        size = 0
        for index, (key, record) in enumerate(entries):
            if index in wanted:
                chunk.append([key, record.to_wire()])
                size += record.cost_bytes
                if size > _TAKE_BYTES:
                    await self._node.call_contact(contact, "take", chunk)
                    chunk, size = [], 0
        if chunk:
            await self._node.call_contact(contact, "take", chunk)

    def _offer(self, caller: MeshConnection, offered: Any) -> list[Any]:
        """``offer([[key, clock, writer], ...])`` -> the indexes of those that we lack."""
        if not self._ring.is_member:
            raise NotJoined("this node stores nothing")
        if not isinstance(offered, list):
            raise ProtocolError("offer takes a list")
        return [index for index, entry in enumerate(map(_offered, offered)) if self._lacks(*entry)]

    def _take(self, caller: MeshConnection, entries: Any) -> list[Any]:
        """``take([[key, record], ...])``: what we said that we lack."""
        if not isinstance(entries, list):
            raise ProtocolError("take takes a list")
        self._keep(entries)
        return []


def _offered(entry: Any) -> tuple[bytes, Version]:
    if not isinstance(entry, list) or len(entry) != 3:
        raise ProtocolError("an offer is [key, clock, writer]")
    key, clock, writer = entry
    if not (isinstance(key, bytes) and type(clock) is int and isinstance(writer, bytes)):
        raise ProtocolError("an offer is [key, clock, writer]")
    return key, Version(clock, writer)
