"""A host's part: keeping the tables of old peers in step, and answering for their positions.

The *host* of a position is the node of ours that would own it if there were no old peers. It is one of the
replicas of every key that has a position there, so it has the record, or gets each write of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred

from chordtx.chord.announcements import as_key
from chordtx.chord.coordinator import Coordinator
from chordtx.chord.old_adoption import Opinion, version_from_wire
from chordtx.chord.old_entries import Entries, Entry, PlaceIndex, places_of
from chordtx.chord.old_tables import OldTables, Place
from chordtx.config import ChordSettings
from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.mesh.waiting import within
from chordtx.records import HybridClock, Record, Version
from chordtx.ring import Contact, RingNode, distance
from chordtx.store import IStore
from chordtx.wire import pack_value, scan, unpack_value

_CONFIRM_SHARE = 0.75  # of the time-out of a call: who wrote is told before that
_BATCH = 100
_BATCH_PAUSE_SECONDS = 0.02
_GONE = object()


class OldHost:
    """What one node does for the positions of which it is the host.

    :param node: the service. :param tables: reads and writes old peers' tables.
    :param hint: told of each key that an old peer may have written.
    """

    def __init__(
        self,
        node: Any,
        ring: RingNode,
        store: IStore,
        coordinator: Coordinator,
        clock: HybridClock,
        settings: ChordSettings,
        tables: OldTables,
        hint: Callable[[bytes], None],
    ) -> None:
        self._node = node
        self._ring = ring
        self._store = store
        self._coordinator = coordinator
        self._clock = clock
        self._settings = settings
        self._limits = settings.mesh.limits
        self._tables = tables
        self._hint = hint
        self.entries = Entries(settings.positions_unnamed_max, settings.positions_unnamed_bytes_max)
        self._index = PlaceIndex()
        # The record whose value was put at each place of an old peer: what it changes there by itself shows.
        # (By weak links: a write may end after its link has.)
        self._put_for: WeakKeyDictionary[MeshConnection, dict[Place, Version]] = WeakKeyDictionary()

    # Who owns what

    def any_store(self) -> bool:
        """Whether an old peer that stores is connected."""
        for link in self._node.routing_table.values():  # noqa: SIM110 - every read and write asks
            if not link.ours and not link.leeching:
                return True
        return False

    def owners_at(self, place: Place, but: bytes | None = None) -> list[MeshConnection]:
        """The old peers that take a place of which we are the host for theirs, the nearest first.

        Each one that is nearer than we are does: py2p and js2p nodes know nothing of each other, so to each
        the next nearer one that it sees is a node of ours.

        :param but: id (48 bytes) of one that is left out, because the question is its own.
        """
        ours = distance(place.position, self._ring.me.id)
        ahead = [
            (distance(place.position, link.id_10), link)
            for link in self._node.routing_table.values()
            if not link.ours and not link.leeching and not link.closed
        ]
        nearer = sorted((entry for entry in ahead if entry[0] < ours), key=lambda entry: entry[0])
        return [link for _, link in nearer if id_bytes(link) != but]

    def silent_owner(self, places: list[Place], owner: Callable[[int], Contact | None]) -> bool:
        """Whether some old peer takes all of a key's places for its own.

        Then nothing tells us when it overwrites the key: it does that in its own tables, without a word.

        :param owner: position -> the node of ours that is its host, when that is known.
        """
        hosts = [(place.position, owner(place.position)) for place in places]
        if any(host is None for _, host in hosts):
            return True
        ahead = [(position, distance(position, host.id)) for position, host in hosts if host is not None]
        return any(
            all(distance(position, link.id_10) < ours for position, ours in ahead)
            for link in self._node.routing_table.values()
            if not link.ours and not link.leeching
        )

    def must_host(self, place: Place) -> None:
        """:raises NotJoined: when another node is the host of a place."""
        if not self._ring.owns(place.position):
            raise NotJoined("another node owns this position")

    async def hand_entries(self, link: MeshConnection) -> None:
        """Give an old peer what is nearer to it than to us and what it does not have yet.

        Due when it has begun to store, and when the positions of which we are the host are others.
        """
        if not self._index.is_built:
            self._index.build(self._store.keys())
        for count, key in enumerate(self._store.keys(), start=1):
            for place in places_of(key):
                if link.closed or link.leeching:
                    return
                if self._ring.owns(place.position) and link in self.owners_at(place):
                    await self._put_unless_there(link, place, key)
            if count % _BATCH == 0:
                await self._node.sleep(_BATCH_PAUSE_SECONDS)

    def forget(self, link: MeshConnection) -> None:
        """An old peer is gone."""
        self._put_for.pop(link, None)

    # Records come to stand

    def stored(self, key: bytes, record: Record) -> Deferred[None] | None:
        """A record was stored here: keep the old peers' entries in step.

        :returns: fires when those that own a position of which we are the host have it, or were given up;
            None when there are none.
        """
        if not self._index.is_built and not len(self.entries):
            return None
        self._index.add(key)
        puts = []
        for place in places_of(key):
            self.entries.settle(place, record.newest)
            for link in self.owners_at(place) if self._ring.owns(place.position) else ():
                puts.append(Deferred.fromCoroutine(self._put_current(link, place, key)))
        return None if not puts else Deferred.fromCoroutine(_all(puts))

    async def _put_current(self, link: MeshConnection, place: Place, key: bytes) -> None:
        work = Deferred.fromCoroutine(self._put_until_current(link, place, key))
        try:
            seconds = _CONFIRM_SHARE * self._settings.call_timeout_seconds
            await within(seconds, self._node.reactor, work, lambda: ChordError("it took too long"))
        except ChordError as error:
            text = "{link} has not confirmed an entry: {error}"
            self._node._limited_log.info(text, link=link, error=str(error))

    async def _put_unless_there(self, link: MeshConnection, place: Place, key: bytes) -> None:
        record = self._store.get(key)
        if record is not None and self._version_put(link, place) != record.newest:
            await self._put_current(link, place, key)

    async def _put_until_current(self, link: MeshConnection, place: Place, key: bytes) -> None:
        """Store what the record holds by then; again, when it has changed meanwhile."""
        while record := self._store.get(key):
            put_for = self._put_for.setdefault(link, {})
            put_for.pop(place, None)
            is_confirmed = await self._tables.put(link, place, self.value(record))
            now = self._store.get(key)
            if now is not None and now.newest == record.newest:
                put_for[place] = record.newest
                if not is_confirmed:
                    raise ChordError("it does not answer")
                return

    def _version_put(self, link: MeshConnection, place: Place) -> Version | None:
        return self._put_for.get(link, {}).get(place)

    async def _put_quietly(self, link: MeshConnection, place: Place, value: Any) -> None:
        try:
            await self._tables.put(link, place, value)
        except ChordError as error:
            text = "{link} has not confirmed an entry: {error}"
            self._node._limited_log.info(text, link=link, error=str(error))

    def value(self, record: Record) -> Any:
        """A record's value, None when it has none."""
        packed = record.packed_value(self._node._wall_ms())
        return None if packed is None else self._node._unpacked(packed)

    # What is asked of a host

    async def store(self, wire: Any, is_delta: Any, blob: Any, origin: Any) -> list[Any]:
        """``old_store(place, is delta, value, origin)``: an old peer's store or delta."""
        place = Place.from_wire(wire)
        self.must_host(place)
        value = unpack_value(blob, self._limits)
        if is_delta and not isinstance(value, dict):
            raise ProtocolError("a delta is a map")
        for owner in self.owners_at(place, but=origin):
            self._pass_on(owner, place, bool(is_delta), value)
        key = self._key_at(place)
        if key is not None and self._is_copy(key, bool(is_delta), value) and self.entries.get(place) is None:
            return []  # handed over, and known here already
        stamp = self._clock.tick(self._node._wall_ms())
        self.entries.add(place, Entry(value, bool(is_delta), stamp, scan(blob, self._limits)))
        if key is not None:
            self._hint(key)
        return []

    def _pass_on(self, link: MeshConnection, place: Place, is_delta: bool, value: Any) -> None:
        if is_delta:
            self._tables.pass_on(link, place, value)
        else:
            self._node._background(self._put_quietly(link, place, value))

    def _is_copy(self, key: bytes, is_delta: bool, value: Any) -> bool:
        record = self._store.get(key)
        present = None if record is None else self.value(record)
        if is_delta:
            return isinstance(present, dict) and present == {**present, **value}
        return record is not None and bool(present == value)

    def _key_at(self, place: Place) -> bytes | None:
        return self._index.key_at(place) or self.entries.key_at(place)

    async def retrieve(self, wire: Any, origin: Any) -> list[Any]:
        """``old_retrieve(place, origin)`` -> ``[value or nil]``: what an old peer is to be answered."""
        place = Place.from_wire(wire)
        self.must_host(place)
        entry = self.entries.get(place)
        key = self._key_at(place)
        present = None
        if key is not None and (entry is None or entry.is_delta):
            record = await self._coordinator.read(key)
            present = None if record is None else self.value(record)
        if entry is not None:
            present = entry.over(present)
        elif key is None:
            for owner in self.owners_at(place, but=origin):
                if present is None and (answer := await self._answer_of(owner, place)) is not _GONE:
                    present = answer
        return [None if present is None else self.pack(present)]

    def pack(self, value: Any) -> bytes:
        """A value as records hold it."""
        return pack_value(value, self._settings.value_bytes_max, self._limits)

    async def opinion(self, key: Any, wire: Any) -> list[Any]:
        """``old_opinion(key, place)`` -> ``[`` :class:`Opinion` ``, ...]``: what old peers say at one of the
        key's positions; none where they have no say."""
        place = Place.from_wire(wire)
        self.must_host(place)
        self.entries.name(as_key(key))
        opinions = []
        entry = self.entries.get(place)
        if entry is not None:
            opinions.append(Opinion(entry.is_delta, entry.value, entry.stamp))
        for owner in self.owners_at(place):
            confirmed = self._version_put(owner, place)
            value = await self._answer_of(owner, place)
            if value is _GONE:
                continue
            if not self._tables.was_changed(owner, place, value):
                confirmed = None
            opinions.append(Opinion(False, value, None, confirmed))
        return [opinion.to_wire(self.pack) for opinion in opinions]

    async def _answer_of(self, owner: MeshConnection, place: Place) -> Any:
        """What an old peer has at a place; :data:`_GONE` when it has ceased to store meanwhile.

        It says so first and empties its tables then, and that nothing is there is no deletion.
        """
        value = await self._tables.get(owner, place)
        return _GONE if owner.leeching or owner.closed else value

    async def settled(self, key: Any, wire: Any, until: Any) -> list[Any]:
        """``old_settled(key, place, until)``: the record holds from now on. An entry from before that did not
        become a write is dropped, and the old peer that owns the place gets the record's value."""
        place, key, version = Place.from_wire(wire), as_key(key), version_from_wire(until)
        self.must_host(place)
        if version is not None:
            self.entries.settle(place, version)
        for owner in self.owners_at(place) if self._store.get(key) is not None else ():
            await self._put_unless_there(owner, place, key)
        return []


def id_bytes(link: MeshConnection) -> bytes:
    """A peer's id, 48 bytes."""
    return link.id_10.to_bytes(48, "big")


async def _all(works: list[Deferred[None]]) -> None:
    for work in works:
        await work
