"""The ring of nodes that keep records: lookups, reads and writes, hand-over."""

import os

from chordtx.chord.service import ChordService

if os.environ.get("CHORDTX_GROUPS"):  # until groups are what there is
    from chordtx.chord.group_service import ChordService  # type: ignore[assignment]

__all__ = ["ChordService"]
