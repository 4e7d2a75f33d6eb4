"""The ring: positions and arcs, who is where on it, and the Chord node itself.

Plain values and functions: no Twisted, no clock, no randomness, no sockets.
"""

from chordtx.ring.arcs import ArcTable
from chordtx.ring.contact import Contact, UnusableContact, usable_contacts
from chordtx.ring.fingers import FingerTable
from chordtx.ring.node import LIST_LENGTH, Ask, Changed, Effect, Notify, Nudge, RingNode
from chordtx.ring.place import PlaceSearch
from chordtx.ring.space import (
    BITS,
    HASHES,
    SIZE,
    Positions,
    between,
    distance,
    in_arc,
    ring_positions,
    table_positions,
)

__all__ = [
    "BITS",
    "HASHES",
    "LIST_LENGTH",
    "SIZE",
    "ArcTable",
    "Ask",
    "Changed",
    "Contact",
    "Effect",
    "FingerTable",
    "Notify",
    "Nudge",
    "PlaceSearch",
    "Positions",
    "RingNode",
    "UnusableContact",
    "between",
    "distance",
    "in_arc",
    "ring_positions",
    "table_positions",
    "usable_contacts",
]
