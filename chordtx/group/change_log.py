"""A leader's latest changes, as they were sent: for members that missed some."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from chordtx.group.state import Change


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

    __slots__ = ("_bytes", "_bytes_max", "batches")

    def __init__(self, bytes_max: int) -> None:
        self.batches: deque[Batch] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max

    def append(self, batch: Batch) -> None:
        """It was sent."""
        self.batches.append(batch)
        self._bytes += _size(batch)

    def trim(self, commit: int) -> None:
        """What is too much goes, if it is committed."""
        batches = self.batches
        while self._bytes > self._bytes_max and batches and batches[0].last <= commit:
            self._bytes -= _size(batches.popleft())

    def since(self, sequence: int) -> list[Batch] | None:
        """All that follows a sequence; None when that is not known any more."""
        batches = self.batches
        if sequence < 0 or not batches or sequence < batches[0].after:
            return None
        return [batch for batch in batches if batch.after >= sequence]


def _size(batch: Batch) -> int:
    return 64 + sum(128 + len(change.key) + len(change.value) for change in batch.changes)
