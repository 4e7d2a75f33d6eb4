"""What was there before the changes that are not committed yet: reads see only what a majority has."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from chordtx.group.record import Record


class Uncommitted:
    """Beside a leader's newest records, what the changes that are not committed have replaced."""

    __slots__ = ("_before", "_order")

    def __init__(self) -> None:
        self._before: dict[bytes, deque[Record | None]] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def note(self, sequence: int, key: bytes, before: Record | None) -> None:
        """A change is made. :param before: what was there in the newest records."""
        self._order.append((sequence, key))
        present = self._before.get(key)
        if present is None:
            self._before[key] = deque((before,))
        else:
            present.append(before)

    def committed(
        self, commit: int, newest: Mapping[bytes, Record], with_updates: bool = False
    ) -> list[tuple[bytes, bool | None]]:
        """Changes up to this sequence are committed.

        :param with_updates: whether those are told too that replaced one record by another.
        :returns: (key, whether it went, None for an update) of those by which a key came or went, in order.
        """
        order, before = self._order, self._before
        news: list[tuple[bytes, bool | None]] = []
        while order and order[0][0] <= commit:
            key = order.popleft()[1]
            replaced = before[key]
            was = replaced.popleft()
            after = replaced[0] if replaced else newest.get(key)
            if not replaced:
                del before[key]
            if (was is None) != (after is None):
                news.append((key, after is None))
            elif with_updates and was is not after:
                news.append((key, None))
        return news

    def record(self, key: bytes, newest: Mapping[bytes, Record]) -> Record | None:
        """The committed record of a key."""
        replaced = self._before.get(key)
        return newest.get(key) if replaced is None else replaced[0]

    def records(self, newest: dict[bytes, Record]) -> dict[bytes, Record]:
        """All committed records: ``newest`` itself, when everything is committed."""
        if not self._before:
            return newest
        records = dict(newest)
        for key, replaced in self._before.items():
            if replaced[0] is not None:
                records[key] = replaced[0]
            else:
                records.pop(key, None)
        return records
