"""What waits at a leader: answers and reads, for a commit or a confirm."""

from __future__ import annotations

from typing import NamedTuple

from chordtx.group.messages import Answer, Operation


class Waiting(NamedTuple):
    """An answer that waits for its change to be committed."""

    sequence: int
    who: object
    answer: Answer


class Read(NamedTuple):
    """A read that waits until the lead is certain.

    :ivar above: a majority has to answer a confirm with a number above this one.
    """

    above: int
    who: object
    operation: Operation


class LateRead(NamedTuple):
    """A read that waits for changes to be committed.

    :ivar after: their sequence. :ivar now_ms: what was expired by then is removed by them.
    """

    after: int
    now_ms: int
    who: object
    operation: Operation
