"""What old peers stored, before it is known to be a write.

An old peer's ``store`` names a position, not the key, and reaches each of the five positions by itself;
the key comes with its ``notify``, if it is new. Until most of the positions tell the same, an entry stands
beside the record, and is answered by its position: so that the old peer reads what it wrote.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from chordtx.chord.old_tables import Place
from chordtx.records import Version
from chordtx.ring import table_positions

_NAMES_MAX = 50_000
_NAMES_BYTES_MAX = 8 << 20


@frozen
class Entry:
    """One old peer's store or delta at one place.

    :ivar value: what it stored, None for a deletion; for a delta, the fields that it wrote.
    :ivar is_delta: whether ``value`` is to be merged into what is there. :ivar stamp: when it came.
    :ivar size_bytes: about what it takes in memory.
    """

    value: Any
    is_delta: bool
    stamp: Version
    size_bytes: int

    def over(self, present: Any) -> Any:
        """The value at the place: this, or this merged into ``present``."""
        if not self.is_delta:
            return self.value
        return {**present, **self.value} if isinstance(present, dict) else self.value

    def after(self, earlier: Entry | None) -> Entry:
        """This entry with one that came before it at the same place."""
        if earlier is None or not self.is_delta:
            return self
        size_bytes = self.size_bytes + earlier.size_bytes
        return Entry(self.over(earlier.value), earlier.is_delta, self.stamp, size_bytes)


class Entries:
    """The entries at this node's positions, and what is known of whose positions they are.

    :param entries_max: entries kept; the oldest goes first. :param bytes_max: the same for what they take.
    """

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: dict[Place, Entry] = {}
        self._bytes = 0
        self._names: dict[Place, bytes] = {}
        self._names_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, place: Place, entry: Entry) -> None:
        """An old peer stored something here."""
        self._entries[place] = entry = entry.after(self._taken(place))
        self._bytes += entry.size_bytes
        while len(self._entries) > self._entries_max or self._bytes > self._bytes_max:
            self._taken(next(iter(self._entries)))

    def _taken(self, place: Place) -> Entry | None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._bytes -= entry.size_bytes
        return entry

    def get(self, place: Place) -> Entry | None:
        """The entry that stands at a place."""
        return self._entries.get(place)

    def settle(self, place: Place, version: Version) -> None:
        """A record of this version came to stand: older entries are past."""
        entry = self._entries.get(place)
        if entry is not None and entry.stamp.clock < version.clock:
            self._taken(place)

    def name(self, key: bytes) -> bool:
        """Learn which places are a key's.

        :returns: whether an entry stands at any of them.
        """
        found = False
        for place in places_of(key):
            self._forget_name(place)
            self._names[place] = key
            self._names_bytes += len(key)
            found = found or place in self._entries
        while len(self._names) > _NAMES_MAX or self._names_bytes > _NAMES_BYTES_MAX:
            self._forget_name(next(iter(self._names)))
        return found

    def _forget_name(self, place: Place) -> None:
        self._names_bytes -= len(self._names.pop(place, b""))

    def key_at(self, place: Place) -> bytes | None:
        """The key whose place this is, if somebody named it."""
        return self._names.get(place)


class PlaceIndex:
    """Which key lies where in old peers' tables, for the records of this node.

    Built when the first old peer comes, since it costs five entries for each record.
    """

    def __init__(self) -> None:
        self._keys: dict[Place, bytes] | None = None

    @property
    def is_built(self) -> bool:
        """Whether :meth:`build` was called."""
        return self._keys is not None

    def build(self, keys: Any) -> None:
        """Index all ``keys`` (an iterable); from then on :meth:`add` keeps it up."""
        self._keys = {}
        for key in keys:
            self.add(key)

    def add(self, key: bytes) -> None:
        """A record was stored."""
        if self._keys is not None:
            for place in places_of(key):
                self._keys[place] = key

    def key_at(self, place: Place) -> bytes | None:
        """The key of the record whose place this is."""
        return None if self._keys is None else self._keys.get(place)


def places_of(key: bytes) -> list[Place]:
    """A key's place in each of the five tables."""
    return [Place(table, number) for table, number in enumerate(table_positions(key))]
