"""Deciding whether what the five positions tell is a write of an old peer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from attrs import frozen

from chordtx.config import Limits
from chordtx.errors import ProtocolError
from chordtx.records import Record, Version
from chordtx.wire import unpack_value

_POSITIONS = 5
_MAJORITY_OF_POSITIONS = 3


@frozen
class Opinion:
    """What an old peer stored at one of a key's positions, or has in its own table there.

    :ivar is_delta: whether ``value`` holds fields only. :ivar value: None for nothing, or a deletion.
    :ivar stamp: when the old peer stored it; None when the old peer's own table was asked.
    :ivar confirmed: the record whose value was put into the old peer's own table, if the peer has changed it
        there since.
    """

    is_delta: bool
    value: Any
    stamp: Version | None
    confirmed: Version | None = None

    def to_wire(self, pack: Callable[[Any], bytes]) -> list[Any]:
        """``[is delta, value or nil, stamp or nil, confirmed or nil]``, versions as ``[clock, writer]``."""
        versions = [None if version is None else [*version] for version in (self.stamp, self.confirmed)]
        return [self.is_delta, None if self.value is None else pack(self.value), *versions]

    @classmethod
    def from_wire(cls, wire: Any, limits: Limits) -> Opinion:
        """:raises ProtocolError: when it is anything else."""
        if not isinstance(wire, list) or len(wire) != 4:
            raise ProtocolError("an opinion has four parts")
        is_delta, blob, stamp, confirmed = wire
        if not (blob is None or isinstance(blob, bytes)):
            raise ProtocolError("an opinion's value is bytes or nil")
        value = None if blob is None else unpack_value(blob, limits)
        if is_delta and not isinstance(value, dict):
            raise ProtocolError("a delta is a map")
        return cls(bool(is_delta), value, version_from_wire(stamp), version_from_wire(confirmed))

    def supports(self, value: Any, is_delta: bool) -> bool:
        """Whether this agrees with an old peer's having written ``value``."""
        if is_delta and not self.is_delta:
            return isinstance(self.value, dict) and {**self.value, **value} == self.value
        return self.is_delta == is_delta and bool(self.value == value)


@frozen
class Decision:
    """What is to become of it.

    :ivar is_new: whether ``value`` is to be written; if not, the record stands as it is.
    """

    is_new: bool
    is_delta: bool = False
    value: Any = None


_STANDS = Decision(is_new=False)
_LONG_AGO = Version(0, b"")


def decide(positions: Sequence[Sequence[Opinion]], record: Record | None, present: Any) -> Decision | None:
    """Whether most positions tell of one and the same write that is newer than the record.

    :param positions: of each position that answered, what old peers say there: several where a py2p and a
        js2p node, who do not know each other, both take it for theirs.
    :param record: what the replicas have. :param present: its value, None when there is none.
    :returns: None while it cannot be told, and asking again later may help.
    """
    told = [[opinion for opinion in there if _is_news(opinion, record)] for there in positions]
    candidates = [opinion for opinion in chain.from_iterable(told) if _may_differ(opinion, record, present)]
    if not candidates:
        is_enough = record is not None and len(positions) >= _MAJORITY_OF_POSITIONS
        return _STANDS if is_enough else None
    for candidate in sorted(candidates, key=lambda o: o.stamp or _LONG_AGO, reverse=True):
        # One that was stored is supported by whatever lies there already; one found lying there, only by
        # what was put there after the record: else old leftovers would support one another.
        voters = positions if candidate.stamp is not None else told
        support = sum(
            any(opinion.supports(candidate.value, candidate.is_delta) for opinion in there)
            for there in voters
        )
        if support >= _needed(candidate):
            if _changes_nothing(candidate, present):
                return _STANDS
            return Decision(True, candidate.is_delta, candidate.value)
    return None


def _needed(candidate: Opinion) -> int:
    """At how many positions it has to be told.

    An old peer drops from its table what it hands to a node that is nearer, which we may not know yet. Its
    deletions differ: they are stored at all positions, so those that are not its own tell of them.
    """
    is_dropped_in_silence = candidate.stamp is None and candidate.value is None
    return _POSITIONS if is_dropped_in_silence else _MAJORITY_OF_POSITIONS


def _is_news(opinion: Opinion, record: Record | None) -> bool:
    """Whether it tells of something newer than the record: stored after it, or put by the old peer itself
    where it had confirmed the record's value before. Without a record, all that there is."""
    if record is None:
        return True
    if opinion.stamp is not None:
        return opinion.stamp.clock > record.newest.clock
    return opinion.confirmed == record.newest


def _may_differ(opinion: Opinion, record: Record | None, present: Any) -> bool:
    if opinion.stamp is not None:
        return True
    return opinion.value is not None if record is None else bool(opinion.value != present)


def version_from_wire(wire: Any) -> Version | None:
    """``[clock, writer]`` or nil.

    :raises ProtocolError: when it is anything else.
    """
    if wire is None:
        return None
    if (
        not isinstance(wire, list)
        or len(wire) != 2
        or type(wire[0]) is not int
        or not isinstance(wire[1], bytes)
    ):
        raise ProtocolError("a version is [clock, writer]")
    return Version(wire[0], wire[1])


def _changes_nothing(candidate: Opinion, present: Any) -> bool:
    if candidate.is_delta:
        return isinstance(present, dict) and {**present, **candidate.value} == present
    return bool(candidate.value == present)
