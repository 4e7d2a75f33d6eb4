"""A stored record, its versions, where it is kept, and how its copies are counted and merged.

Plain values and functions: no Twisted, no clock, no randomness, no sockets.
"""

from chordtx.records.bulk import (
    PIECE_BYTES,
    entries_from_wire,
    fetch_all,
    first_piece_of,
    pieces_of,
    some_at_a_time,
)
from chordtx.records.clock import HybridClock
from chordtx.records.placement import (
    REPLICAS,
    Neighbourhood,
    ReplicaSet,
    Unknown,
    places_taken,
    replica_set,
    tag_names,
)
from chordtx.records.quorum import Acknowledgements, Votes, majority
from chordtx.records.record import NEVER_WRITTEN, Field, Record, merge
from chordtx.records.travel import RecordLimits
from chordtx.records.tree import (
    LEAVES,
    Tree,
    batches,
    digest,
    digest_from_wire,
    digest_to_wire,
    leaf_numbers_from_wire,
    leaves_from_wire,
    listed_from_wire,
    listed_to_wire,
)
from chordtx.records.version import COUNTER_BITS, WRITER_BYTES_MAX, Version
from chordtx.records.whole_ring import WholeRing

__all__ = [
    "COUNTER_BITS",
    "LEAVES",
    "NEVER_WRITTEN",
    "PIECE_BYTES",
    "REPLICAS",
    "WRITER_BYTES_MAX",
    "Acknowledgements",
    "Field",
    "HybridClock",
    "Neighbourhood",
    "Record",
    "RecordLimits",
    "ReplicaSet",
    "Tree",
    "Unknown",
    "Version",
    "Votes",
    "WholeRing",
    "batches",
    "digest",
    "digest_from_wire",
    "digest_to_wire",
    "entries_from_wire",
    "fetch_all",
    "first_piece_of",
    "leaf_numbers_from_wire",
    "leaves_from_wire",
    "listed_from_wire",
    "listed_to_wire",
    "majority",
    "merge",
    "pieces_of",
    "places_taken",
    "replica_set",
    "some_at_a_time",
    "tag_names",
]
