"""The order of all writes. A version is greater than another exactly when it is the newer one."""

from __future__ import annotations

from typing import NamedTuple

COUNTER_BITS = 16
CLOCK_MAX = (1 << 63) - 1
WRITER_BYTES_MAX = 66  # a node's id, 384 bits, in base58


class Version(NamedTuple):
    """When a value was written, and by whom; ordered by both.

    :ivar clock: hybrid logical time: milliseconds of Unix time << 16 | counter.
    :ivar writer: id of the node that wrote, which makes versions of the same instant distinct.
    """

    clock: int
    writer: bytes

    @property
    def time_ms(self) -> int:
        """Unix time at which it was given out, in milliseconds; may be ahead of the writer's wall clock."""
        return self.clock >> COUNTER_BITS
