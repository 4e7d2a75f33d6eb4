"""What this node set aside when another history than its own went on: an operator may read it.

A group that went on by force has begun another history (``recover``). A member that comes back from the old
one sets aside what it had there, and nothing of that is merged. Here it is told of, page by page.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from twisted.logger import Logger

from chordtx.chord.hosting import Hosting
from chordtx.chord.locking import lock_key
from chordtx.errors import ChordError, ProtocolError
from chordtx.group import operations
from chordtx.group.operations import LIST_ENTRIES_MAX
from chordtx.group.record import Record
from chordtx.mesh import MeshConnection
from chordtx.values import Value

_NOT_SET_ASIDE = "that is nothing that was set aside"


class Kept(NamedTuple):
    """A record that was set aside.

    :ivar key: bytes. :ivar value: what was stored. :ivar expires: in Unix seconds; None for never.
    """

    key: bytes
    value: Value
    expires: float | None


class Node(Protocol):
    """What this part needs of a node."""

    def hosting(self) -> Hosting | None:
        """The groups that it is in."""


class SetAside:
    """See the module. One for each node."""

    _log = Logger()

    def __init__(self, node: Node) -> None:
        self._node = node
        self._count = self._count_said = 0

    def look(self) -> None:
        """Say so in the log when more has been set aside, and for the moment no more is."""
        count = len(self._histories())
        if count == self._count > self._count_said:
            self._count_said = count
            self._log.warn(
                "records of another history are set aside, partitions: {count}; "
                "chordtx recover --export FILE writes what the ring has not of them",
                count=count,
            )
        self._count = count

    def _histories(self) -> list[tuple[int, int, dict[bytes, Record]]]:
        hosting = self._node.hosting()
        if hosting is None:
            return []
        return [
            (partition, mark, aside.state.records)
            for partition, group in hosting.groups.groups.items()
            for mark, aside in group.replica.asides.items()
            if aside is not None and aside.state is not None and aside.state.records
        ]

    def histories(self, caller: MeshConnection | None = None) -> list[object]:
        """``set_aside()``: ``[[[partition, mark, how many records], ...]]``."""
        return [[[partition, mark, len(records)] for partition, mark, records in self._histories()]]

    def page(self, caller: MeshConnection, partition: object, mark: object, after: object) -> list[object]:
        """``read_set_aside(partition, mark, after)``: one page of the records of a history, in the order of
        their keys: ``[[[key, packed value, when it expires in milliseconds, or 0], ...], whether there are
        more]``. The records of locks are left out.

        :raises ChordError: when there is no such history.
        """
        found = [records for *which, records in self._histories() if which == [partition, mark]]
        if not found:
            raise ChordError("nothing is set aside there")
        (records,) = found
        if after is not None and type(after) is not bytes:
            raise ChordError("a page comes after a key")
        keys = sorted(key for key in records if not key.startswith(lock_key(b"")))
        entries, has_more = operations.page(keys, records, (b"", after, LIST_ENTRIES_MAX, True))
        return [[[key, value, expires_ms] for key, value, expires_ms, _ in entries], has_more]


def histories_from_wire(told: list[object]) -> list[tuple[int, int]]:
    """What ``set_aside()`` answers: partition and mark of each. :raises ProtocolError: for anything else."""
    if len(told) != 1 or not isinstance(told[0], list):
        raise ProtocolError(_NOT_SET_ASIDE)
    found = []
    for each in told[0]:
        if not isinstance(each, list) or len(each) != 3 or any(type(number) is not int for number in each):
            raise ProtocolError(_NOT_SET_ASIDE)
        found.append((each[0], each[1]))
    return found


def page_from_wire(told: list[object]) -> tuple[list[tuple[bytes, bytes, float | None]], bool]:
    """What ``read_set_aside()`` answers: key, packed value and expiry in seconds of each record, and whether
    there are more.

    :raises ProtocolError: for anything else.
    """
    if len(told) != 2 or not isinstance(told[0], list) or type(told[1]) is not bool:
        raise ProtocolError(_NOT_SET_ASIDE)
    page = []
    for each in told[0]:
        if not isinstance(each, list) or list(map(type, each)) != [bytes, bytes, int]:
            raise ProtocolError(_NOT_SET_ASIDE)
        key, packed, expires_ms = each
        page.append((key, packed, expires_ms / 1000 if expires_ms else None))
    if told[1] and not page:
        raise ProtocolError("a page of nothing is the last one")
    return page, told[1]
