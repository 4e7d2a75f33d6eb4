"""The identity of a ring, and the standing that nodes tell one another when they link.

A ring has an identity, made at random by the node that begins it. Parts of one ring that were split merge by
themselves; two rings of different identity never do.
"""

from __future__ import annotations

from attrs import frozen

from chordtx.config import PARTITION_BITS_MAX
from chordtx.errors import ProtocolError
from chordtx.group.configuration import MEMBERS_MAX

RING_ID_BYTES = 16


@frozen
class RingIdentity:
    """The identity of a ring.

    :ivar id: random. :ivar partition_bits: it has 2**partition_bits partitions.
    :ivar replicas: how many members each partition has.
    """

    id: bytes
    partition_bits: int
    replicas: int

    @property
    def partitions(self) -> int:
        """How many there are."""
        return 1 << self.partition_bits

    @property
    def text(self) -> str:
        """Its name, as people see it."""
        return self.id.hex()

    def to_wire(self) -> list[object]:
        """:returns: ``[id, partition_bits, replicas]``."""
        return [self.id, self.partition_bits, self.replicas]

    @classmethod
    def from_wire(cls, obj: object) -> RingIdentity:
        """:raises ProtocolError: when ``obj`` is none."""
        if not isinstance(obj, list | tuple) or len(obj) != 3:
            raise ProtocolError("a ring's identity is [id, partition_bits, replicas]")
        id, bits, replicas = obj
        if type(id) is not bytes or len(id) != RING_ID_BYTES:
            raise ProtocolError(f"a ring's id is {RING_ID_BYTES} bytes")
        if type(bits) is not int or not 0 < bits <= PARTITION_BITS_MAX:
            raise ProtocolError(f"partition_bits are 1 to {PARTITION_BITS_MAX}")
        if type(replicas) is not int or not 0 < replicas <= MEMBERS_MAX:
            raise ProtocolError(f"replicas are 1 to {MEMBERS_MAX}")
        return cls(id, bits, replicas)


@frozen
class Standing:
    """What a node tells another of ours about itself, when they link and whenever it changes.

    :ivar ring: the identity of its ring, None while it is in none.
    :ivar has_disk: whether it remembers its promises after a crash.
    :ivar is_leaving: whether it is about to leave its groups.
    :ivar is_empty: whether it is a ring of one that holds no record, and gives its ring up for another.
    :ivar starts: how often its data folder was opened; 0 without one.
    :ivar hears: whether it is to be told which keys come and go.
    :ivar is_stopping: whether it is about to stop, and is to lead nothing any more.
    """

    ring: RingIdentity | None
    has_disk: bool
    is_leaving: bool
    is_empty: bool
    starts: int = 0
    hears: bool = False
    is_stopping: bool = False

    def to_wire(self) -> list[object]:
        """:returns: ``[identity or nil, has_disk, is_leaving, is_empty, starts, hears, is_stopping]``."""
        ring = None if self.ring is None else self.ring.to_wire()
        told = [self.has_disk, self.is_leaving, self.is_empty, self.starts, self.hears, self.is_stopping]
        return [ring, *told]

    @classmethod
    def from_wire(cls, obj: object) -> Standing:
        """:raises ProtocolError: when ``obj`` is none. More entries are for later versions."""
        if not isinstance(obj, list | tuple) or len(obj) < 7:
            raise ProtocolError("a node's standing has seven entries")
        ring, has_disk, is_leaving, is_empty, starts, hears, is_stopping = obj[:7]
        if any(type(each) is not bool for each in (has_disk, is_leaving, is_empty, hears, is_stopping)):
            raise ProtocolError("a node's standing has five flags")
        if type(starts) is not int or starts < 0:
            raise ProtocolError("a node has started some times")
        identity = None if ring is None else RingIdentity.from_wire(ring)
        return cls(identity, has_disk, is_leaving, is_empty, starts, hears, is_stopping)
