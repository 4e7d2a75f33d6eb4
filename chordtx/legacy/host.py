"""A host's part: answering for its positions, and knowing what legacy peers have there.

The *host* of a position is the node of ours that would own it if there were no legacy peers. Leaders tell it
which keys lie there. Each message of a legacy peer about a position comes to it.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import ChordError, NotJoined, ProtocolError
from chordtx.group.rank import Rank
from chordtx.legacy.counting import CHANGED, FOUND, IN_STEP, STORED, Opinion, base_from_wire
from chordtx.legacy.entries import Entries, Entry, Pointers
from chordtx.legacy.hosts import Hosts
from chordtx.legacy.presence import Presence
from chordtx.legacy.records import Records
from chordtx.legacy.table_sync import TableSync
from chordtx.legacy.tables import NAMING_TABLE, Place, Tables, places_of
from chordtx.mesh import CallTimeout, MeshConnection, PeerLost
from chordtx.ring import SIZE, Contact, distance, in_arc

_BATCH = 100
_BATCH_PAUSE_SECONDS = 0.02
_TOLD_SECONDS_MAX = 8.0
_TOLD_CHECK_SECONDS = 0.1
#: How long after a node of ours came or went py2p may send old copies of what it once had.
_DOUBTFUL_SECONDS = 3.0
_GONE = object()


class Node(Protocol):
    """What its part as a host needs of a node."""

    def own_id(self) -> int:
        """Its id."""

    def owns(self, position: int) -> bool:
        """Whether a position is in its arc."""

    def owner(self, position: int) -> Contact | None:
        """The node of ours that owns a position, if that is known."""

    def own_arc_start(self) -> bytes | None:
        """Where its arc starts, 48 bytes; None while that is not known."""

    def partitions(self) -> int:
        """How many partitions the ring has."""

    def seconds(self) -> float:
        """A clock that only runs forward."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine until it ends or the node stops."""


