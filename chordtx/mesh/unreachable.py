"""What it means that a peer cannot be reached: one error, whatever the transport said.

Transports raise errors of many kinds, with no common base: ``ConnectionRefusedError``, Twisted's own
``TimeoutError``, ``ConnectionLost``, ``ConnectionDone``, ``DNSLookupError``, which is an ``OSError``, and
more. They are made into :class:`Unreachable` where links are opened, so that all other code has to know
:class:`~chordtx.errors.ChordError` only.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError

from chordtx.errors import ChordError, Stopped
from chordtx.mesh.calls import PeerLost


class Unreachable(PeerLost, ConnectError):
    """No link to a peer could be opened: it refused, did not answer, or hung up before it was greeted.

    :ivar reason: what the transport raised.
    """

    def __init__(self, reason: BaseException) -> None:
        text = str(reason).rstrip(".") or type(reason).__name__
        ConnectError.__init__(self, string=text)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


def as_chord_error(error: BaseException) -> ChordError:
    """Why a link could not be opened, as an error of ours."""
    if isinstance(error, ChordError):
        return error
    if isinstance(error, CancelledError):
        return Stopped("the attempt was cancelled")
    return Unreachable(error)
