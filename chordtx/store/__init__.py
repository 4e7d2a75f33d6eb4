"""Where a node keeps its records."""

from chordtx.store.interface import IStore
from chordtx.store.memory import MemoryStore

__all__ = ["IStore", "MemoryStore"]
