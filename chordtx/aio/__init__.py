"""The services for asyncio programs: coroutines and asynchronous iterators, on the loop that runs.

They are those of :mod:`chordtx`, with the same arguments but for the reactor, and with the same errors.
Where the documentation of a method says that something fires, the coroutine returns it; where it says that
something fails, the coroutine raises. Whoever cancels a task cancels the call that it waits for. They are
used in the thread of their loop, as everything in asyncio.
"""

from chordtx.aio.chord import ChordService
from chordtx.aio.links import Link, Message
from chordtx.aio.listeners import Events
from chordtx.aio.mesh import MeshService
from chordtx.aio.namespace import Namespace
from chordtx.aio.sync import SyncService

__all__ = ["ChordService", "Events", "Link", "MeshService", "Message", "Namespace", "SyncService"]