class Host:
    """What one node does for the positions of which it is the host.

    :param key_bytes_max: length of one key. :ivar entries: what legacy peers have stored there.
    """

    def __init__(
        self,
        node: Node,
        hosts: Hosts,
        presence: Presence,
        tables: Tables,
        table_sync: TableSync,
        records: Records,
        entries: Entries,
        key_bytes_max: int,
    ) -> None:
        self._node = node
        self._hosts = hosts
        self._presence = presence
        self._tables = tables
        self._table_sync = table_sync
        self._records = records
        self._key_bytes_max = key_bytes_max
        self._pointers = Pointers()
        self._told: dict[int, int] = {}  # partition -> length of the arc for which all keys were told
        self._ours_changed_at = -inf
        self._ceased_at: dict[bytes, float] = {}  # legacy peer -> when it ceased to store, if lately
        self._basing: set[Place] = set()  # where it is being found out which record was there
        self.entries = entries

    # Who owns what

    def owners_at(self, place: Place, but: bytes | None = None) -> list[MeshConnection]:
        """The legacy peers that take a place of which we are the host for theirs, the nearest first.

        Each one that is nearer than we are does: py2p and js2p nodes know nothing of each other, so to each
        the next nearer one that it sees is a node of ours.

        :param but: id (48 bytes) of one that is left out, because the question is its own.
        """
        ours = distance(place.position, self._node.own_id())
        ahead = [(distance(place.position, link.id_10), link) for link in self._storing()]
        nearer = sorted((entry for entry in ahead if entry[0] < ours), key=lambda entry: entry[0])
        return [link for _, link in nearer if id_bytes(link) != but]

    def _storing(self) -> list[MeshConnection]:
        return [link for link in self._presence.links if not link.leeching and not link.closed]

    def is_taken_whole(self, key: bytes) -> bool:
        """Whether some legacy peer takes all of a key's places for its own.

        Then nothing tells us when it overwrites the key: it does that in its own tables, without a word.
        """
        storing = self._storing()
        if not storing:
            return False
        ahead = []
        for place in places_of(key):
            host = self._node.owner(place.position)
            if host is not None:
                ahead.append((place.position, distance(place.position, host.id)))
        return any(all(distance(at, link.id_10) < ours for at, ours in ahead) for link in storing)

    def must_host(self, place: Place) -> None:
        """:raises NotJoined: when another node is the host of a place."""
        if not self._node.owns(place.position):
            raise NotJoined("another node owns this position")

    # What leaders tell

    async def keys_told(self, wire: Any, keys: Any, partitions: Any) -> list[Any]:
        """``legacy_keys(start, keys, partitions)``: these keys have records, and a position in our arc, which
        starts there; of these partitions all such keys have been told."""
        start = _number(wire)
        if not isinstance(keys, list) or not isinstance(partitions, list):
            raise ProtocolError("keys and partitions are lists")
        for key in keys:
            self._point(self._as_key(key), start, is_changed=False)
        count = self._node.partitions()
        for partition in partitions:
            if type(partition) is not int or not 0 <= partition < count:
                raise ProtocolError("there is no such partition")
            self._told[partition] = distance(start, self._node.own_id()) or SIZE
        return []

    async def keys_changed(self, wire: Any, keys: Any) -> list[Any]:
        """``legacy_changed(start, [[key, is gone], ...])``: the records of these keys have changed."""
        start = _number(wire)
        for told in keys if isinstance(keys, list) else ():
            if not isinstance(told, list) or len(told) != 2:
                raise ProtocolError("[key, whether it is gone] is told")
            self._point(self._as_key(told[0]), start, is_changed=True, is_gone=bool(told[1]))
        return []

    def _point(self, key: bytes, start: int, *, is_changed: bool, is_gone: bool = False) -> None:
        """:param start: where our arc starts, as the leader sees it, who may know before we do."""
        me = self._node.own_id()
        places = [place for place in places_of(key) if in_arc(place.position, start, me)]
        if is_gone:
            self._pointers.remove(places, key)
        else:
            self._pointers.add(places, key)
        for place in places:
            for link in self.owners_at(place):
                if is_changed or not self._table_sync.has(link, place):
                    self._table_sync.keep(link, place, key)
            self._base_later(place, key)

    def _has_been_told(self) -> bool:
        """Whether leaders have told of all keys at our positions."""
        wire = self._node.own_arc_start()
        if wire is None:
            return False
        length = distance(_number(wire), self._node.own_id()) or SIZE
        return all(self._told.get(each, 0) >= length for each in range(self._node.partitions()))

    async def _wait_until_told(self) -> None:
        """:raises ChordError: when it takes too long: no answer is better than a wrong one."""
        waited_seconds = 0.0
        while not self._has_been_told():
            if waited_seconds > _TOLD_SECONDS_MAX:
                raise ChordError("leaders have not told yet which keys lie here")
            await self._node.sleep(_TOLD_CHECK_SECONDS)
            waited_seconds += _TOLD_CHECK_SECONDS

    def _as_key(self, key: Any) -> bytes:
        if not isinstance(key, bytes) or len(key) > self._key_bytes_max:
            raise ProtocolError("a key is bytes, and not too long")
        return key

    def ours_changed(self) -> None:
        """A node of ours came, went, or began or ceased to store: now py2p sends again what it once had."""
        self._ours_changed_at = self._node.seconds()

    def ceased(self, link: MeshConnection) -> None:
        """A legacy peer has ceased to store: now it sends on all that it had."""
        now = self._node.seconds()
        lately = {id: at for id, at in self._ceased_at.items() if at > now - _DOUBTFUL_SECONDS}
        self._ceased_at = {**lately, id_bytes(link): now}

    def arc_changed(self) -> None:
        """What is known of positions that are others' now will be wrong when they are ours again."""
        owns, me = self._node.owns, self._node.own_id()
        self.entries.keep_only(owns)
        self._table_sync.keep_only(owns)
        # Leaders may know before we do that our arc has grown: what they told of it stays.
        reach = max(self._told.values(), default=0)
        self._pointers.keep_only(lambda position: owns(position) or distance(position, me) < reach)

    def forget_pointers(self) -> None:
        """There are no legacy peers any more, or not yet."""
        self._pointers.clear()
        self._told.clear()

    async def hand_entries(self, link: MeshConnection) -> None:
        """Give a legacy peer what is nearer to it than to us and what it does not have yet.

        Due when it has begun to store, and when the positions of which we are the host are others. What
        leaders tell later goes to it then.
        """
        for count, (place, key) in enumerate(self._pointers.all(), start=1):
            if link.closed or link.leeching:
                return
            owned = self._node.owns(place.position) and link in self.owners_at(place)
            if owned and not self._table_sync.has(link, place):
                self._table_sync.keep(link, place, key)
            if count % _BATCH == 0:
                await self._node.sleep(_BATCH_PAUSE_SECONDS)

    # What legacy peers say

    def hint(self, key: bytes) -> None:
        """Tell whoever counts for the key that a legacy peer may have written it."""
        self._node.background(self._hint(key))

    async def _hint(self, key: bytes) -> None:
        with suppress(ChordError):  # else its store comes to nothing: legacy peers promise no more
            await self._hosts.ask(places_of(key)[NAMING_TABLE].position, "legacy_hint", key)

    def name(self, key: bytes) -> bool:
        """A legacy peer has named a key. :returns: whether an entry stands at any of its places."""
        self._pointers.name(key)
        return any(self.entries.get(place) is not None for place in places_of(key))

    async def store(self, wire: Any, is_delta: Any, blob: Any, origin: Any) -> list[Any]:
        """``legacy_store(place, is delta, value, origin)``: a legacy peer's store or delta."""
        place = Place.from_wire(wire)
        self.must_host(place)
        value = self._records.unpack(blob)
        if is_delta and not isinstance(value, dict):
            raise ProtocolError("a delta is a map")
        for owner in self.owners_at(place, but=origin):
            if is_delta:
                self._tables.pass_on(owner, place, value)
            else:
                self._node.background(self._table_sync.pass_on(owner, place, value))
        is_value = not is_delta and value is not None  # what is sent again is a value
        may_replace = self._may_replace(place, origin) if is_value else None
        self.entries.add(place, value, bool(is_delta), self._records.size_bytes(blob), may_replace)
        key = self._pointers.key_at(place)
        if key is not None:
            self._base_later(place, key)
        return []

    def _may_replace(self, place: Place, origin: Any) -> tuple[Rank | None, ...] | None:
        """The ranks of records that a value may replace; None when it is no old copy."""
        doubtful_since = self._node.seconds() - _DOUBTFUL_SECONDS
        if self._ours_changed_at > doubtful_since:
            return ()
        if not isinstance(origin, bytes) or self._ceased_at.get(origin, -inf) <= doubtful_since:
            return None
        # It hands on what it had. Where that is not what was put there, it was changed after that record.
        links = [link for link in self._presence.links if id_bytes(link) == origin]
        return tuple(
            self._table_sync.rank_at(link, place) for link in links if self._table_sync.has(link, place)
        )

    def _base_later(self, place: Place, key: bytes) -> None:
        entry = self.entries.get(place)
        if entry is not None and not entry.is_based and place not in self._basing:
            self._basing.add(place)
            self._node.background(self._base_and_hint(place, key))

    async def _base_and_hint(self, place: Place, key: bytes) -> None:
        try:
            with suppress(ChordError):  # whoever counts asks again
                if await self._base(place, key) is not None:
                    self.hint(key)
        finally:
            self._basing.discard(place)

    async def _base(self, place: Place, key: bytes) -> Entry | None:
        """Find out which record is there when an entry comes.

        :returns: the entry, unless it says nothing new.
        """
        entry = self.entries.get(place)
        while entry is not None and not entry.is_based:
            seen = await self._records.read(key)
            now = self.entries.get(place)
            if now is entry:
                if entry.is_past(seen.rank) or entry.is_copy_of(seen.value):  # known here, or written by now
                    self.entries.take(place)
                    return None
                self.entries.put_base(place, seen.rank)
                return self.entries.get(place)
            entry = now
        return entry

    async def retrieve(self, wire: Any, origin: Any) -> list[Any]:
        """``legacy_retrieve(place, origin)`` -> ``[value or nil]``: what a legacy peer is to be answered."""
        place = Place.from_wire(wire)
        self.must_host(place)
        if self.entries.get(place) is None and self._pointers.key_at(place) is None:
            await self._wait_until_told()
        entry, key, present = self.entries.get(place), self._pointers.key_at(place), None
        if key is not None and (entry is None or entry.is_delta):
            if self.is_taken_whole(key):
                await self._hosts.ask(places_of(key)[NAMING_TABLE].position, "legacy_refresh", key)
            present = (await self._records.read(key)).value
        if entry is not None:
            present = entry.over(present)
        elif key is None:
            for owner in self.owners_at(place, but=origin):
                if present is None and (answer := await self._answer_of(owner, place)) is not _GONE:
                    present = answer
        return [None if present is None else self._records.pack(present)]

    async def _answer_of(self, owner: MeshConnection, place: Place) -> Any:
        """What a legacy peer has at a place; :data:`_GONE` when it has ceased to store, or is silent.

        It says first that it ceases, and empties its tables then: that nothing is there is no deletion.
        """
        try:
            value = await self._tables.get(owner, place)
        except (CallTimeout, PeerLost):
            return _GONE
        return _GONE if owner.leeching or owner.closed else value

    # What whoever counts asks

    async def opinion(self, key: Any, wire: Any) -> list[Any]:
        """``legacy_opinion(key, place)`` -> ``[`` :class:`Opinion` ``, ...]``.

        What legacy peers say at one of the key's positions; none where they have no say.
        """
        place, key = Place.from_wire(wire), self._as_key(key)
        self.must_host(place)
        self._pointers.name(key)
        opinions = []
        entry = await self._base(place, key)
        if entry is not None:
            opinions.append(Opinion(STORED, entry.is_delta, entry.value, entry.base, entry.number))
        for owner in self.owners_at(place):
            opinion = await self._opinion_of(owner, place)
            if opinion is not None:
                opinions.append(opinion)
        return [opinion.to_wire(self._records.pack) for opinion in opinions]

    async def _opinion_of(self, owner: MeshConnection, place: Place) -> Opinion | None:
        base = self._table_sync.rank_at(owner, place) if (has := self._table_sync.has(owner, place)) else None
        was_told = self._tables.was_told(owner, place)
        value = await self._answer_of(owner, place)
        if value is _GONE:
            return None
        if not was_told:
            return Opinion(FOUND, False, value, None, 0)
        is_changed = has and self._tables.was_changed(owner, place, value)
        return Opinion(CHANGED if is_changed else IN_STEP, False, value, base, 0)

    async def settled(self, key: Any, wire: Any, number: Any, was_written: Any, before: Any) -> list[Any]:
        """``legacy_settled(key, place, number, was written, before)``: the record holds from now on.

        An entry that says the same is past, and one of this number too, if nothing came of it. One that came
        while the record ``before`` was there came after what was written in its place.
        """
        place, key, base = Place.from_wire(wire), self._as_key(key), base_from_wire(before)
        self.must_host(place)
        seen = await self._records.read(key)
        entry = self.entries.get(place)
        if entry is not None and entry.is_based:
            if entry.is_copy_of(seen.value) or (entry.number == number and not was_written):
                self.entries.take(place)
            elif was_written and entry.base == base:
                self.entries.put_base(place, seen.rank)
                self.hint(key)
        for owner in self.owners_at(place) if seen.rank is not None else ():
            if not self._table_sync.has(owner, place) and not self._table_sync.is_at_it(owner, place):
                self._table_sync.keep(owner, place, key)
        return []


def id_bytes(link: MeshConnection) -> bytes:
    """A peer's id, 48 bytes."""
    return link.id_10.to_bytes(48, "big")


def _number(wire: Any) -> int:
    if not isinstance(wire, bytes) or len(wire) != 48:
        raise ProtocolError("a position is 48 bytes")
    return int.from_bytes(wire, "big")
