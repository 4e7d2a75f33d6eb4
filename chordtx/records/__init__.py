"""A stored record, its versions, where it is kept, and how its copies are counted and merged.

Plain values and functions: no Twisted, no clock, no randomness, no sockets.
"""

from chordtx.records.clock import HybridClock
from chordtx.records.placement import REPLICAS, Neighbourhood, Unknown, places_taken, replica_set
from chordtx.records.quorum import Acknowledgements, Votes, majority
from chordtx.records.record import Field, Record, merge
from chordtx.records.version import Version

__all__ = [
    "REPLICAS",
    "Acknowledgements",
    "Field",
    "HybridClock",
    "Neighbourhood",
    "Record",
    "Unknown",
    "Version",
    "Votes",
    "majority",
    "merge",
    "places_taken",
    "replica_set",
]
