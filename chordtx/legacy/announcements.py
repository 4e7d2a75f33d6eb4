"""Telling legacy peers which keys came and went. Nodes of ours need no such word: they watch keys.

A legacy peer is to hear one ``notify`` for each key, and the same one from several nodes. So a leader tells
the nodes that have legacy peers beside them, many keys in one broadcast,
``announce [0x43, [[key, deleted], ...]]``. Each entry stands for the ``notify`` that the leader would have
sent in the same second, and has its message id: so an entry met as both is counted once, and is handed to
legacy peers as exactly that message.

It goes only to those who say that they hear (:class:`~chordtx.chord.ring_identity.Standing`): because of a
legacy peer beside them, or beside others that are linked to them. Without legacy peers in the ring nothing
is announced.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from chordtx.errors import ProtocolError
from chordtx.mesh import MeshConnection
from chordtx.mesh.translation import in_dialect
from chordtx.wire import Message, flags

_KEYS_MAX = 2000
_KEYS_BYTES_MAX = 1 << 20
DELETED = b"del"


class Node(Protocol):
    """What this part needs of a node."""

    def own_name(self) -> str:
        """The id of the node, as its peers write it."""

    def links(self) -> Iterable[MeshConnection]:
        """All links."""

    def is_linked_to_everyone(self) -> bool:
        """Whether it knows all members of the ring, and has links to all."""

    def tell_everyone(self, *payload: object) -> Message:
        """Begin a broadcast."""

    def is_met_before(self, message: Message) -> bool:
        """Whether this broadcast was met before; it counts as met from now on."""

    def sleep(self, seconds: float) -> Deferred[None]:
        """Fires after a while."""

    def background(self, work: Coroutine[object, object, object]) -> Deferred[object]:
        """Run a coroutine until it ends or the node stops."""


class Announcements:
    """One node's announcements, out and in. :param interval_seconds: how long they are collected."""

    def __init__(self, node: Node, interval_seconds: float) -> None:
        self._node = node
        self._interval_seconds = interval_seconds
        self._collected: dict[bytes, bool] = {}
        self._collected_bytes = 0
        self._flushing: Deferred[object] | None = None
        self._is_for_all = False

    def announce(self, key: bytes, deleted: bool) -> None:
        """A write of ours added or deleted a key."""
        if self._collected.get(key, deleted) != deleted:
            self.flush()  # added and deleted at once: both happened, in this order
        self._collected[key] = deleted
        self._collected_bytes += len(key)
        if len(self._collected) >= _KEYS_MAX or self._collected_bytes >= _KEYS_BYTES_MAX:
            self.flush()
        elif self._flushing is None or self._flushing.called:
            self._flushing = self._node.background(self._flush_later())

    async def _flush_later(self) -> None:
        await self._node.sleep(self._interval_seconds)
        self._flushing = None
        self.flush()

    def flush(self) -> None:
        """Send what was collected."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.cancel()
        collected, self._collected, self._collected_bytes = self._collected, {}, 0
        if collected:
            # A node without a link to us has it from others, and nobody knows from which.
            self._is_for_all = not self._node.is_linked_to_everyone()
            entries = [[key, int(deleted)] for key, deleted in collected.items()]
            message = self._node.tell_everyone(flags.ANNOUNCE, entries)
            self._handle(message, entries)

    def is_for(self, link: MeshConnection, message: Message) -> bool:
        """Whether a broadcast goes over a link: anything but what nobody hears there."""
        if message.payload[0] != flags.ANNOUNCE or link.hears:
            return True
        return self._is_for_all and message.sender_text == self._node.own_name()

    def received(self, connection: MeshConnection, message: Message) -> None:
        """An announcement of another node of ours."""
        if len(message.payload) != 2 or not isinstance(message.payload[1], list):
            raise ProtocolError("an announcement has a list of keys")
        self._handle(message, message.payload[1])

    def _handle(self, message: Message, entries: Sequence[object]) -> None:
        old = [link for link in self._node.links() if not link.ours]
        if not old:
            return
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], bytes):
                raise ProtocolError("an announcement has entries [key, deleted]")
            self._handle_entry(message, entry[0], bool(entry[1]), old)

    def _handle_entry(self, message: Message, key: bytes, deleted: bool, old: list[MeshConnection]) -> None:
        payload = (flags.NOTIFY, key, DELETED) if deleted else (flags.NOTIFY, key)
        notify = Message.build(flags.BROADCAST, message.sender, message.time, payload)
        if self._node.is_met_before(notify):
            return
        for link in old:
            link.send_message(in_dialect(notify, link.dialect))


def key_of(notify: Message) -> bytes:
    """Which key a legacy peer's ``notify [6, key]`` or ``[6, key, 'del']`` is about.

    :raises ProtocolError: when it is malformed.
    """
    if len(notify.payload) not in (2, 3):
        raise ProtocolError("a notify has a key, and may have 'del'")
    return _as_key(notify.payload[1])


def _as_key(value: object) -> bytes:
    """A key as peers send it: bytes, or text that stands for its UTF-8.

    :raises ProtocolError: when it is neither.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    raise ProtocolError("a key is bytes")
