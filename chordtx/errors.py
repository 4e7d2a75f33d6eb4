"""The one tree of errors that chordtx raises.

A missing key is a plain :class:`KeyError` and a value that msgpack cannot carry a plain
:class:`TypeError`, as with a dict; everything else that can go wrong is a :class:`ChordError`.
"""

from __future__ import annotations

from typing import TypeVar

from chordtx.escaping import escaped
from chordtx.values import ABSENT, Version

#: An error's text may list many peers, each with its reason; more is nothing that anybody reads.
_TEXT_CHARACTERS_MAX = 4000


class ChordError(Exception):
    """Whatever chordtx raises of its own.

    Its text is one line and fit for logs and terminals: a part of it may be what a peer sent.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(escaped(message, _TEXT_CHARACTERS_MAX))


class NoMajority(ChordError):
    """No majority could decide on the call: whether a change was made is not known, and nothing is guessed.

    :ivar needed: how many answers make a majority.
    :ivar got: how many came.
    """

    def __init__(self, message: str, needed: int = 0, got: int = 0) -> None:
        super().__init__(message)
        self.needed = needed
        self.got = got


class NoMajorityTimeout(NoMajority, TimeoutError):
    """A majority may exist, but it did not answer in time."""


class NotJoined(ChordError):
    """The service is not started, or could not start; or the node could not reach a ring, or anybody."""


class WrongSubnet(ChordError):
    """The peer belongs to another network (subnet or encryption).

    :ivar ours: our protocol id. :ivar theirs: the one that the peer sent, escaped.
    """

    def __init__(self, message: str, ours: str = "", theirs: str = "") -> None:
        super().__init__(message)
        self.ours = ours
        self.theirs = escaped(theirs)


class WrongRing(ChordError):
    """The peer is of another ring of the same network: two rings never become one."""


class ValueTooLarge(ChordError):
    """The packed value is past the limit.

    :ivar size_bytes: the packed size. :ivar limit_bytes: the most that is taken.
    """

    def __init__(self, message: str, size_bytes: int = 0, limit_bytes: int = 0) -> None:
        super().__init__(message)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class Conflict(ChordError):
    """The key is not as the caller expected it to be: nothing was done.

    :ivar version: the one that it has; :data:`chordtx.ABSENT` when there is no such key.
    """

    def __init__(self, message: str, version: Version = ABSENT) -> None:
        super().__init__(message)
        self.version = version


class LockLost(ChordError):
    """The lease of a lock ended while it was held: somebody else may have held it since.

    :ivar token: of the lock that was held.
    """

    def __init__(self, message: str, token: int = 0) -> None:
        super().__init__(message)
        self.token = token


class StorageFull(ChordError):
    """A node that keeps the key holds as much as it may: nothing that makes it grow is taken.

    :ivar limit: the setting that says so, and its value.
    """

    def __init__(self, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class ProtocolError(ChordError):
    """A peer sent what the protocol does not allow. Never raised for a bug of our own."""


class Stopped(ChordError):
    """The service is stopped, or was stopped while the call was under way."""


class StorageFailed(ChordError):
    """What has to survive a crash could not be written to the disk, or could not be read from it.

    :ivar path: the folder or file. :ivar reason: what the system, or the file's contents, said.
    """

    def __init__(self, message: str, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


E = TypeVar("E", bound=BaseException)


def without_traceback(error: E) -> E:
    """``error`` as it may be kept for long: a traceback keeps all objects of its frames alive."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
