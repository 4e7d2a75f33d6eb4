"""Which link is the one to a peer, when there are several.

Two nodes that connect to each other at once have two links, and both sides must keep the same one: that
which the greater id opened; of two that one side opened, the newer, for it knows that the older is lost.
Among our own nodes only the side that opened the link that stays closes the other: it is the last to see the
handshake, so by then the peer has filed the same one, and calls that were under way can be made again over
it at once. The other side sets the link aside, and goes on reading it until its end.
"""

from __future__ import annotations

from collections.abc import Iterator

from chordtx.errors import ProtocolError
from chordtx.mesh.connection import MeshConnection


class Filing:
    """The links of one node whose handshake is through.

    :ivar number: our own id, as a number.
    :ivar table: peer id -> the link to it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.table: dict[str, MeshConnection] = {}
        self._aside: dict[str, MeshConnection] = {}

    def links(self) -> Iterator[MeshConnection]:
        """All of them."""
        yield from tuple(self.table.values())
        yield from tuple(self._aside.values())

    def better_than(self, link: MeshConnection) -> MeshConnection | None:
        """The link to the same peer that stays in place of this new one."""
        assert link.id is not None
        other = self.table.get(link.id)
        if other is None or other.closed or other.outgoing == link.outgoing:
            return None
        return other if other.outgoing == (self.number > link.id_10) else None

    def put(self, link: MeshConnection) -> MeshConnection | None:
        """File a link.

        :returns: the one whose place it took, which is to be retired.
        """
        assert link.id is not None
        other = self.table.get(link.id)
        self.table[link.id] = link
        if other is not None and link.ours and other.ours:
            link.leeching, link.arc_start = other.leeching, other.arc_start
        return other

    def retire(self, link: MeshConnection, kept: MeshConnection) -> None:
        """There is a better link to this peer."""
        assert link.id is not None
        if kept.outgoing or not kept.ours:
            link.close(ProtocolError("there is a better link to this peer"))
        elif not link.closed:
            before = self._aside.get(link.id)
            self._aside[link.id] = link
            if before is not None:
                before.close(ProtocolError("there are better links to this peer"))

    def remove(self, link: MeshConnection) -> tuple[bool, MeshConnection | None]:
        """A link is gone.

        :returns: whether it was the filed one, and the one that was aside and takes its place.
        """
        if link.id is None:
            return False, None
        if self._aside.get(link.id) is link:
            del self._aside[link.id]
        if self.table.get(link.id) is not link:
            return False, None
        del self.table[link.id]
        spare = self._aside.pop(link.id, None)
        if spare is None or spare.closed:
            return True, None
        self.table[link.id] = spare
        return True, spare
