"""The ring's records as a dict: over reads and writes that a majority of replicas answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from chordtx.dictionary import DictMixin
from chordtx.records import NEVER_WRITTEN, Record, Version

if TYPE_CHECKING:
    from chordtx.chord.announcements import Announcements
    from chordtx.chord.coordinator import Coordinator
    from chordtx.chord.listing import Listing


class RingDict(DictMixin):
    """What of :class:`~chordtx.ChordService` is like a dict.

    Every Deferred fails with :class:`~chordtx.errors.NoMajority` when a majority of the key's replicas does
    not answer in time. A write is safe when a majority has it. Keys come in the order of the ring, page by
    page from the nodes that own them.
    """

    if TYPE_CHECKING:
        _coordinator: Coordinator
        _announcements: Announcements
        _listing: Listing

        def _wall_ms(self) -> int: ...
        def _expiry_ms(self, ttl_seconds: float) -> int: ...

    async def _read_packed(self, key: bytes) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        record = await self._coordinator.read(key)
        return None if record is None else record.packed_value(self._wall_ms())

    async def _write_packed(self, key: bytes, blob: bytes, ttl: float | None) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        expiry_ms = None if ttl is None else self._expiry_ms(ttl)
        existed, _ = await self._coordinator.write(key, lambda _, version: Record(version, blob, expiry_ms))
        if not existed:
            self._announcements.announce(key, deleted=False)

    async def _delete_key(self, key: bytes) -> None:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        existed, _ = await self._coordinator.write(key, lambda _, version: Record(version, None))
        if existed:
            self._announcements.announce(key, deleted=True)

    async def _write_fields(
        self, key: bytes, fields: dict[bytes, bytes], ask_old: bool = True
    ) -> bytes | None:
        """See :class:`~chordtx.dictionary.DictMixin`; ``ask_old`` as for :meth:`Coordinator.write`."""

        def change(present: Record | None, version: Version) -> Record:
            base = present or NEVER_WRITTEN
            self._must_be_map(base)
            changed = base.with_fields(version, fields)
            self._record_limits.must_be_written(key, changed, self._wall_ms())
            return changed

        existed, record = await self._coordinator.write(key, change, whole=True, ask_old=ask_old)
        if not existed:
            self._announcements.announce(key, deleted=False)
        return record.packed_value(self._wall_ms())

    def _key_pages(self) -> AsyncGenerator[list[bytes], None]:
        """See :class:`~chordtx.dictionary.DictMixin`."""
        return self._listing.pages()

    async def _contains(self, key: bytes) -> bool:
        record = await self._coordinator.read(key)
        return record is not None and record.alive(self._wall_ms())

    def _must_be_map(self, record: Record) -> None:
        packed: Any = record.packed_value(self._wall_ms())
        if packed is not None and not isinstance(self._unpacked(packed), dict):
            raise TypeError("a delta can only be applied to a map")
