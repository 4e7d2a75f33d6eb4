"""The ring of nodes that keep records: lookups, reads and writes, hand-over."""

from chordtx.chord.service import ChordService

__all__ = ["ChordService"]
