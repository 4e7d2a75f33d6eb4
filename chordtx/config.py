"""Settings: frozen values with their units in their names, and one :func:`validate` each.

Every limit on what a stranger can send stands here with its reason. Imports nothing of Twisted.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import evolve, field, frozen

MIB = 1 << 20
#: Marks a setting that a service sets itself.
OF_SERVICE = "of service"
#: A partition's number fits into two bytes.
PARTITION_BITS_MAX = 16
S = TypeVar("S")


@frozen(kw_only=True)
class Limits:
    """What one message may cost, enforced before the memory is spent.

    :ivar greeting_bytes_max: length of a frame before the handshake is through; such a frame is plain. A
        handshake takes about 300 bytes, and with the longest host name and 64 methods under 800.
    :ivar frame_bytes_max: length of one frame on the wire.
    :ivar expanded_bytes_max: length of one message after decompression.
    :ivar expansion_bytes_free: what a compressed frame may expand to, however short it is; so that 64 KiB
        of compressed bytes cost no more memory than 64 KiB of plain ones may.
    :ivar expansion_max: how many bytes more it may expand to for each compressed byte. What compresses better
        is sent plain.
    :ivar depth_max: nesting of arrays and maps; deeper ones are of no use and cost stack.
    :ivar elements_max: values in one message; each costs up to 72 bytes once decoded.
    :ivar containers_max: arrays and maps in one message; an empty one costs 64 bytes for one byte sent.
    """

    greeting_bytes_max: int = 4096
    frame_bytes_max: int = 16 * MIB
    expanded_bytes_max: int = 16 * MIB
    expansion_bytes_free: int = MIB // 4
    expansion_max: int = 8
    depth_max: int = 32
    elements_max: int = 1_000_000
    containers_max: int = 30_000

    @property
    def of_reading(self) -> Limits:
        """Those of a value that is read: a map that deltas made may hold more than one writer may give."""
        return evolve(self, elements_max=2 * self.elements_max, containers_max=2 * self.containers_max)

    def validate(self) -> Limits:
        """:raises ValueError: naming the first setting that is not positive."""
        return _positive(self)


@frozen(kw_only=True)
class MeshSettings:
    """How a node keeps its links.

    :ivar connections_max: links to other nodes: a ring this small is one hop wide.
    :ivar accepted_max: links accepted in all; more are turned away.
    :ivar connections_per_address_max: accepted from one address, so that one host cannot use up all.
    :ivar handshake_timeout_seconds: a link that says nothing sensible for this long is cut.
    :ivar connect_timeout_seconds: for the TCP (and TLS) connection to come up.
    :ivar first_link_timeout_seconds: after this long without a link, a node that was given peers says that it
        has reached none (in a ring, ``join_timeout_seconds`` counts instead).
    :ivar ping_interval_seconds: how long a link may be silent before it is asked whether it lives.
    :ivar silence_timeout_seconds_min: lower bound of a link's measured time-out; above scheduling pauses.
    :ivar silence_timeout_seconds_max: upper bound: a dead link is known after this long at the latest.
    :ivar half_open_seconds_max: a peer that does not finish a frame it began is cut after this; a legacy
        peer, which answers no pings, may be silent for half as long.
    :ivar remembered_broadcasts_max: ids kept to drop duplicates (each about 150 bytes).
    :ivar broadcast_age_seconds_max: older broadcasts are dropped (the protocol's 60).
    :ivar recent_broadcasts_bytes_max: the latest broadcasts, kept for peers that have missed some.
    :ivar received_messages_max: user messages waiting for ``recv()``; the oldest go first.
    :ivar received_bytes_max: about what these may take together in memory, decoded.
    :ivar send_buffer_bytes_max: a peer that does not read is cut when this much waits for it.
    :ivar unsent_bytes_max: the same for all peers together. From a third of it on, a peer with large answers
        waits for room. From half of it on, peers that are no members of the ring are cut. Past it, the peer
        that has read nothing for longest is cut.
    :ivar unsent_to_members_bytes_max: what may wait for members of the ring when nothing waits for others: a
        leader sends a large value to all other members of its group at once.
    :ivar unfinished_bytes_max: what frames that have begun may take on all links together: past it, the link
        whose frame began first is cut.
    :ivar decoded_bytes_per_second_max: what messages of one peer that is no member of our ring may take
        decoded; past it nothing more is read of it for a while. A fast client stays far below.
    :ivar turn_seconds_max: what all peers together may take of one turn of the reactor; what they ask beyond
        that is served in later turns, in fair shares.
    :ivar calls_pending_max: calls under way that one peer may have with us.
    :ivar compress_bytes_min: shorter messages are sent plain: compressing them costs more than it saves.
    :ivar known_peers_max: addresses remembered to find the network again.
    """

    connections_max: int = 64
    accepted_max: int = 1024
    connections_per_address_max: int = 256
    handshake_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 5.0
    first_link_timeout_seconds: float = 15.0
    ping_interval_seconds: float = 1.0
    silence_timeout_seconds_min: float = 2.5
    silence_timeout_seconds_max: float = 3.5
    half_open_seconds_max: float = 60.0
    remembered_broadcasts_max: int = 200_000
    broadcast_age_seconds_max: int = 60
    recent_broadcasts_bytes_max: int = MIB
    received_messages_max: int = 10_000
    received_bytes_max: int = 64 * MIB
    send_buffer_bytes_max: int = 24 * MIB
    unsent_bytes_max: int = 24 * MIB
    unsent_to_members_bytes_max: int = 96 * MIB
    unfinished_bytes_max: int = 64 * MIB
    decoded_bytes_per_second_max: int = 128 * MIB
    turn_seconds_max: float = 0.005
    calls_pending_max: int = 20_000
    compress_bytes_min: int = 1024
    known_peers_max: int = 1_000
    limits: Limits = field(factory=Limits)

    def validate(self) -> MeshSettings:
        """:raises ValueError: naming the first setting that makes no sense."""
        self.limits.validate()
        if self.silence_timeout_seconds_max < self.silence_timeout_seconds_min:
            raise ValueError("silence_timeout_seconds_max is below silence_timeout_seconds_min")
        return _positive(self)


@frozen(kw_only=True)
class GroupSettings:
    """How groups agree.

    :ivar lease_seconds: how long a member promises nothing to other nodes after it has heard from its leader.
        Until then the leader reads without a round trip. When the leader dies, the next one has to wait for
        the end of this time.
    :ivar drift_allowance: by what share the rates of two nodes' lease clocks may differ. Crystals differ by
        0.0002 and clocks that are being corrected by 0.001; the rest is a margin.
    :ivar leases: off where a whole machine may be frozen with its clocks: then every read asks a majority.
    :ivar majority_timeout_seconds: a leader that reaches no majority for this long gives up its lead.
    :ivar ids_seconds: how long an operation of a client that fell silent is remembered.
    :ivar held_operations_max: operations that wait while a lead begins or members change; more are answered
        with BUSY.
    :ivar waiting_operations_max: operations of one partition that wait for a majority; more are answered with
        BUSY.
    :ivar log_bytes_max: about what a leader keeps of its latest changes for members that missed some.
    :ivar copy_timeout_seconds: a page of a copy is asked for again after this long.
    :ivar learn_timeout_seconds: newcomers that have not copied the records by then are not waited for.
    :ivar recover_after_seconds: survivors of members that cannot come back go on without them after this.
    :ivar value_bytes_max: what one value may take, in msgpack; a service puts that of its own settings here.
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
    value_bytes_max: int = field(default=8 * MIB, metadata={OF_SERVICE: True})

    @property
    def counted_seconds(self) -> float:
        """What a leader counts of a lease, from when it sent what the lease was granted for."""
        return self.lease_seconds * (1 - self.drift_allowance) if self.leases else -1.0

    def validate(self) -> GroupSettings:
        """:raises ValueError: naming the first setting that makes no sense."""
        if self.drift_allowance >= 1:
            raise ValueError(f"drift_allowance is {self.drift_allowance}, and must be below 1")
        return _positive(self)


@frozen(kw_only=True)
class ChordSettings:
    """How a node keeps the ring and its records.

    :ivar successors_max: length of the successor list, r in the papers.
    :ivar replicas: nodes that keep a record, in a ring that this node begins: neighbours on the ring.
    :ivar stabilize_interval_seconds: between rounds of stabilization; changes are passed on at once besides.
    :ivar call_timeout_seconds: for one request to one node, before another is asked.
    :ivar operation_timeout_seconds: for a whole get, set or delete.
    :ivar join_timeout_seconds: for the first ring to be found.
    :ivar join_retries: whether a ring is waited for when nobody listens at any peer. What runs for a moment
        only rather fails at once.
    :ivar leave_timeout_seconds: for a polite leave to hand everything over.
    :ivar value_bytes_max: packed size of one value.
    :ivar key_bytes_max: length of one key.
    :ivar store_bytes_max: about what one node's keys and records may take; users' writes past it are refused.
    :ivar restart_grace_seconds: a member with a disk that is gone is waited for this long before its groups
        take another one in its place, so that a restart moves nothing.
    :ivar ring_merge_interval_seconds: how often a node looks up its own id through a node that it once met.
        So the parts of a ring that a split network has made find each other.
    :ivar announce_interval_seconds: what legacy peers are told of keys is collected for this long.
    :ivar partition_bits: a ring that this node begins has 2**partition_bits partitions: 10 bits are good to
        some 200 nodes, 13 to a thousand. It stays so for as long as the ring exists.
    :ivar placement_settle_seconds: a row of neighbours stands still for this long before groups follow it.
    :ivar positions_unnamed_max: legacy peers' entries kept while their key is not known.
    :ivar positions_unnamed_bytes_max: about what these may take together in memory, decoded: any client can
        store one, of up to ``value_bytes_max``.
    """

    successors_max: int = 8
    replicas: int = 5
    stabilize_interval_seconds: float = 1.0
    call_timeout_seconds: float = 2.0
    operation_timeout_seconds: float = 10.0
    join_timeout_seconds: float = 15.0
    join_retries: bool = True
    leave_timeout_seconds: float = 20.0
    value_bytes_max: int = 8 * MIB
    key_bytes_max: int = 64 * 1024
    store_bytes_max: int = 4096 * MIB
    restart_grace_seconds: float = 60.0
    ring_merge_interval_seconds: float = 5.0
    announce_interval_seconds: float = 0.05
    partition_bits: int = 10
    placement_settle_seconds: float = 1.0
    positions_unnamed_max: int = 100_000
    positions_unnamed_bytes_max: int = 64 * MIB
    mesh: MeshSettings = field(factory=MeshSettings)
    groups: GroupSettings = field(factory=GroupSettings)

    def validate(self) -> ChordSettings:
        """:raises ValueError: naming the first setting that makes no sense."""
        self.mesh.validate()
        self.groups.validate()
        if self.partition_bits > PARTITION_BITS_MAX:
            raise ValueError(f"partition_bits are at most {PARTITION_BITS_MAX}")
        if self.replicas > self.successors_max + 1:
            raise ValueError("replicas may be at most successors_max + 1")
        return _positive(self)


@frozen(kw_only=True)
class SyncSettings:
    """How a node keeps its copy of the dict that everybody has.

    :ivar lease_skew_seconds: how much longer than its lease another node's key is left alone: its clock may
        be that far behind ours.
    :ivar compare_interval_seconds: a node compares its copy with some neighbour's this often, and at once
        with a new one.
    :ivar tombstone_seconds: how long it is remembered that something was deleted or has expired: a node that
        was cut off for longer brings it back.
    :ivar clock_drift_seconds_max: a version further ahead of our clock than this is refused.
    :ivar value_bytes_max: packed size of one value. :ivar key_bytes_max: length of one key.
    :ivar store_bytes_max: about what all keys and records may take; more is not kept.
    :ivar store_records_max: the same for their number, tombstones too.
    """

    lease_skew_seconds: float = 10.0
    compare_interval_seconds: float = 15.0
    tombstone_seconds: float = 86_400.0
    clock_drift_seconds_max: float = 3600.0
    value_bytes_max: int = 8 * MIB
    key_bytes_max: int = 64 * 1024
    store_bytes_max: int = 1024 * MIB
    store_records_max: int = 1_000_000
    mesh: MeshSettings = field(factory=MeshSettings)

    def validate(self) -> SyncSettings:
        """:raises ValueError: naming the first setting that makes no sense."""
        self.mesh.validate()
        return _positive(self)


def _positive(settings: S) -> S:
    for name in settings.__attrs_attrs__:  # type: ignore[attr-defined]
        value = getattr(settings, name.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise ValueError(f"{name.name} must be above 0, not {value}")
    return settings
