"""Links to peers, and messages between them."""

from chordtx.mesh.address import Address
from chordtx.mesh.calls import CallTimeout, PeerLost
from chordtx.mesh.connection import MeshConnection
from chordtx.mesh.handshake import Dialect
from chordtx.mesh.message import ReceivedMessage
from chordtx.mesh.service import MeshService

__all__ = [
    "Address",
    "CallTimeout",
    "Dialect",
    "MeshConnection",
    "MeshService",
    "PeerLost",
    "ReceivedMessage",
]
