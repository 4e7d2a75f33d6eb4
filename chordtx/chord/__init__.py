"""The ring of nodes that keep records: lookups, groups, the client that asks their leaders."""

from chordtx.chord.service import ChordService

__all__ = ["ChordService"]
