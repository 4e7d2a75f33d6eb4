"""Deciding whether what a key's five positions tell is a write of a legacy peer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from attrs import frozen

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.group.rank import Rank, rank_from_wire
from chordtx.wire import unpack_value

_POSITIONS = 5
_MAJORITY_OF_POSITIONS = 3

#: Where an opinion comes from: a legacy peer stored it here; it was found in a legacy peer's own table, where
#: nothing was ever put by this host; the peer has changed what was put there; or has it, or is being told.
STORED, FOUND, CHANGED, IN_STEP = range(4)


@frozen
class Opinion:
    """What a legacy peer stored at one of a key's positions, or has in its own table there.

    :ivar source: STORED, FOUND, CHANGED or IN_STEP.
    :ivar is_delta: whether ``value`` holds fields only. :ivar value: None for nothing, or a deletion.
    :ivar base: rank of the record that was there when it was stored, or that the legacy peer had confirmed
        before it changed it; None when there was none.
    :ivar number: of the entry that was stored; 0 for a table.
    """

    source: int
    is_delta: bool
    value: Any
    base: Rank | None
    number: int

    def to_wire(self, pack: Callable[[Any], bytes]) -> list[Any]:
        """``[source, is delta, value or nil, base or nil, number]``."""
        value = None if self.value is None else pack(self.value)
        return [self.source, self.is_delta, value, self.base, self.number]

    @classmethod
    def from_wire(cls, wire: Any, limits: Limits) -> Opinion:
        """:raises ProtocolError: when it is anything else."""
        if not isinstance(wire, list) or len(wire) != 5:
            raise ProtocolError("an opinion has five parts")
        source, is_delta, blob, base, number = wire
        if type(source) is not int or type(number) is not int or type(is_delta) is not bool:
            raise ProtocolError("an opinion has a source and a number")
        value = None if blob is None else unpack_value(blob, limits)
        if is_delta and not isinstance(value, dict):
            raise ProtocolError("a delta is a map")
        return cls(source, is_delta, value, base_from_wire(base), number)

    def supports(self, value: Any, is_delta: bool) -> bool:
        """Whether this agrees with a legacy peer's having written ``value``."""
        if is_delta and not self.is_delta:
            return isinstance(self.value, dict) and {**self.value, **value} == self.value
        return self.is_delta == is_delta and bool(self.value == value)


def base_from_wire(wire: Any) -> Rank | None:
    """:raises ProtocolError: when it is no rank, nor nil."""
    return None if wire is None else rank_from_wire(wire)


@frozen
class Decision:
    """What is to become of it.

    :ivar is_new: whether ``value`` is to be written; if not, the record stands as it is.
    """

    is_new: bool
    is_delta: bool = False
    value: Any = None


_STANDS = Decision(is_new=False)


def decide(positions: Sequence[Sequence[Opinion]], rank: Rank | None, present: Any) -> Decision | None:
    """Whether most positions tell of one and the same write that came after the record.

    :param positions: of each position that answered, what legacy peers say there: several where a py2p and a
        js2p node, who do not know each other, both take it for theirs.
    :param rank: the record's, None when there is none. :param present: its value.
    :returns: None while it cannot be told, and asking again later may help.
    """
    told = [[opinion for opinion in there if _is_news(opinion, rank)] for there in positions]
    candidates = [opinion for opinion in chain.from_iterable(told) if _may_differ(opinion, present)]
    if not candidates:
        is_enough = rank is not None and len(positions) >= _MAJORITY_OF_POSITIONS
        return _STANDS if is_enough else None
    for candidate in sorted(candidates, key=lambda opinion: opinion.source):
        # One that was stored is supported by what lies in tables that this host never put anything into; one
        # found lying there, only by what was put there after the record: else leftovers would support one
        # another.
        voters = positions if candidate.source == STORED else told
        support = sum(
            any(o.source != IN_STEP and o.supports(candidate.value, candidate.is_delta) for o in there)
            for there in voters
        )
        if support >= _needed(candidate) and not _may_be_old(candidate, positions, rank):
            if _changes_nothing(candidate, present):
                return _STANDS
            return Decision(True, candidate.is_delta, candidate.value)
    return None


def _needed(candidate: Opinion) -> int:
    """At how many positions it has to be told.

    A legacy peer drops from its table what it hands to a node that is nearer, which we may not know yet. What
    it deletes is told apart: that is stored at all positions, so those that are not its own tell of it.
    """
    is_dropped_in_silence = candidate.source != STORED and candidate.value is None
    return _POSITIONS if is_dropped_in_silence else _MAJORITY_OF_POSITIONS


def _may_be_old(candidate: Opinion, positions: Sequence[Sequence[Opinion]], rank: Rank | None) -> bool:
    """Whether it may be what py2p once had, and sends again when the ring changes: at three positions, if it
    had three.

    What it writes is stored at all positions that are not its own. So what is to replace a record has to be
    told at each of these that answers. Deletions and deltas are never sent again.
    """
    if candidate.source != STORED or rank is None or candidate.value is None or candidate.is_delta:
        return False
    of_ours = [there for there in positions if all(opinion.source == STORED for opinion in there)]
    return not all(any(o.supports(candidate.value, False) for o in there) for there in of_ours)


def _is_news(opinion: Opinion, rank: Rank | None) -> bool:
    """Whether it tells of something that came after the record: stored while this record was there, or put by
    the legacy peer itself where it had confirmed this record. Where nothing was ever put by us, what is found
    counts only while there is no record: nobody knows which of the two is older."""
    if opinion.source == FOUND:
        return rank is None
    return opinion.source != IN_STEP and opinion.base == rank


def _may_differ(opinion: Opinion, present: Any) -> bool:
    return opinion.source == STORED or bool(opinion.value != present)


def _changes_nothing(candidate: Opinion, present: Any) -> bool:
    if candidate.is_delta:
        return isinstance(present, dict) and {**present, **candidate.value} == present
    return bool(candidate.value == present)
