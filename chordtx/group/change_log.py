"""A leader's latest changes, as they were sent: for members that missed some."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from chordtx.group.state import Change

#: What they take in memory, beside keys and values.
_BATCH_OVERHEAD_BYTES, _CHANGE_OVERHEAD_BYTES = 64, 128


class Batch(NamedTuple):
    """Changes that were sent together.

    :ivar after: the sequence that they follow. :ivar now_ms: their time.
    """

    after: int
    now_ms: int
    changes: tuple[Change, ...]

    @property
    def last(self) -> int:
        """The sequence of its last change."""
        return self.after + len(self.changes)


class ChangeLog:
    """The latest batches, up to a number of bytes.

    :param bytes_max: beyond it, what is committed goes, the oldest first.
    :ivar batches: in order.
    """

    __slots__ = ("_bytes", "_bytes_max", "_sizes", "batches")

    def __init__(self, bytes_max: int) -> None:
        self.batches: deque[Batch] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max

    def append(self, batch: Batch) -> None:
        """Note a batch that was sent."""
        self.batches.append(batch)
        size = _BATCH_OVERHEAD_BYTES
        for change in batch.changes:
            size += _CHANGE_OVERHEAD_BYTES + len(change.key) + len(change.value)
        self._sizes.append(size)
        self._bytes += size

    def trim(self, commit: int) -> None:
        """Drop the oldest committed batches, where there is too much."""
        batches = self.batches
        while self._bytes > self._bytes_max and batches and batches[0].last <= commit:
            batches.popleft()
            self._bytes -= self._sizes.popleft()

    def since(self, sequence: int) -> list[Batch] | None:
        """The batches after a sequence; None when some of them were dropped."""
        batches = self.batches
        if sequence < 0 or not batches or sequence < batches[0].after:
            return None
        return [batch for batch in batches if batch.after >= sequence]
