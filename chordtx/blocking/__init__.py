"""The old library's sockets, for programs without an event loop: every call waits for its result.

Twisted's reactor runs in a thread of its own, started with the first socket (by crochet). Sockets may be
used from several threads at once. Listeners of events run in a thread of their socket, one after another, so
that they may ask the socket too.
"""

try:
    import crochet as _crochet  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "chordtx.blocking needs crochet: pip install 'chordtx[blocking]'", name=error.name
    ) from error

from chordtx.blocking.chord import ChordSocket
from chordtx.blocking.lock import Lock
from chordtx.blocking.mesh import MeshSocket, Message, Protocol
from chordtx.blocking.sync import SyncSocket
from chordtx.blocking.watch import Watch

__all__ = ["ChordSocket", "Lock", "MeshSocket", "Message", "Protocol", "SyncSocket", "Watch"]
