"""The settings of groups, with their reasons."""

from __future__ import annotations

from attrs import fields, frozen

MIB = 1 << 20


@frozen(kw_only=True)
class GroupSettings:
    """How groups agree.

    :ivar lease_seconds: how long a member promises nothing to anybody else once it has heard from its leader:
        reads need no round trip for so long, and a leader that died is followed by another one after it.
    :ivar drift_allowance: by what share the rates of two nodes' lease clocks may differ. Crystals differ by
        0.0002 and clocks that are being corrected by 0.001; the rest is a margin.
    :ivar leases: off where a whole machine may be frozen with its clocks: then every read asks a majority.
    :ivar majority_timeout_seconds: a leader that reaches no majority for this long gives up its lead.
    :ivar ids_seconds: how long an operation of a client that fell silent is remembered.
    :ivar held_operations_max: that wait while a group changes its members; more are told to come again.
    :ivar waiting_operations_max: that wait for a majority, in one partition; more are told to come again.
    :ivar log_bytes_max: about what a leader keeps of its latest changes for members that missed some.
    :ivar copy_timeout_seconds: a page of a copy is asked for again after this long.
    :ivar learn_timeout_seconds: newcomers that have not copied the records by then are not waited for.
    :ivar recover_after_seconds: survivors of members that cannot come back go on without them after this.
    :ivar value_bytes_max: what one value may take, in msgpack.
    """

    lease_seconds: float = 1.0
    drift_allowance: float = 0.05
    leases: bool = True
    majority_timeout_seconds: float = 2.0
    ids_seconds: float = 60.0
    held_operations_max: int = 1000
    waiting_operations_max: int = 10_000
    log_bytes_max: int = 1 * MIB
    copy_timeout_seconds: float = 1.0
    learn_timeout_seconds: float = 30.0
    recover_after_seconds: float = 10.0
    value_bytes_max: int = 8 * MIB

    @property
    def counted_seconds(self) -> float:
        """What a leader counts of a lease, from when it sent what the lease was granted for."""
        return self.lease_seconds * (1 - self.drift_allowance) if self.leases else -1.0

    def validate(self) -> GroupSettings:
        """:raises ValueError: naming the first setting that makes no sense."""
        for each in fields(GroupSettings):
            value = getattr(self, each.name)
            if not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{each.name} is {value}, and must be above 0")
        if self.drift_allowance >= 1:
            raise ValueError(f"drift_allowance is {self.drift_allowance}, and must be below 1")
        return self
