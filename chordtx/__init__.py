"""chordtx: a distributed dict for Twisted, on a Chord ring that py2p and js2p nodes can join.

Each name is loaded when it is first used: ``chordtx --version`` and the like need none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chordtx.chord import ChordService
    from chordtx.chord.entry import Entry
    from chordtx.chord.locking import Lock
    from chordtx.chord.namespace import Namespace
    from chordtx.chord.watching import Event, Watch
    from chordtx.config import ChordSettings, Limits, MeshSettings, SyncSettings
    from chordtx.errors import (
        ChordError,
        Conflict,
        LockLost,
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
    from chordtx.values import ABSENT

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "ChordError",
    "ChordService",
    "ChordSettings",
    "Conflict",
    "Entry",
    "Event",
    "Limits",
    "Lock",
    "LockLost",
    "MeshConnection",
    "MeshFactory",
    "MeshService",
    "MeshSettings",
    "Namespace",
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
    "Watch",
    "WrongSubnet",
]

#: Where the names are found, the modules that load quickly first.
_MODULES = (
    "chordtx.values",
    "chordtx.errors",
    "chordtx.config",
    "chordtx.chord.entry",
    "chordtx.chord.locking",
    "chordtx.chord.watching",
    "chordtx.chord.namespace",
    "chordtx.chord",
    "chordtx.mesh.accepting",
    "chordtx.mesh.connection",
    "chordtx.mesh.service",
    "chordtx.sync.service",
)

if not TYPE_CHECKING:  # for a type checker the names are those above, and no others

    def __getattr__(name: str) -> object:
        if name in __all__:
            for module in map(import_module, _MODULES):
                if name in vars(module):
                    found = globals()[name] = vars(module)[name]
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
