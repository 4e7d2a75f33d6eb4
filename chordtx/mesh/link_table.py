"""The link table: which link is used for a peer, when there are several.

Two nodes that connect to each other at once have two links, and both sides must keep the same one: that
which the greater id opened. So the side of the greater id decides, and closes the other link; the smaller
waits for that. Anybody can claim any id, though: so a link that lives keeps its place until it is certain
that both are links to one node, and a link that comes second is *waiting* meanwhile: nothing that comes over
it is handled. It takes the place of the first as soon as that is gone. Which of two stays when neither
goes by itself, is decided in :mod:`~chordtx.mesh.rivals`.
"""

from __future__ import annotations

from collections.abc import Iterator

from chordtx.mesh.connection import MeshConnection


class LinkTable:
    """The links of one node whose handshake is through.

    :ivar number: our own id, as a number.
    :ivar table: peer id -> the link to it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.table: dict[str, MeshConnection] = {}
        self._waiting: dict[str, MeshConnection] = {}

    def links(self) -> Iterator[MeshConnection]:
        """All of them."""
        yield from tuple(self.table.values())
        yield from tuple(self._waiting.values())

    def other_than(self, link: MeshConnection) -> MeshConnection | None:
        """The open link to the peer that this new one claims to lead to, too."""
        assert link.id is not None
        other = self.table.get(link.id)
        return None if other is None or other.closed else other

    def decides(self, link: MeshConnection) -> bool:
        """Whether we decide which of two links stays, if both lead to this one's peer."""
        return self.number > link.id_10

    def wait(self, link: MeshConnection) -> bool:
        """A link comes second. :returns: whether it may wait; one at a time may."""
        assert link.id is not None
        before = self._waiting.get(link.id)
        if before is not None and not before.closed:
            return False
        self._waiting[link.id] = link
        return True

    def put(self, link: MeshConnection) -> MeshConnection | None:
        """File a link.

        :returns: the one whose place it took, which is to be closed.
        """
        assert link.id is not None
        if self._waiting.get(link.id) is link:
            del self._waiting[link.id]
        other = self.table.get(link.id)
        self.table[link.id] = link
        if other is not None and link.ours and other.ours:
            link.leeching, link.arc_start = other.leeching, other.arc_start
        return other

    def remove(self, link: MeshConnection) -> tuple[bool, MeshConnection | None]:
        """A link is gone.

        :returns: whether it was the filed one, and the one that waited for its place.
        """
        if link.id is None:
            return False, None
        if self._waiting.get(link.id) is link:
            del self._waiting[link.id]
        if self.table.get(link.id) is not link:
            return False, None
        spare = self._waiting.get(link.id)
        if spare is not None and not spare.closed:
            return True, spare
        del self.table[link.id]
        return True, None
