"""What operations on a key are given, and what comes of them."""

from __future__ import annotations

from typing import NamedTuple

from chordtx.group.rank import Rank
from chordtx.group.record import Record

DONE, ABSENT, CONFLICT, WRONG_TYPE, TOO_LARGE = range(5)


class Moment(NamedTuple):
    """Where in a partition's history an operation takes place.

    :ivar rank: of the change that it becomes. :ivar now_ms: the partition's time.
    :ivar value_bytes_max: what a value may take, in msgpack.
    """

    rank: Rank
    now_ms: int
    value_bytes_max: int


#: A status, and what comes with it.
Result = tuple[int, object]
#: The record that is there afterwards, and the result.
Outcome = tuple[Record | None, Result]
