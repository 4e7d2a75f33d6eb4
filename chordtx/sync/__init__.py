"""The dict that everybody has a full copy of: :class:`~chordtx.SyncService`."""

from chordtx.sync.entry import Meta
from chordtx.sync.service import SyncService

__all__ = ["Meta", "SyncService"]
