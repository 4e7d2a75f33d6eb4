"""Where a node keeps its records."""

from chordtx.store.disk import DiskStore
from chordtx.store.folder import DataFolder
from chordtx.store.interface import IStore
from chordtx.store.memory import MemoryStore

__all__ = ["DataFolder", "DiskStore", "IStore", "MemoryStore"]
