"""Pointers and entries of a host: which keys lie at its positions, and what legacy peers stored there.

A legacy peer's ``store`` names a position, not the key, and reaches each of a key's five positions by itself.
Until it is known to be a write, it stands beside the record as an *entry*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve, frozen

from chordtx.group.rank import Rank
from chordtx.legacy.tables import Place, places_of

_NAMES_MAX = 50_000
_NAMES_BYTES_MAX = 8 << 20


@frozen
class Entry:
    """One legacy peer's store or delta at one place.

    :ivar value: what it stored, None for a deletion; for a delta, the fields that it wrote.
    :ivar is_delta: whether ``value`` is to be merged into what is there.
    :ivar number: of the entry, among all of this host.
    :ivar size_bytes: about what it takes in memory.
    :ivar may_replace: ranks of the records that it may replace, as it may be an old copy; None: of any.
    :ivar is_based: whether it is known which record was there when it came.
    :ivar base: that record's rank; None when there was none.
    """

    value: Any
    is_delta: bool
    number: int
    size_bytes: int
    may_replace: tuple[Rank | None, ...] | None = None
    is_based: bool = False
    base: Rank | None = None

    def is_past(self, rank: Rank | None) -> bool:
        """Whether it is an old copy, and there is a record, which has this rank."""
        return rank is not None and self.may_replace is not None and rank not in self.may_replace

    def over(self, present: Any) -> Any:
        """The value at the place: this, or this merged into ``present``."""
        if not self.is_delta:
            return self.value
        return {**present, **self.value} if isinstance(present, dict) else self.value

    def is_copy_of(self, present: Any) -> bool:
        """Whether it would change nothing. :param present: the record's value, None when there is none."""
        if self.is_delta:
            return isinstance(present, dict) and bool(present == {**present, **self.value})
        return bool(self.value == present)

    def after(self, earlier: Entry | None) -> Entry:
        """This entry with one that came before it at the same place."""
        if earlier is None or not self.is_delta:
            return self
        size_bytes = self.size_bytes + earlier.size_bytes
        return evolve(self, value=self.over(earlier.value), is_delta=earlier.is_delta, size_bytes=size_bytes)


class Entries:
    """The entries at this node's positions.

    :param entries_max: entries kept; the oldest goes first. :param bytes_max: the same for what they take.
    """

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: dict[Place, Entry] = {}
        self._bytes = 0
        self._number = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(
        self,
        place: Place,
        value: Any,
        is_delta: bool,
        size_bytes: int,
        may_replace: tuple[Rank | None, ...] | None = None,
    ) -> Entry:
        """A legacy peer stored something here."""
        self._number += 1
        entry = Entry(value, is_delta, self._number, size_bytes, may_replace).after(self.take(place))
        self._entries[place] = entry
        self._bytes += entry.size_bytes
        while len(self._entries) > self._entries_max or self._bytes > self._bytes_max:
            self.take(next(iter(self._entries)))
        return entry

    def take(self, place: Place) -> Entry | None:
        """The entry that stood at a place, and stands there no more."""
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._bytes -= entry.size_bytes
        return entry

    def keep_only(self, owns: Callable[[int], bool]) -> None:
        """Drop what was stored at positions that are another node's now."""
        for place in [place for place in self._entries if not owns(place.position)]:
            self.take(place)

    def get(self, place: Place) -> Entry | None:
        """The entry that stands at a place."""
        return self._entries.get(place)

    def put_base(self, place: Place, base: Rank | None) -> None:
        """The record that the entry at a place came after is this one."""
        self._entries[place] = evolve(self._entries[place], is_based=True, base=base)


class Pointers:
    """Which keys lie at this node's positions, as leaders and legacy peers have told."""

    def __init__(self) -> None:
        self._keys: dict[Place, bytes] = {}
        self._names: dict[Place, bytes] = {}
        self._names_bytes = 0

    def add(self, places: Iterable[Place], key: bytes) -> None:
        """A leader says that this key has a record."""
        for place in places:
            self._keys[place] = key

    def remove(self, places: Iterable[Place], key: bytes) -> None:
        """The key has no record any more; that it lies there may still matter for a while."""
        for place in places:
            self._keys.pop(place, None)
        self.name(key)

    def name(self, key: bytes) -> None:
        """A legacy peer has named a key: one of the latest."""
        for place in places_of(key):
            self._forget_name(place)
            self._names[place] = key
            self._names_bytes += len(key)
        while len(self._names) > _NAMES_MAX or self._names_bytes > _NAMES_BYTES_MAX:
            self._forget_name(next(iter(self._names)))

    def _forget_name(self, place: Place) -> None:
        self._names_bytes -= len(self._names.pop(place, b""))

    def key_at(self, place: Place) -> bytes | None:
        """The key whose place this is, if somebody named it."""
        return self._keys.get(place) or self._names.get(place)

    def all(self) -> list[tuple[Place, bytes]]:
        """Where keys with records lie."""
        return list(self._keys.items())

    def keep_only(self, owns: Callable[[int], bool]) -> None:
        """Forget what lies at positions that are another node's now."""
        for place in [place for place in self._keys if not owns(place.position)]:
            del self._keys[place]

    def clear(self) -> None:
        """No leader tells any more."""
        self._keys.clear()
