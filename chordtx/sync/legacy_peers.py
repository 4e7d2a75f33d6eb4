"""What py2p and js2p nodes hear and tell in a synchronized dict: their stores, deltas and whispered copies.

Their rules stand in :meth:`chordtx.sync.entry.Rules.by_legacy_peer`. What they do not do themselves is done
for them, as far as they let us. When a link opens they keep the value that they have, even if they are told
of a newer one: so what is newer here is sent again as the change that it was. A js2p node cannot delete: so
it is told an empty text, which it takes for nothing.
"""

from __future__ import annotations

from typing import Any

from chordtx.mesh import MeshConnection
from chordtx.mesh.handshake import Dialect
from chordtx.sync.entry import Entry
from chordtx.sync.replica import Replica
from chordtx.wire import Message, flags

_TOLD_AT_ONCE = 200
_PAUSE_SECONDS = 0.01
_NOTHING_FOR_JS2P = ""


class LegacyNeighbours:
    """One node's dealings with them.

    :param node: the service: ``routing_table``, ``_unpacked``, ``_wall_ms``, ``sleep``, ``_background``.
    """

    def __init__(self, node: Any, replica: Replica) -> None:
        self._node = node
        self._replica = replica

    def may_hear(self, link: MeshConnection, message: Message) -> bool:
        """Whether a broadcast may go to a legacy peer as it is: js2p throws at a deletion, and hangs up."""
        return link.dialect is not Dialect.STR or not _is_deletion(message.payload)

    def link_opened(self, link: MeshConnection) -> None:
        """Tell a new neighbour all there is."""
        self._node._background(self._tell_all(link))

    async def _tell_all(self, link: MeshConnection) -> None:
        for count, key in enumerate(self._replica.keys(), start=1):
            if count % _TOLD_AT_ONCE == 0:
                await self._node.sleep(_PAUSE_SECONDS)
            if link.closed:
                return
            entry = self._replica.get(key)
            value = self._value(key)
            if entry is not None and value is not None:
                owner = link.encode_ids(entry.meta.owner)
                link.send(flags.STORE, key, value, owner, entry.seconds)

    def tell_again(self, link: MeshConnection, key: bytes, entry: Entry) -> None:
        """Tell one of them of a change that it has missed, as if its own message came late."""
        value = self._value(key)
        if value is None and link.dialect is Dialect.STR:
            value = _NOTHING_FOR_JS2P
        sender = link.dialect.text(entry.meta.owner)
        message = Message.build(flags.WHISPER, sender, entry.seconds, (flags.STORE, key, value))
        link.send_message(message)

    def spread(self, key: bytes, entry: Entry, source: MeshConnection | None) -> None:
        """Tell all that are linked to us of a change that no broadcast brings them."""
        for link in self._links():
            if link is not source:
                self.tell_again(link, key, entry)

    def deleted(self, key: bytes, entry: Entry, source: MeshConnection | None) -> None:
        """Tell those of a deletion that cannot be sent the broadcast."""
        for link in self._links():
            if link is not source and link.dialect is Dialect.STR:
                self.tell_again(link, key, entry)

    def _links(self) -> list[MeshConnection]:
        return [link for link in self._node.routing_table.values() if not link.ours and not link.closed]

    def _value(self, key: bytes) -> Any:
        packed = self._replica.packed_value(key, self._node._wall_ms())
        return None if packed is None else self._node._unpacked(packed)


def _is_deletion(payload: Any) -> bool:
    return len(payload) >= 3 and payload[0] == flags.STORE and payload[2] is None
