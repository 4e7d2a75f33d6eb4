"""chordtx: a distributed dict for Twisted, on a Chord ring that py2p and js2p nodes can join."""

from chordtx.chord import ChordService
from chordtx.config import ChordSettings, Limits, MeshSettings, SyncSettings
from chordtx.errors import (
    ChordError,
    NoMajority,
    NoMajorityTimeout,
    NotJoined,
    ProtocolError,
    Stopped,
    StorageFailed,
    StorageFull,
    ValueTooLarge,
    WrongSubnet,
)
from chordtx.mesh.accepting import MeshFactory
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.service import MeshService
from chordtx.sync.service import SyncService

__version__ = "0.1.0"

__all__ = [
    "ChordError",
    "ChordService",
    "ChordSettings",
    "Limits",
    "MeshConnection",
    "MeshFactory",
    "MeshService",
    "MeshSettings",
    "NoMajority",
    "NoMajorityTimeout",
    "NotJoined",
    "ProtocolError",
    "Stopped",
    "StorageFailed",
    "StorageFull",
    "SyncService",
    "SyncSettings",
    "ValueTooLarge",
    "WrongSubnet",
]
