"""What is kept under a key that everybody has a copy of, and how two copies become one. Pure.

An entry is a :class:`~chordtx.sync.record.Record` under a :class:`~chordtx.sync.lease.Lease`. Of two under
one lease the records merge; of two under different leases the one whose lease stands is kept whole. That is
the join of a semilattice, as with records: copies may come in any order, and as often as one likes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from attrs import evolve, frozen

from chordtx.errors import ProtocolError
from chordtx.sync.lease import LEASE_SECONDS, NO_LEASE, Lease
from chordtx.sync.record import Record, merge
from chordtx.sync.version import COUNTER_BITS, WRITER_BYTES_MAX, Version

_TIME_MAX = 1 << 40  # seconds


class Meta(NamedTuple):
    """Who changed a key last, and when.

    :ivar owner: the node's id, base58. :ivar timestamp: whole seconds, UTC.
    """

    owner: str
    timestamp: int


@frozen
class Entry:
    """One key's state.

    :ivar lease: under which it was written; :data:`~chordtx.sync.lease.NO_LEASE` where there are none.
    """

    lease: Lease
    record: Record

    @property
    def seconds(self) -> int:
        """When it was changed last: whole seconds, UTC."""
        return self.record.newest.time_ms // 1000

    @property
    def meta(self) -> Meta:
        """Who changed it last, and when."""
        return Meta(self.record.newest.writer.decode("ascii", "backslashreplace"), self.seconds)

    def to_wire(self) -> list[Any]:
        """:returns: ``[term, began, owner, record]``."""
        return [self.lease.term, self.lease.began, self.lease.owner, self.record.to_wire()]

    @classmethod
    def from_wire(cls, obj: object) -> Entry:
        """The opposite of :meth:`to_wire`, for whatever a peer sent.

        :raises ProtocolError: when it has any other shape.
        """
        if not isinstance(obj, list | tuple) or len(obj) != 4:
            raise ProtocolError("an entry is [term, began, owner, record]")
        term, began, owner, record = obj
        return cls(lease_from_wire(term, began, owner), Record.from_wire(record))


def lease_from_wire(term: object, began: object, owner: object) -> Lease:
    """:raises ProtocolError: when these make no lease."""
    if type(term) is not int or type(began) is not int or not isinstance(owner, bytes):
        raise ProtocolError("a lease is a term, a second and an owner")
    if not 0 <= term < _TIME_MAX or not 0 <= began < _TIME_MAX or len(owner) > WRITER_BYTES_MAX:
        raise ProtocolError("a lease is out of bounds")
    return Lease(term, began, owner)


def joined(a: Entry | None, b: Entry | None) -> Entry | None:
    """What is known once both are."""
    if a is None or b is None:
        return b if a is None else a
    if a.lease != b.lease:
        return a if a.lease.beats(b.lease) else b
    record = merge(a.record, b.record)
    assert record is not None
    return evolve(a, record=record)


class Rules:
    """What may be written, and under which lease.

    :param leasing: whether keys are leased at all.
    :param skew_seconds: how much longer than the lease we leave others' keys alone: their clocks may be
        behind ours.
    """

    def __init__(self, leasing: bool, skew_seconds: float) -> None:
        self.leasing = leasing
        self._skew_seconds = skew_seconds

    def lease_for(self, present: Entry | None, owner: bytes, now_ms: int) -> Lease:
        """The lease under which we may write a key.

        :raises KeyError: while another node holds it, saying which, and for how long.
        """
        if not self.leasing:
            return NO_LEASE
        now = now_ms // 1000
        if present is None:
            return Lease(1, now, owner)
        next_term = Lease(present.lease.term + 1, now, owner)
        if not present.record.alive(now_ms):
            return next_term
        left = present.seconds + LEASE_SECONDS - now
        if present.lease.owner == owner:
            return present.lease if left >= 0 else next_term
        left += int(self._skew_seconds)
        if left >= 0:
            holder = present.lease.owner.decode("ascii", "backslashreplace")
            raise KeyError(f"the key is leased by {holder} for another {left} s")
        return next_term

    def by_legacy_peer(
        self, present: Entry | None, owner: bytes, seconds: int, now_ms: int, *, is_delta: bool = False
    ) -> tuple[Lease, Version] | None:
        """The lease and version of what a legacy peer has written, which tells neither of them.

        Decided as these peers do it, so that we keep what they keep. Several of our own nodes may come to
        different versions, and settle on the greatest when they compare.

        :param seconds: when, by its own clock.
        :returns: None when its write does not count.
        """
        clock = (seconds * 1000) << COUNTER_BITS
        if present is None:
            lease = Lease(1, seconds, owner) if self.leasing else NO_LEASE
            return lease, Version(clock, owner)
        newest = present.record.newest
        version = Version(max(clock, newest.clock + 1), owner)
        is_alive = present.record.alive(now_ms)
        if not self.leasing:
            is_later = (seconds, newest.writer) > (present.seconds, owner)
            counts = not is_alive or newest.writer == owner or is_delta or is_later
            return (NO_LEASE, version) if counts else None
        holds = present.seconds + LEASE_SECONDS >= seconds
        if is_alive and holds:
            if present.lease.owner == owner:
                return present.lease, version
            claim = Lease(present.lease.term, seconds, owner)
            return (claim, version) if claim.beats(present.lease) else None
        return Lease(present.lease.term + 1, seconds, owner), version
